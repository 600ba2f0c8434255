"""Ensembles: the loss of several models that are mixed, and the contribution of each model to the mixture.

Static weights:   P(w | h) = sum over m of weight_m P_m(w | h). The weights are learned on the validation set (Jelinek &
Mercer 1980), as in the species `mixture`.
Dynamic weights:  after each token of the test text, Bayes' rule updates the weights, and a share of the total weight
returns to the static weights, so that old evidence is forgotten (fixed share; Herbster & Warmuth 1998, Tracking the
Best Expert). These weights adapt to the test text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from lmzoo.evaluation.statistics import PairedComparison, ResamplingUnits, compare_pairs
from lmzoo.models.mixing import learn_weights

_TOLERANCE = 1e-6
"""Accuracy of the learned weights, as a loss in nats per token; reports show three decimals."""
_MAX_TOKENS = 100_000
"""Number of tokens of the validation set on which the share of dynamic weights is learned."""
_SHARE_TOLERANCE = 0.02

MIXTURE, BEST, DYNAMIC = 0, 1, 2
"""Rows of `Ensemble.comparison`: the static mixture, the best single model, the mixture with dynamic weights."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The results of mixtures of M models on one text: weights, losses and significance tests.

    The losses are those of the mixture of all M models, with constant and with adaptive weights, of the best single
    model, and of M ablations, each of which is the mixture without one of the models.
    """

    names: list[str]
    """Names of the M models."""
    weights: NDArray[np.float64]
    """(M,): weight of each model in the static mixture."""
    best: int
    """Index of the model with the lowest loss on the validation set."""
    comparison: PairedComparison
    """Losses of `MIXTURE`, `BEST` and `DYNAMIC`, followed by the static mixtures without one of the models each."""

    def ablation(self, member: int) -> int:
        """Returns the index, in the arrays of `self.comparison`, of the mixture without one of the M models.

        `self.comparison` holds the losses of several mixtures. `member` is the index of the model in `self.names`.
        """
        return 3 + member


def evaluate_ensemble(
    names: Sequence[str],
    valid: NDArray[np.floating],
    test: NDArray[np.floating],
    sizes: NDArray[np.floating],
    units: ResamplingUnits,
) -> Ensemble | None:
    """Measures the loss of a mixture of M models on a test text, and compares it with other predictors.

    The other predictors are the best single model, a mixture whose weights adapt to the test text, and M ablations,
    which are mixtures without one of the models.

    `names`: names of the M models. `valid` (M, T'), `test` (M, T): log-probability, in nats, that each model gave each
    token of the validation and of the test text. `sizes` (T,): size of each test token in the unit of the losses, as in
    `compare_pairs`. `units`: the parts of the test text that the bootstrap resamples.

    Returns None if the test text has fewer than two such parts.
    """
    valid, test = np.asarray(valid, np.float64), np.asarray(test, np.float64)
    n_models = len(names)
    weights = learn_weights(valid.T, _TOLERANCE)
    best = int(np.argmax(valid.sum(axis=1)))
    share = learn_share(valid[:, :_MAX_TOKENS], weights)
    rows = [mixed(test, weights), test[best], dynamically_mixed(test, weights, share)]
    for member in range(n_models):
        others = np.delete(np.arange(n_models), member)
        rows.append(mixed(test[others], learn_weights(valid[others].T, _TOLERANCE)))
    comparison = compare_pairs(np.stack(rows), sizes, units)
    return None if comparison is None else Ensemble(list(names), weights, best, comparison)


def mixed(log_probs: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the log-probabilities (T,) of T tokens under a mixture of M models with constant weights (M,).

    `log_probs` (M, T): log-probability of each token under each model.
    """
    return np.asarray(logsumexp(log_probs + np.log(weights)[:, None], axis=0))


def learn_share(log_probs: NDArray[np.float64], prior: NDArray[np.float64]) -> float:
    """Learns how quickly a mixture of M models with adaptive weights should forget old evidence.

    After each token, Bayes' rule updates the weights, and then a share of the total weight returns to the prior
    weights. Returns the share between 0 and 1 with the lowest loss on a text of T tokens.

    `log_probs` (M, T): log-probability of each token under each model. `prior` (M,): prior weights of the models.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    def loss(share: float) -> float:
        return -float(dynamically_mixed(log_probs, prior, share).sum())

    solution: Any = minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": _SHARE_TOLERANCE})
    return float(solution.x)


def dynamically_mixed(log_probs: NDArray[np.float64], prior: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Returns the log-probabilities (T,) of T tokens under a mixture of M models whose weights adapt to the text.

    After each token, Bayes' rule updates the weights, and then a share of the total weight returns to the prior
    weights. Each token is predicted before this update.

    `log_probs` (M, T): log-probability of each token under each model. `prior` (M,): initial weights of the models.
    `share`: the share of the total weight that returns, between 0 and 1.
    """
    weights, mixture = prior, np.empty(log_probs.shape[1])
    peaks = log_probs.max(axis=0)
    for t, probs in enumerate(np.exp(log_probs - peaks).T):  # (M,)
        joint = weights * probs
        total = joint.sum()
        mixture[t] = np.log(total)
        weights = (1 - share) * joint / total + share * prior
    return mixture + peaks
