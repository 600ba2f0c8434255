"""The penalised likelihoods of maximum-entropy models, which L-BFGS maximises."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.ngram.trie import ROOT
from lmzoo.models.ngram.weights import Weights
from lmzoo.stream import TokenStream

if TYPE_CHECKING:
    from lmzoo.models.maxent.triggers import Triggers
    from lmzoo.models.ngram.counting.counted import CountedNgrams

_TRIGGER_VARIANCE = 1.0
"""Variance of the Gaussian prior of the weights of triggers."""


class NgramLikelihood:
    """The penalised log-likelihood of a text under a maximum-entropy model whose features are n-grams.

    The model has M weights, one for each n-gram of the text; that of the root, the empty n-gram, is always 0.
    """

    def __init__(self, counted: CountedNgrams, variance: float, discount: float) -> None:
        trie = counted.trie
        self.trie = trie
        self.counts = counted.counts.astype(np.float64)
        self.counts[ROOT] = 0
        n_contexts = trie.n_contexts
        self._parents = np.concatenate([[0], *(trie.parents(k) for k in range(1, trie.order + 1))])
        n_before = np.bincount(self._parents, self.counts, n_contexts)  # how often a token follows each context
        self._n_longest = n_before - np.bincount(trie.suffixes[1:n_contexts], n_before[1:], n_contexts)
        context_lengths = np.arange(-1, trie.order)  # for n-grams of length 0 .. n
        self._precisions = np.repeat(np.maximum(context_lengths, 1) / variance, np.diff(trie.levels))
        self._discount = discount
        self.scores, self._taken, self._expected = (np.empty(trie.tokens.size) for _ in range(3))
        self.normalisers = np.empty(n_contexts)

    @property
    def curvatures(self) -> NDArray[np.float64]:
        """Estimates (M,) of the absolute second derivatives of the penalised likelihood with respect to each weight.

        If the probability of an n-gram is small, the derivative is about the number of its occurrences.
        """
        return np.maximum(self.counts, 0.5) + self._precisions

    def start(self) -> NDArray[np.float64]:
        """Returns weights (M,) with which the model predicts each token as often as it occurs, in any context."""
        weights = np.zeros(self.counts.size)
        unigrams = self.trie.level(1)
        counts = self.counts[unigrams] + 0.5
        weights[unigrams] = np.log(counts / counts.mean())
        return weights

    def value_and_gradient(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Returns the penalised log-likelihood of the text in nats, and its gradient (M,)."""
        self.add_up_scores(weights)
        value = self.counts @ weights - self._n_longest @ np.log(self.normalisers)
        gradient = self.gradient(weights, self._n_longest / self.normalisers, np.zeros(weights.size))
        return float(value) - self.penalty(weights), gradient

    def penalty(self, weights: NDArray[np.float64]) -> float:
        """Returns the penalty, in nats, that the priors of the weights (M,) subtract from the log-likelihood."""
        return float(self._discount * weights[1:].sum() + weights**2 @ self._precisions / 2)

    def gradient(
        self, weights: NDArray[np.float64], shares: NDArray[np.float64], extra_shares: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Returns the gradient (M,) of the penalised likelihood at the weights of the last call of `add_up_scores`.

        `shares` and `extra_shares` are explained in `lmzoo.models.maxent.sums.add_up_expectations`.
        """
        from lmzoo.models.maxent.sums import add_up_expectations

        trie = self.trie
        add_up_expectations(
            shares, extra_shares, self.scores, trie.first_child, trie.suffixes, self._taken, self._expected
        )
        gradient = self.counts - self._expected - self._discount - self._precisions * weights
        gradient[ROOT] = 0
        return gradient

    def add_up_scores(self, weights: NDArray[np.float64]) -> None:
        """Computes the unnormalised probabilities `scores` (M,) and their sums `normalisers` (C,) from the weights."""
        from lmzoo.models.maxent.sums import add_up_scores

        trie = self.trie
        add_up_scores(np.exp(weights), trie.first_child, trie.suffixes, self.scores, self.normalisers)

    def as_ngram_weights(self, weights: NDArray[np.float64]) -> Weights:
        """Returns the log-probabilities of all n-grams and the back-off weights of all contexts of the model."""
        self.add_up_scores(weights)
        log_normalisers = np.log(self.normalisers)
        log_probs = np.log(self.scores) - log_normalisers[self._parents]
        log_probs[ROOT] = -math.log(self.trie.vocab_size)
        backoffs = log_normalisers[self.trie.suffixes[: log_normalisers.size]] - log_normalisers
        return Weights(log_probs.astype(np.float32), backoffs.astype(np.float32))


class TriggerLikelihood:
    """The penalised log-likelihood of a text under a maximum-entropy model with n-grams and triggers.

    The model has M weights of n-grams, followed by P weights of triggers. `counts` (P,) holds, for each pair of a
    trigger and its target, how often the target occurs after the trigger in the same document.
    """

    def __init__(
        self, ngrams: NgramLikelihood, stream: TokenStream, triggers: Triggers, counts: NDArray[np.float64]
    ) -> None:
        from lmzoo.models.ngram.scoring import Matcher

        self._ngrams, self._ids, self._triggers, self._counts = ngrams, stream.ids, triggers, counts
        matcher = Matcher(ngrams.trie)
        self._states = matcher.states(stream.ids)[:-1].copy()
        self._nodes = matcher.nodes(stream.ids)[:, 1:].max(axis=0)  # longer n-grams have higher numbers

    @property
    def curvatures(self) -> NDArray[np.float64]:
        """Estimates (M + P,) of the absolute second derivatives of the penalised likelihood with respect to weights.

        Each is the number of occurrences of the feature, plus the precision of its prior.
        """
        return np.concatenate([self._ngrams.curvatures, self._counts + 1 / _TRIGGER_VARIANCE])

    def value_and_gradient(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Returns the penalised log-likelihood of the text in nats, and its gradient (M + P,)."""
        from lmzoo.models.maxent.documents import read_documents

        ngrams, triggers, trie = self._ngrams, self._triggers, self._ngrams.trie
        ngram_weights, trigger_weights = np.split(weights, [trie.tokens.size])
        ngrams.add_up_scores(ngram_weights)
        shares, extra_shares = np.zeros(trie.n_contexts), np.zeros(trie.tokens.size)
        expected = np.zeros(trigger_weights.size)
        value = read_documents(
            self._ids, self._states, self._nodes, ngrams.scores, ngrams.normalisers, trie.tokens, trie.first_child,
            trie.suffixes, triggers.first, triggers.targets, trigger_weights, shares, extra_shares, expected,
        )  # fmt: skip
        value -= ngrams.penalty(ngram_weights) + trigger_weights @ trigger_weights / (2 * _TRIGGER_VARIANCE)
        gradient = self._counts - expected - trigger_weights / _TRIGGER_VARIANCE
        return float(value), np.concatenate([ngrams.gradient(ngram_weights, shares, extra_shares), gradient])
