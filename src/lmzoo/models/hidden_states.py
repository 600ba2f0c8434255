"""What can be asked of a model with hidden states, whichever species it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.stream import TokenStream


class StateSummary(NamedTuple):
    """A hidden state, for people to read."""

    state: int
    mass: float
    """The part of all tokens that it emits."""
    self_transition: float
    """The probability that it follows itself."""
    next: list[tuple[int, float]]
    """The states that most likely follow it, itself among them: (state, probability)."""
    top: list[tuple[int, float]]
    """Its most likely (token id, probability)."""


@runtime_checkable
class HasHiddenStates(Protocol):
    """A hidden Markov model, exact or large."""

    def state_table(self, k: int = 10) -> list[StateSummary]:
        """Every hidden state with its `k` most likely tokens and next states, in the order of their numbers."""
        ...

    def viterbi(self, ids: ArrayLike | TokenStream) -> NDArray[np.intp]:
        """(T,) the most likely path of hidden states through each document of a stream."""
        ...

    def posteriors(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        """(T, K) the probability of each hidden state at each position, given all of its document."""
        ...

    def sample_document(
        self, rng: np.random.Generator, max_tokens: int = 1000
    ) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """A document, ended by EOT unless it reaches `max_tokens`, and the hidden states that emitted it."""
        ...


def summaries(
    masses: NDArray[np.floating],
    transmat: NDArray[np.floating],
    top_tokens: Callable[[int], list[tuple[int, float]]],
    n_next: int,
) -> list[StateSummary]:
    """A table of K states from their masses (K,), transitions (K, K) and tokens."""
    return [
        StateSummary(state, float(masses[state]), float(transmat[state, state]), top(transmat[state], n_next), tokens)
        for state, tokens in enumerate(map(top_tokens, range(len(masses))))
    ]


def top(probs: NDArray[Any], k: int) -> list[tuple[int, float]]:
    """The `k` most likely, with their probabilities; among equals the lower number comes first."""
    best = np.argsort(-probs, kind="stable")[:k]
    return [(int(number), float(probs[number])) for number in best]
