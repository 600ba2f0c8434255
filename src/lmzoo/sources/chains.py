"""Chains: Markov's, whose next token depends on the last few, and one whose states are hidden."""

from __future__ import annotations

import itertools

import numpy as np

from lmzoo.sources.finite_state import FiniteState
from lmzoo.sources.source import FIRST_WORD
from lmzoo.stream import EOT

_NOTES = ("do", "re", "mi", "fa", "sol", "la", "ti")
_MEAN_LENGTH = 30
_SHARPNESS = 2
"""The power of exponential numbers whose shares are the probabilities: with 1 all tables would be equally likely."""


def markov(order: int) -> FiniteState:
    """A melody of a Markov chain of this order, with random probabilities that are fixed once and for all.

    There are fewer notes at high orders, so that a corpus of some thousand documents can tell all there is to know.
    """
    notes = _NOTES[: {1: 7, 2: 7, 3: 5}[order]]
    contexts = [context for n in range(order + 1) for context in itertools.product(range(len(notes)), repeat=n)]
    place = {context: number for number, context in enumerate(contexts)}
    weights = -np.log(1 - np.random.default_rng(order).random((len(contexts), len(notes))))
    table = weights**_SHARPNESS / (weights**_SHARPNESS).sum(axis=1, keepdims=True)  # (K, N)
    transitions = np.zeros((FIRST_WORD + len(notes), len(contexts), len(contexts)))
    for state, context in enumerate(contexts):
        ends = 1 / _MEAN_LENGTH if context else 0.0  # no melody is empty
        transitions[EOT, state, 0] = ends
        for note in range(len(notes)):
            after = place[(*context, note)[-order:]]
            transitions[FIRST_WORD + note, state, after] = (1 - ends) * table[state, note]
    return FiniteState(notes, transitions, np.eye(len(contexts))[0])


_DOES = ("swim", "walk", "garden", "read", "cook", "write", "shovel", "ski")
_WEATHERS = {
    "sun": (0.40, 0.30, 0.25, 0.05, 0.00, 0.00, 0.00, 0.00),
    "wind": (0.05, 0.35, 0.15, 0.25, 0.10, 0.10, 0.00, 0.00),
    "rain": (0.00, 0.05, 0.00, 0.35, 0.30, 0.30, 0.00, 0.00),
    "snow": (0.00, 0.10, 0.00, 0.15, 0.15, 0.05, 0.30, 0.25),
}
_STAYS = 0.85


def weather() -> FiniteState:
    """A hidden Markov model: four weathers, each with things that people like to do in it, and the night, which ends.

    The weather of an hour says what is done in it; it stays with probability 0.85, and changes to any other.
    """
    n = len(_WEATHERS)
    chain = np.full((n, n), (1 - _STAYS) / (n - 1))
    np.fill_diagonal(chain, _STAYS)
    night = 1 / _MEAN_LENGTH
    transitions = np.zeros((FIRST_WORD + len(_DOES), n + 1, n + 1))
    for state, probs in enumerate(_WEATHERS.values()):
        transitions[FIRST_WORD:, state, :n] = np.outer(probs, (1 - night) * chain[state])
        transitions[FIRST_WORD:, state, n] = np.multiply(probs, night)
    transitions[EOT, n, n] = 1
    return FiniteState(_DOES, transitions, np.array([1 / n] * n + [0.0]))
