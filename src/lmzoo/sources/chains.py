"""Markov chains of order 1 to 3, and a hidden Markov model."""

from __future__ import annotations

import itertools

import numpy as np

from lmzoo.sources.finite_state import FiniteState
from lmzoo.sources.source import FIRST_WORD
from lmzoo.stream import EOT

_NOTES = ("do", "re", "mi", "fa", "sol", "la", "ti")
_MEAN_LENGTH = 30
_SHARPNESS = 2
"""Exponent that sharpens the random probabilities; with 1 they would be uniformly distributed."""


def markov(order: int) -> FiniteState:
    """Creates a random generator of melodies: a Markov chain of the given order over notes.

    Its probabilities are random but fixed. The chain of order 3 has fewer notes, so that all its probabilities can be
    estimated from some thousand melodies.
    """
    notes = _NOTES[: {1: 7, 2: 7, 3: 5}[order]]
    contexts = [context for n in range(order + 1) for context in itertools.product(range(len(notes)), repeat=n)]
    index = {context: number for number, context in enumerate(contexts)}
    weights = -np.log(1 - np.random.default_rng(order).random((len(contexts), len(notes))))
    table = weights**_SHARPNESS / (weights**_SHARPNESS).sum(axis=1, keepdims=True)  # (K, N)
    transitions = np.zeros((FIRST_WORD + len(notes), len(contexts), len(contexts)))
    for state, context in enumerate(contexts):
        ends = 1 / _MEAN_LENGTH if context else 0.0  # melodies are not empty
        transitions[EOT, state, 0] = ends
        for note in range(len(notes)):
            after = index[(*context, note)[-order:]]
            transitions[FIRST_WORD + note, state, after] = (1 - ends) * table[state, note]
    return FiniteState(notes, transitions, np.eye(len(contexts))[0])


_ACTIVITIES = ("swim", "walk", "garden", "read", "cook", "write", "shovel", "ski")
_WEATHERS = {
    "sun": (0.40, 0.30, 0.25, 0.05, 0.00, 0.00, 0.00, 0.00),
    "wind": (0.05, 0.35, 0.15, 0.25, 0.10, 0.10, 0.00, 0.00),
    "rain": (0.00, 0.05, 0.00, 0.35, 0.30, 0.30, 0.00, 0.00),
    "snow": (0.00, 0.10, 0.00, 0.15, 0.15, 0.05, 0.30, 0.25),
}
_SELF_TRANSITION = 0.85


def weather() -> FiniteState:
    """Creates a random generator of sequences of activities that depend on a hidden weather: a hidden Markov model.

    Each of four kinds of weather has its own probabilities of activities. Every hour, the weather stays the same with
    probability 0.85, and otherwise changes to one of the other three. A fifth state, the night, ends the document.
    """
    n = len(_WEATHERS)
    chain = np.full((n, n), (1 - _SELF_TRANSITION) / (n - 1))
    np.fill_diagonal(chain, _SELF_TRANSITION)
    night = 1 / _MEAN_LENGTH
    transitions = np.zeros((FIRST_WORD + len(_ACTIVITIES), n + 1, n + 1))
    for state, probs in enumerate(_WEATHERS.values()):
        transitions[FIRST_WORD:, state, :n] = np.outer(probs, (1 - night) * chain[state])
        transitions[FIRST_WORD:, state, n] = np.multiply(probs, night)
    transitions[EOT, n, n] = 1
    return FiniteState(_ACTIVITIES, transitions, np.array([1 / n] * n + [0.0]))
