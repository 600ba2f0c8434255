"""The maximum-entropy model: its penalised likelihood, and the n-gram model with the weights that maximise it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_at_least, check_positive, check_whole
from lmzoo.models.ngram.model import NgramModel
from lmzoo.models.ngram.names import GIVEN
from lmzoo.models.ngram.weights import Weights
from lmzoo.stream import TrainingData
from lmzoo.system.progress import OnProgress, Progress

if TYPE_CHECKING:
    from lmzoo.models.ngram.counting.protocol import CountedNgrams

_HISTORY = 6
"""Number of past steps from which L-BFGS estimates the curvature."""
_ENOUGH = 1e-12
"""L-BFGS ends when a step improves the penalised likelihood by less than this fraction."""


class PenalisedLikelihood:
    """The logarithm of the likelihood of a text under a maximum-entropy model, minus the penalties of its weights.

    A model has M weights, one for each n-gram of the text; that of the root, the empty n-gram, is always 0.
    """

    def __init__(self, counted: CountedNgrams, variance: float, discount: float) -> None:
        trie = counted.trie
        self._trie = trie
        self._counts = counted.counts.astype(np.float64)
        self._counts[0] = 0
        n_contexts = trie.n_contexts
        self._parents = np.concatenate([[0], *(trie.parents(k) for k in range(1, trie.order + 1))])
        n_before = np.bincount(self._parents, self._counts, n_contexts)  # how often a token follows each context
        self._n_longest = n_before - np.bincount(trie.suffixes[1:n_contexts], n_before[1:], n_contexts)
        context_lengths = np.arange(-1, trie.order)  # for n-grams of length 0 .. n
        self._precisions = np.repeat(np.maximum(context_lengths, 1) / variance, np.diff(trie.levels))
        self._discount = discount
        self._scores, self._taken, self._expected = (np.empty(trie.tokens.size) for _ in range(3))
        self._normalisers, self._shares = np.empty(n_contexts), np.empty(n_contexts)

    @property
    def curvatures(self) -> NDArray[np.float64]:
        """Rough second derivatives of the penalised likelihood by each weight, an array (M,), without their sign.

        An n-gram with a small probability has about as large a second derivative as it has occurrences.
        """
        return np.maximum(self._counts, 0.5) + self._precisions

    def start(self) -> NDArray[np.float64]:
        """Returns weights (M,) with which the model predicts each token as often as it occurs, in any context."""
        weights = np.zeros(self._counts.size)
        unigrams = self._trie.level(1)
        counts = self._counts[unigrams] + 0.5
        weights[unigrams] = np.log(counts / counts.mean())
        return weights

    def value_and_gradient(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Returns the penalised log-likelihood of the text in nats, and its derivatives (M,) by the weights."""
        from lmzoo.models.maxent.sums import add_up_expectations

        trie = self._trie
        self._add_up_scores(weights)
        add_up_expectations(
            self._n_longest, self._scores, self._normalisers, trie.first_child, trie.suffixes,
            self._shares, self._taken, self._expected,
        )  # fmt: skip
        penalties = self._precisions * weights
        value = self._counts @ weights - self._n_longest @ np.log(self._normalisers)
        value -= self._discount * weights[1:].sum() + penalties @ weights / 2
        gradient = self._counts - self._expected - self._discount - penalties
        gradient[0] = 0
        return float(value), gradient

    def as_ngram_weights(self, weights: NDArray[np.float64]) -> Weights:
        """Returns the log-probabilities of all n-grams and the back-off weights of all contexts of the model."""
        self._add_up_scores(weights)
        log_normalisers = np.log(self._normalisers)
        log_probs = np.log(self._scores) - log_normalisers[self._parents]
        log_probs[0] = -math.log(self._trie.vocab_size)
        backoffs = log_normalisers[self._trie.suffixes[: log_normalisers.size]] - log_normalisers
        return Weights(log_probs.astype(np.float32), backoffs.astype(np.float32))

    def _add_up_scores(self, weights: NDArray[np.float64]) -> None:
        from lmzoo.models.maxent.sums import add_up_scores

        trie = self._trie
        add_up_scores(np.exp(weights), trie.first_child, trie.suffixes, self._scores, self._normalisers)


def _maximised(likelihood: PenalisedLikelihood, steps: int, on_progress: OnProgress | None) -> NDArray[np.float64]:
    """Returns the weights (M,) that maximise a penalised likelihood, or are the best after `steps` steps of L-BFGS.

    The weights are divided by the square roots of their curvatures, because those of frequent and of rare n-grams
    differ by several orders of magnitude.
    """
    from scipy.optimize import minimize  # slow to import

    start, scales = likelihood.start(), 1 / np.sqrt(likelihood.curvatures)
    n_done = 0

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = likelihood.value_and_gradient(start + scales * x)
        return -value, -scales * gradient

    def after_step(x: NDArray[np.float64]) -> None:
        nonlocal n_done
        n_done += 1
        if on_progress:
            on_progress(Progress(n_done, steps, "steps", "learning the weights"))

    options = {"maxcor": _HISTORY, "maxiter": steps, "maxfun": 10 * steps, "ftol": _ENOUGH, "gtol": 0.0}
    found = minimize(loss, np.zeros(start.size), jac=True, method="L-BFGS-B", callback=after_step, options=options)
    return start + scales * found.x


@final
class MaxentModel(NgramModel):
    """A maximum-entropy n-gram model, which predicts like an n-gram model with back-off.

    The arguments are explained in the function `lmzoo.models.maxent.maxent`.
    """

    def __init__(self, vocab_size: int, *, order: int, variance: float, discount: float, steps: int) -> None:
        super().__init__(vocab_size, order=order, smoothing=GIVEN)
        check_positive(variance=variance)
        check_at_least(0, discount=discount)
        check_whole(1, steps=steps)
        self._variance, self._discount, self._steps = variance, discount, steps

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        from lmzoo.models.ngram.counting.sorting import count_ngrams

        data.checked(self.vocab_size)
        if on_progress:
            on_progress(Progress(0, self._steps, "steps", "counting n-grams"))
        counted = count_ngrams([data.train], self.vocab_size, self.order)
        likelihood = PenalisedLikelihood(counted, self._variance, self._discount)
        weights = _maximised(likelihood, self._steps, on_progress)
        return self._become(counted.trie, likelihood.as_ngram_weights(weights), np.empty((self.order, 0)))
