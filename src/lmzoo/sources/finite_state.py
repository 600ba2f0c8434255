"""Finite-state sources: Markov chains, hidden Markov models, and grammars with finitely many stacks.

In each of K states, the source emits a token and moves to another state, with known joint probabilities. A reader
computes the distribution over the states by Bayes' rule. If the state and the token determine the next state (a
"unifilar" source), the state is always known, and the entropy of the source is the mean entropy of its states (Shannon
1948, theorem 5). Otherwise, as in hidden Markov models, there is no closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.sources.rules import START, Rules, Stack
from lmzoo.sources.source import FIRST_WORD, Source
from lmzoo.stream import EOT, TokenStream


@final
class FiniteState(Source[NDArray[np.float64]]):
    """A random generator of text with K hidden states, each of which emits a token and moves to the next state.

    As a language model, its prediction state is an array (K,): the probability of each hidden state, given the tokens
    so far.
    """

    def __init__(
        self,
        words: Sequence[str],
        transitions: NDArray[np.float64],
        startprob: NDArray[np.float64],
        *,
        targets: str = "",
        baseline_nats: float | None = None,
    ) -> None:
        """Creates a text source, a rule that generates random text, with K hidden states and V tokens.

        - `words` (V - 2 of them): the tokens without the two special tokens.
        - `transitions` (V, K, K): element (v, i, j) is the probability that state i emits token v and moves to state j.
          For the end-of-text token, the next state has no effect.
        - `startprob` (K,): distribution over the states at the start of a document.
        - `targets` (keyword): the words on which models are judged, separated by spaces.
        - `baseline_nats` (keyword): the loss on these words, in nats per word above the lowest possible loss, of a
          model that knows all of the rule except the fact that determines them.
        """
        super().__init__(words, baseline_nats=baseline_nats)
        self._transitions, self._startprob = transitions, startprob
        self._emissions = transitions.sum(axis=2).T  # (K, V)
        self._target_ids = self.ids(targets)

    @classmethod
    def of_rules(cls, rules: Rules, *, targets: str, baseline_nats: float) -> Self:
        """Creates a finite-state generator of the texts of a grammar, given by its rules.

        A derivation of the grammar is described by its stack: the symbols and words that are still to be written. Each
        stack that can occur becomes a hidden state, so the number of different stacks must be finite. `targets` are the
        words on which models are judged, separated by spaces. `baseline_nats` is the loss on these words, in nats per
        word above the lowest possible loss, of a model that lacks only the fact that determines them.
        """
        words, states = rules.words, [START]
        edges: list[tuple[int, int, int, float]] = []
        for state, stack in enumerate(states):  # the list grows in the loop
            for expansion, prob in rules.expansions(stack).items():
                rest: Stack = expansion[1:] if expansion else START
                if rest not in states:
                    states.append(rest)
                token_id = FIRST_WORD + words.index(expansion[0]) if expansion else EOT
                edges.append((token_id, state, states.index(rest), prob))
        transitions = np.zeros((FIRST_WORD + len(words), len(states), len(states)))
        token_ids, origins, ends, probs = zip(*edges, strict=True)
        np.add.at(transitions, (token_ids, origins, ends), probs)
        return cls(words, transitions, np.eye(len(states))[0], targets=targets, baseline_nats=baseline_nats)

    @cached_property
    def visits(self) -> NDArray[np.float64]:
        """Expected number of visits (K,) of a document to each of the K states.

        The sum is the mean length of a document in tokens, including its end-of-text token.
        """
        transmat = self._transitions[EOT + 1 :].sum(axis=0)  # (K, K), without ends
        return np.linalg.solve(np.eye(len(transmat)) - transmat.T, self._startprob)

    @property
    def entropy(self) -> float | None:
        is_unifilar = (
            np.count_nonzero(self._startprob) == 1 and (np.count_nonzero(self._transitions, axis=2) <= 1).all()
        )
        return _nats(self.visits[:, None] * self._emissions) / self.visits.sum() if is_unifilar else None

    def limit(self, n_tokens: int) -> float:
        """Returns the smallest cross-entropy, in nats per token, of a model that sees only the last `n_tokens` tokens.

        If fewer tokens precede, the model also sees the start of the document, as Markov chains and n-gram models do.
        """
        at_start, anywhere = self._startprob[None], self.visits[None]  # (C, K) masses of states after each context
        nats = 0.0
        for _ in range(n_tokens):
            nats += _nats(at_start @ self._emissions)
            at_start, anywhere = self._extend(at_start), self._extend(anywhere)
        return (nats + _nats(anywhere @ self._emissions)) / self.visits.sum()

    def _extend(self, masses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Appends every word to each of C contexts, and returns the expected state visits after the longer contexts.

        `masses` (C, K): for each context and each of K hidden states, the expected number of times that a document is
        in the state after the context. The result has the same form; contexts that never occur are left out.
        """
        after = np.concatenate([masses @ of_token for of_token in self._transitions[EOT + 1 :]])
        return after[after.any(axis=1)]

    def target_mask(self, stream: TokenStream) -> NDArray[np.bool_]:
        return np.isin(stream.ids, self._target_ids)

    def initial_state(self) -> NDArray[np.float64]:
        return self._startprob

    def advance(self, state: NDArray[np.float64], token_id: int) -> NDArray[np.float64]:
        return self.advance_batch([state], [token_id])[0]

    def advance_batch(
        self, states: Sequence[NDArray[np.float64]], token_ids: Sequence[int]
    ) -> Sequence[NDArray[np.float64]]:
        before, tokens = self._distributions(states), np.asarray(token_ids)  # (B, K), (B,)
        after = np.empty_like(before)
        for token_id in np.unique(tokens):
            rows = tokens == token_id
            joint = before[rows] @ self._transitions[token_id]
            likelihood = joint.sum(axis=1, keepdims=True)
            after[rows] = np.where(likelihood > 0, joint / np.where(likelihood > 0, likelihood, 1), before[rows])
        after[tokens == EOT] = self._startprob
        return list(after)

    def next_log_probs(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.next_log_probs_batch([state])[0]

    def next_log_probs_batch(self, states: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore"):  # -inf for impossible tokens
            return np.log(self._distributions(states) @ self._emissions)

    def _distributions(self, states: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.asarray(states, np.float64).reshape(len(states), len(self._startprob))


def _nats(masses: NDArray[np.float64]) -> float:
    """Returns the sum of the surprisals, in nats, of tokens that are predicted by their relative frequencies.

    Each row of `masses` (C, V) holds the expected counts of V tokens in one of C contexts.
    """
    totals = masses.sum(axis=1, keepdims=True)
    possible = masses > 0
    return float(-(masses[possible] * np.log((masses / totals)[possible])).sum())
