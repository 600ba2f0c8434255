"""Which states can emit which tokens, and where the numbers for them stand."""

from __future__ import annotations

from functools import cached_property
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

EOT_CLASS: Final = 0
EOT_STATE: Final = 0
"""End-of-text is alone in its class, which has one state: what follows that state is how documents start."""


class Layout:
    """V tokens in C classes, whose blocks of states stand one after the other.

    Only the emissions of a block's own tokens are kept: a row of as many numbers as it has states for each token, the
    tokens in order of class.
    """

    def __init__(self, classes: NDArray[np.int32], n_states_of: NDArray[np.integer]) -> None:
        """`classes` (V,) of the tokens, all of 0 .. C - 1 in use; `n_states_of` (C,) the sizes of the blocks."""
        self.classes = classes
        self.first_state = _sums(n_states_of)  # (C + 1,)
        self.tokens = np.argsort(classes, kind="stable").astype(np.int32)  # (V,) by class
        self.first_token = np.searchsorted(classes[self.tokens], np.arange(len(n_states_of) + 1))  # (C + 1,) in it
        in_order = _sums(n_states_of[classes[self.tokens]])  # (V + 1,)
        self.first_emission = np.empty(len(classes), np.int64)
        """(V,) where the row of each token starts."""
        self.first_emission[self.tokens] = in_order[:-1]
        self.n_emissions = int(in_order[-1])

    @property
    def n_classes(self) -> int:
        return len(self.first_state) - 1

    @property
    def n_states(self) -> int:
        return int(self.first_state[-1])

    @property
    def n_states_of(self) -> NDArray[np.int64]:
        """(C,) how many states each class has."""
        return np.diff(self.first_state)

    @cached_property
    def class_of_state(self) -> NDArray[np.int64]:
        """(K,)"""
        return np.repeat(np.arange(self.n_classes), self.n_states_of)

    @cached_property
    def state_of_emission(self) -> NDArray[np.int64]:
        """(N,)"""
        n_tokens = np.diff(self.first_token)
        return np.concatenate([np.tile(np.arange(*self.block(c)), n_tokens[c]) for c in range(self.n_classes)])

    @cached_property
    def token_of_emission(self) -> NDArray[np.int32]:
        """(N,)"""
        return np.repeat(self.tokens, self.n_states_of[self.classes[self.tokens]])

    def block(self, token_class: int) -> tuple[int, int]:
        """First and last + 1 of the states of a class."""
        return int(self.first_state[token_class]), int(self.first_state[token_class + 1])

    def emissions_of(self, token_class: int, emissions: NDArray[np.float32]) -> NDArray[np.float32]:
        """(tokens of the class, its states), in the order of `tokens`."""
        first, end = self.first_token[token_class], self.first_token[token_class + 1]
        n_states = int(self.n_states_of[token_class])
        start = int(self.first_emission[self.tokens[first]])
        return emissions[start : start + (end - first) * n_states].reshape(-1, n_states)

    def split(self, n_parts: NDArray[np.int64]) -> tuple[Self, NDArray[np.int64], NDArray[np.int64]]:
        """The layout in which each state is replaced by `n_parts` (K,) states.

        With it come (K',) the old state of each new one and (N',) the old emission of each new one.
        """
        old_state = np.repeat(np.arange(self.n_states), n_parts)
        new = type(self)(self.classes, np.add.reduceat(n_parts, self.first_state[:-1]))
        of = new.token_of_emission
        within_block = old_state[new.state_of_emission] - self.first_state[self.classes[of]]
        return new, old_state, self.first_emission[of] + within_block


class Parameters(NamedTuple):
    """The probabilities of a model. Row 0 of the transitions is how documents start."""

    transmat: NDArray[np.float32]  # (K, K)
    emissions: NDArray[np.float32]  # (N,)


class Counts(NamedTuple):
    """How often the hidden states are expected to have done what, given the tokens."""

    transitions: NDArray[np.float32]  # (K, K)
    emissions: NDArray[np.float64]  # (N,)


class Belief(NamedTuple):
    """What is known of the hidden state after a token: it is one of the token's class."""

    token_class: int
    probs: NDArray[np.float32]
    """(m,) over the states of the class."""


START: Final = Belief(EOT_CLASS, np.ones(1, np.float32))
"""Before a document: a text has ended."""


def _sums(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
