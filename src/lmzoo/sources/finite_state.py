"""Finite-state sources: Markov chains, hidden Markov models, and grammars whose stacks are few.

In each of K states a word is said and another state entered, both at once, with known probabilities. Who reads along
keeps a belief over the states by Bayes' rule. Where a state and a word leave one next state only, the state is always
known (a "unifilar" source), and its entropy is the mean of what each state does (Shannon 1948, theorem 5); where they
do not, as in hidden Markov models, there is no closed form.
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
    """Its state is the (K,) belief over the states of the source."""

    def __init__(
        self,
        words: Sequence[str],
        transitions: NDArray[np.float64],
        startprob: NDArray[np.float64],
        *,
        decisive: str = "",
        ignorance: float | None = None,
    ) -> None:
        """`transitions` (V, K, K): the probability that state i says token v and goes to j, at v, i, j.

        Where end-of-text leads does not matter: `startprob` (K,) says where documents start.
        """
        super().__init__(words, ignorance=ignorance)
        self._transitions, self._startprob = transitions, startprob
        self._emissions = transitions.sum(axis=2).T  # (K, V)
        self._decisive_ids = self.ids(decisive)

    @classmethod
    def of_rules(cls, rules: Rules, *, decisive: str, ignorance: float) -> Self:
        """A grammar with finitely many stacks, each of which is a state."""
        words, states = rules.words, [START]
        edges: list[tuple[int, int, int, float]] = []
        for state, stack in enumerate(states):  # which grows
            for way, prob in rules.ways(stack).items():
                rest: Stack = way[1:] if way else START
                if rest not in states:
                    states.append(rest)
                token_id = FIRST_WORD + words.index(way[0]) if way else EOT
                edges.append((token_id, state, states.index(rest), prob))
        transitions = np.zeros((FIRST_WORD + len(words), len(states), len(states)))
        token_ids, origins, ends, probs = zip(*edges, strict=True)
        np.add.at(transitions, (token_ids, origins, ends), probs)
        return cls(words, transitions, np.eye(len(states))[0], decisive=decisive, ignorance=ignorance)

    @cached_property
    def visits(self) -> NDArray[np.float64]:
        """(K,) how often a document is expected to be in each state; their sum is its mean length, its end included."""
        onward = self._transitions[EOT + 1 :].sum(axis=0)  # (K, K)
        return np.linalg.solve(np.eye(len(onward)) - onward.T, self._startprob)

    @property
    def entropy(self) -> float | None:
        known = np.count_nonzero(self._startprob) == 1 and (np.count_nonzero(self._transitions, axis=2) <= 1).all()
        return _nats(self.visits[:, None] * self._emissions) / self.visits.sum() if known else None

    def limit(self, n_tokens: int) -> float:
        """Nats per token that the best of all predictors needs which see the last `n_tokens` of a document only.

        That it is their first if there are fewer, they see as well: so do Markov chains and n-grams here.
        """
        at_start, anywhere = self._startprob[None], self.visits[None]  # (C, K) masses of states after each context
        nats = 0.0
        for _ in range(n_tokens):
            nats += _nats(at_start @ self._emissions)
            at_start, anywhere = self._onward(at_start), self._onward(anywhere)
        return (nats + _nats(anywhere @ self._emissions)) / self.visits.sum()

    def _onward(self, masses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Every context with every word behind it: masses (C, K) of states before -> after, where there are any."""
        after = np.concatenate([masses @ of_token for of_token in self._transitions[EOT + 1 :]])
        return after[after.any(axis=1)]

    def decisive(self, stream: TokenStream) -> NDArray[np.bool_]:
        return np.isin(stream.ids, self._decisive_ids)

    def initial_state(self) -> NDArray[np.float64]:
        return self._startprob

    def advance(self, state: NDArray[np.float64], token_id: int) -> NDArray[np.float64]:
        return self.advance_batch([state], [token_id])[0]

    def advance_batch(
        self, states: Sequence[NDArray[np.float64]], token_ids: Sequence[int]
    ) -> Sequence[NDArray[np.float64]]:
        beliefs, tokens = self._beliefs(states), np.asarray(token_ids)  # (B, K), (B,)
        after = np.empty_like(beliefs)
        for token_id in np.unique(tokens):
            rows = tokens == token_id
            joint = beliefs[rows] @ self._transitions[token_id]
            likelihood = joint.sum(axis=1, keepdims=True)
            after[rows] = np.where(likelihood > 0, joint / np.where(likelihood > 0, likelihood, 1), beliefs[rows])
        after[tokens == EOT] = self._startprob
        return list(after)

    def next_log_probs(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.next_log_probs_batch([state])[0]

    def next_log_probs_batch(self, states: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore"):  # -inf for what is impossible
            return np.log(self._beliefs(states) @ self._emissions)

    def _beliefs(self, states: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.asarray(states, np.float64).reshape(len(states), len(self._startprob))


def _nats(masses: NDArray[np.float64]) -> float:
    """What is paid by one who knows each row's distribution over tokens, of rows (C, V) of expected counts."""
    totals = masses.sum(axis=1, keepdims=True)
    possible = masses > 0
    return float(-(masses[possible] * np.log((masses / totals)[possible])).sum())
