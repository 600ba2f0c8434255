"""Ensembles: the loss of several models that are mixed, and the contribution of each model to the mixture.

    P(w | h) = sum over m of weight_m P_m(w | h)

Constant weights:  the weights are learned on the validation set (Jelinek & Mercer 1980), as in the species `mixture`.
Gated weights:     a gate, learned on the validation set, computes the weights from the context (Jacobs et al. 1991;
`lmzoo.evaluation.gate`).
Dynamic weights:   after each token of the test text, Bayes' rule updates the weights. Then a fixed share of the total
weight is redistributed in proportion to the constant weights, so that old evidence is forgotten (fixed share; Herbster
& Warmuth 1998, Tracking the Best Expert). These weights adapt to the test text.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.evaluation.gate import ModelScores, learn_gate
from lmzoo.evaluation.statistics import PairedComparison, ResamplingUnits, compare_pairs
from lmzoo.models.mixing import learn_weights
from lmzoo.system.blas import one_blas_thread

_TOLERANCE = 1e-6
"""Accuracy of the constant weights, as a loss in nats per token; reports show three decimals."""
_SHARE_TOLERANCE = 0.02

MIXTURE, BEST, CONSTANT, DYNAMIC = 0, 1, 2, 3
"""Rows of `Ensemble.comparison`: the mixture with gated weights, the best single model, the mixture with constant
weights, the mixture with dynamic weights."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The results of mixtures of M models on one text: weights, losses and significance tests.

    The losses are those of the mixture of all M models, with gated, constant and dynamic weights, of the best single
    model, and of M ablations, each of which is the gated mixture without one of the models.
    """

    names: list[str]
    """Names of the M models."""
    weights: NDArray[np.float64]
    """(M,): mean weight of each model in the gated mixture, over the tokens of the test text."""
    constant_weights: NDArray[np.float64]
    """(M,): weight of each model in the mixture with constant weights."""
    best: int
    """Index of the model with the lowest loss on the validation set."""
    comparison: PairedComparison
    """Losses of `MIXTURE`, `BEST`, `CONSTANT` and `DYNAMIC`, followed by those of the ablations."""

    def ablation(self, member: int) -> int:
        """Returns the index, in the arrays of `self.comparison`, of the gated mixture without one of the M models.

        `self.comparison` holds the losses of several mixtures. `member` is the index of the model in `self.names`.
        """
        return 4 + member


def evaluate_ensemble(
    names: Sequence[str],
    valid: ModelScores,
    test: ModelScores,
    sizes: NDArray[np.floating],
    units: ResamplingUnits,
) -> Ensemble | None:
    """Measures the loss of a mixture of M models with gated weights on a test text, and compares it with others.

    The others are the best single model, mixtures with constant and with dynamic weights, and M ablations, which are
    gated mixtures without one of the models.

    `names`: names of the M models. `valid`, `test`: scores of the M models on the validation and on the test text.
    `sizes` (T,): size of each of the T test tokens in the unit of the losses, as in `compare_pairs`. `units`: the parts
    of the test text that the bootstrap resamples.

    Returns None if the test text has fewer than two such parts.
    """
    constant = learn_weights(valid.log_probs.T, _TOLERANCE)
    best = int(np.argmax(valid.log_probs.sum(axis=1)))
    share = learn_share(valid.log_probs, constant)

    def without(member: int) -> NDArray[np.float64]:
        others = test.without(member)
        return mixed(others.log_probs, gate.without(valid, member).log_weights(others))

    # The matrix products are small: one on each core is faster than one at a time on all cores.
    with one_blas_thread() as n_threads, ThreadPoolExecutor(n_threads) as pool:
        gate = learn_gate(valid, constant)
        log_weights = gate.log_weights(test)
        rows = [
            mixed(test.log_probs, log_weights),
            test.log_probs[best],
            mixed(test.log_probs, np.log(constant)[:, None]),
            dynamically_mixed(test.log_probs, constant, share),
            *pool.map(without, range(len(names))),
        ]
    comparison = compare_pairs(np.stack(rows), sizes, units)
    weights = np.exp(log_weights).mean(axis=1)
    return None if comparison is None else Ensemble(list(names), weights, constant, best, comparison)


def gated_log_probs(valid: ModelScores, test: ModelScores) -> NDArray[np.float64]:
    """Returns the log-probabilities (T,) of the tokens of a test text under a mixture of M models with gated weights.

    `valid`, `test`: scores of the M models on the validation text, from which the gate is learned, and on the test text
    of T tokens.
    """
    gate = learn_gate(valid, learn_weights(valid.log_probs.T, _TOLERANCE))
    return mixed(test.log_probs, gate.log_weights(test))


def mixed(log_probs: NDArray[np.float64], log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the log-probabilities (T,) of T tokens under a mixture of M models.

    `log_probs` (M, T): log-probability of each token under each model. `log_weights`: logarithms of the weights of the
    models, (M, T) if each token has its own weights, or (M, 1) if the weights are constant.
    """
    return np.logaddexp.reduce(log_probs + log_weights, axis=0)


def learn_share(log_probs: NDArray[np.float64], prior: NDArray[np.float64]) -> float:
    """Learns how quickly a mixture of M models with dynamic weights should forget old evidence.

    After each token, Bayes' rule updates the weights, and then a share of the total weight is redistributed in
    proportion to the prior weights. Returns the share between 0 and 1 with the lowest loss on a text of T tokens.

    `log_probs` (M, T): log-probability of each token under each model. `prior` (M,): prior weights of the models.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    def loss(share: float) -> float:
        return -float(dynamically_mixed(log_probs, prior, share).sum())

    solution: Any = minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": _SHARE_TOLERANCE})
    return float(solution.x)


def dynamically_mixed(log_probs: NDArray[np.float64], prior: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Returns the log-probabilities (T,) of T tokens under a mixture of M models whose weights adapt to the text.

    After each token, Bayes' rule updates the weights, and then a share of the total weight is redistributed in
    proportion to the prior weights. Each token is predicted before this update.

    `log_probs` (M, T): log-probability of each token under each model. `prior` (M,): initial weights of the models.
    `share`: the share of the total weight that is redistributed, between 0 and 1.
    """
    from lmzoo.evaluation.kernels import mix_dynamically  # slow to import

    peaks = log_probs.max(axis=0)
    totals = np.empty(log_probs.shape[1])
    mix_dynamically(np.ascontiguousarray(np.exp(log_probs - peaks).T), prior, share, totals)
    return np.log(totals) + peaks
