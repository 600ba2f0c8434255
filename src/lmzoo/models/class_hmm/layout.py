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
        """The hidden state to which each of the N stored emission probabilities belongs, as an array (N,).

        The emission probabilities of a state are stored only for the tokens of its class.
        """
        n_tokens = np.diff(self.first_token)
        return np.concatenate([np.tile(np.arange(*self.block(c)), n_tokens[c]) for c in range(self.n_classes)])

    @cached_property
    def token_of_emission(self) -> NDArray[np.int32]:
        """The token id to which each of the N stored emission probabilities belongs, as an array (N,).

        The emission probabilities of a hidden state are stored only for the tokens of its class.
        """
        return np.repeat(self.tokens, self.n_states_of[self.classes[self.tokens]])

    def block(self, token_class: int) -> tuple[int, int]:
        """Returns the range of hidden states of a token class: the first state, and the last state plus 1."""
        return int(self.first_state[token_class]), int(self.first_state[token_class + 1])

    def emissions_of(self, token_class: int, emissions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the emission probabilities of a token class, as a matrix with a row per token and a column per state.

        `emissions` (N,) is the flat array of the emission probabilities of all classes. The rows are sorted by token
        id.
        """
        first, end = self.first_token[token_class], self.first_token[token_class + 1]
        n_states = int(self.n_states_of[token_class])
        start = int(self.first_emission[self.tokens[first]])
        return emissions[start : start + (end - first) * n_states].reshape(-1, n_states)

    def split(self, n_parts: NDArray[np.int64]) -> tuple[Self, NDArray[np.int64], NDArray[np.int64]]:
        """Returns the assignment of states to token classes after each state k is split into n_parts[k] states.

        Also returns two arrays: the old state (K',) of which each of the K' new states is a part; and, for each of the
        N' emission probabilities of the new states, the index (N',) of the corresponding emission probability of the
        old state.
        """
        old_state = np.repeat(np.arange(self.n_states), n_parts)
        new = type(self)(self.classes, np.add.reduceat(n_parts, self.first_state[:-1]))
        of = new.token_of_emission
        within_block = old_state[new.state_of_emission] - self.first_state[self.classes[of]]
        return new, old_state, self.first_emission[of] + within_block


class Parameters(NamedTuple):
    """The transition and emission probabilities of a hidden Markov model with K states.

    Each state emits only the tokens of its class, so only N emission probabilities are stored, in a flat array. State 0
    emits the end-of-text token, so row 0 of the transition matrix holds the probabilities of the first state of a
    document.
    """

    transmat: NDArray[np.float32]  # (K, K)
    emissions: NDArray[np.float32]  # (N,)


class Counts(NamedTuple):
    """Expected numbers of transitions and emissions of the K states of a hidden Markov model, given a text.

    Each state emits only the tokens of its class, so only N pairs of a state and a token have an emission count. These
    counts are stored in a flat array.
    """

    transitions: NDArray[np.float32]  # (K, K)
    emissions: NDArray[np.float64]  # (N,)


class StateDistribution(NamedTuple):
    """A probability distribution over the hidden states of one token class.

    After a token of this class, all other hidden states have the probability 0.
    """

    token_class: int
    probs: NDArray[np.float32]
    """Probability (m,) of each of the m states of the class."""


START: Final = StateDistribution(EOT_CLASS, np.ones(1, np.float32))
"""The state distribution before a document: the state of the end-of-text token has probability 1."""


def _sums(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the N + 1 cumulative sums of N sizes, starting with 0."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
