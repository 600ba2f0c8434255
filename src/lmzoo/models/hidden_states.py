"""The interface of models with hidden states, and the summaries of such states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.checks import check_count
from lmzoo.stream import TokenStream


class StateSummary(NamedTuple):
    """The frequency of one hidden state of a model, with its most likely tokens and next states."""

    state: int
    mass: float
    """Fraction of all tokens that the state emits."""
    self_transition: float
    """Probability that the state follows itself."""
    next: list[tuple[int, float]]
    """The most likely next states, as pairs (state, probability); the state itself can be among them."""
    top: list[tuple[int, float]]
    """The tokens that the state emits most often, as pairs (token id, probability)."""


@runtime_checkable
class HasHiddenStates(Protocol):
    """The interface of a model with discrete hidden states, which can be listed, inferred from a text, and sampled."""

    def state_table(self, k: int = 10) -> list[StateSummary]:
        """Returns a summary of every hidden state, with its `k` most likely tokens and next states."""
        ...

    def typical_tokens(self, hidden_state: int, k: int = 10) -> list[tuple[int, float]]:
        """Returns the `k` tokens that a hidden state emits most often, as pairs (token id, probability)."""
        ...

    def next_states(self, state: Any) -> NDArray[np.floating]:
        """Returns the probability (K,) that each of K hidden states emits the next token.

        `state` is the state of the model after a context, as `LanguageModel.state_after` returns it.
        """
        ...

    def viterbi(self, ids: ArrayLike | TokenStream) -> NDArray[np.intp]:
        """Returns the hidden state (T,) at each of T tokens on the most likely path through each document."""
        ...

    def posteriors(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        """Returns the probability (T, K) of each of K hidden states at each of T tokens, given the whole document."""
        ...

    def sample_document(
        self, rng: np.random.Generator, max_tokens: int = 1000
    ) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """Samples a document, and returns its T token ids (T,) and the hidden states (T,) that emitted them.

        The document ends with EOT (the end-of-text token), or after `max_tokens` tokens.
        """
        ...


def summaries(
    masses: NDArray[np.floating],
    transmat: NDArray[np.floating],
    typical_tokens: Callable[[int, int], list[tuple[int, float]]],
    k: int,
) -> list[StateSummary]:
    """Returns the frequency, the most likely tokens and the most likely next states of each of K hidden states.

    - `masses` (K,): fraction of all tokens that each state emits.
    - `transmat` (K, K): transition probabilities.
    - `typical_tokens`: function that returns the most likely tokens of a hidden state, as in `HasHiddenStates`.
    - `k`: number of most likely tokens and next states to include for each state.
    """
    check_count(0, k=k)
    return [
        StateSummary(
            state, float(mass), float(transmat[state, state]), top(transmat[state], k), typical_tokens(state, k)
        )
        for state, mass in enumerate(masses)
    ]


def top(probs: NDArray[Any], k: int) -> list[tuple[int, float]]:
    """Returns the `k` largest of the given probabilities as pairs (index, probability), the largest first.

    Equal probabilities are sorted by index.
    """
    best = np.argsort(-probs, kind="stable")[:k]
    return [(int(number), float(probs[number])) for number in best]
