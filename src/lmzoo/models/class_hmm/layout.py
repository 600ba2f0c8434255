"""The states of each token class, and the layout of the emission probabilities in memory."""

from __future__ import annotations

from functools import cached_property
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

EOT_CLASS: Final = 0
EOT_STATE: Final = 0
"""The end-of-text token forms a class alone, with one state, whose transitions are those at the start of documents."""


class Layout:
    """The assignment of V tokens to C classes, and of K states to contiguous blocks, one for each class.

    A state emits only the tokens of its class, so only those N emission probabilities are stored, in a flat array: one
    row for each token, ordered by class, with one number for each state of the token's class.
    """

    def __init__(self, classes: NDArray[np.int32], n_states_of: NDArray[np.integer]) -> None:
        """Creates the layout of C token classes.

        `classes` (V,) is the class of each of the V tokens; each class from 0 to C - 1 must have a token. `n_states_of`
        (C,) is the number of states of each class.
        """
        self.classes = classes
        self.first_state = _sums(n_states_of)  # (C + 1,)
        self.tokens = np.argsort(classes, kind="stable").astype(np.int32)  # (V,) token ids, sorted by class
        self.first_token = np.searchsorted(
            classes[self.tokens], np.arange(len(n_states_of) + 1)
        )  # (C + 1,) positions in `tokens`
        in_order = _sums(n_states_of[classes[self.tokens]])  # (V + 1,)
        self.first_emission = np.empty(len(classes), np.int64)
        """Index (V,) in the flat array at which the row of each token starts."""
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
        """Number of states (C,) of each of the C token classes."""
        return np.diff(self.first_state)

    @cached_property
    def class_of_state(self) -> NDArray[np.int64]:
        """Token class (K,) of each of the K states."""
        return np.repeat(np.arange(self.n_classes), self.n_states_of)

    @cached_property
    def state_of_emission(self) -> NDArray[np.int64]:
        """The state to which each of the N stored emission probabilities belongs, as an array (N,)."""
        n_tokens = np.diff(self.first_token)
        return np.concatenate([np.tile(np.arange(*self.block(c)), n_tokens[c]) for c in range(self.n_classes)])

    @cached_property
    def token_of_emission(self) -> NDArray[np.int32]:
        """The token id to which each of the N stored emission probabilities belongs, as an array (N,)."""
        return np.repeat(self.tokens, self.n_states_of[self.classes[self.tokens]])

    def block(self, token_class: int) -> tuple[int, int]:
        """Returns the first state of a token class, and the last state plus 1."""
        return int(self.first_state[token_class]), int(self.first_state[token_class + 1])

    def emissions_of(self, token_class: int, emissions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the emission probabilities of a token class, as a matrix with a row per token and a column per state.

        The rows are in the order of `tokens`; `emissions` (N,) is the flat array of all stored probabilities.
        """
        first, end = self.first_token[token_class], self.first_token[token_class + 1]
        n_states = int(self.n_states_of[token_class])
        start = int(self.first_emission[self.tokens[first]])
        return emissions[start : start + (end - first) * n_states].reshape(-1, n_states)

    def split(self, n_parts: NDArray[np.int64]) -> tuple[Self, NDArray[np.int64], NDArray[np.int64]]:
        """Returns the layout in which each of the K states is split into `n_parts` (K,) states.

        Also returns the old state (K',) of each of the K' new states, and the index (N',) of the old emission
        probability of each of the N' new ones.
        """
        old_state = np.repeat(np.arange(self.n_states), n_parts)
        new = type(self)(self.classes, np.add.reduceat(n_parts, self.first_state[:-1]))
        of = new.token_of_emission
        within_block = old_state[new.state_of_emission] - self.first_state[self.classes[of]]
        return new, old_state, self.first_emission[of] + within_block


class Parameters(NamedTuple):
    """The probabilities of a hidden Markov model with K states and N stored emission probabilities.

    Row 0 of the transition matrix holds the probabilities of the first state of a document.
    """

    transmat: NDArray[np.float32]  # (K, K)
    emissions: NDArray[np.float32]  # (N,)


class Counts(NamedTuple):
    """Expected counts of the transitions and emissions of K hidden states, given the tokens of a text.

    There is a count for each of the N stored emission probabilities of a `Layout`.
    """

    transitions: NDArray[np.float32]  # (K, K)
    emissions: NDArray[np.float64]  # (N,)


class StateDistribution(NamedTuple):
    """A distribution over the hidden states of one token class, which are the only states possible after its tokens."""

    token_class: int
    probs: NDArray[np.float32]
    """Probability (m,) of each of the m states of the class."""


START: Final = StateDistribution(EOT_CLASS, np.ones(1, np.float32))
"""The state distribution before a document: the state of the end-of-text token has probability 1."""


def _sums(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the N + 1 cumulative sums of N sizes, starting with 0."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
