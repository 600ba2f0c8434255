"""A mixture of models whose weights depend on the context, and the gate that computes the weights.

    P(w | h)  = sum over m of weight_m(h) P_m(w | h)
    weight(h) = softmax(A x(h) + b)

Here w is the next token, h the tokens before it in its document, and x(h) a vector of features of the context. The
features tell how certain each model is, and how well it predicted the last tokens. The matrix A and the vector b are
learned on the validation set, so the mixture does not adapt to the test text.

R. A. Jacobs, M. I. Jordan, S. J. Nowlan, G. E. Hinton, Adaptive Mixtures of Local Experts, Neural Computation 3, 1991.
Changed: the models are trained before the gate, and the gate reads features of their predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.language_model import TokenStats

_DECAYS = (0.0, 0.8, 0.95, 0.99)
"""Factors by which the influence of a token on the next weights decreases with each further token."""
_LOWEST = -20.0
"""Lower limit of the log-probability of a token relative to that of the best model; smaller values are raised to it."""
_LARGEST = 4.0
"""Largest absolute value of a standardised feature."""
_SMALLEST_SCALE = 1e-6
"""Added to the standard deviation of a feature, which is 0 if the feature is constant."""
_PENALTIES = (10_000.0, 1000.0, 100.0, 10.0)
"""The penalties among which cross-validation chooses."""
_N_BLOCKS = 20
"""Number of blocks into which cross-validation divides the validation text; its two folds are every second block."""
_MAX_ITERATIONS = 100
_TOLERANCE = 1e-6
"""Relative decrease of the loss per iteration at which the training of a gate ends."""


@dataclass(frozen=True, eq=False)
class ModelScores:
    """The scores that M models gave the T tokens of one text, as arrays (M, T) in nats."""

    log_probs: NDArray[np.float64]
    """Log-probability of each token."""
    entropies: NDArray[np.float64]
    """Entropy of each predicted distribution."""
    top_log_probs: NDArray[np.float64]
    """Log-probability of the most likely token at each position."""
    starts: NDArray[np.intp]
    """(D,): position of the first token of each of the D documents."""

    @classmethod
    def stack(cls, stats: Sequence[TokenStats], starts: NDArray[np.intp]) -> ModelScores:
        """Combines the scores of M models on a text whose documents begin at the positions `starts` (D,)."""
        return cls(
            np.stack([each.log_probs for each in stats], dtype=np.float64),
            np.stack([each.entropies for each in stats], dtype=np.float64),
            np.stack([each.top_log_probs for each in stats], dtype=np.float64),
            starts,
        )

    def without(self, member: int) -> ModelScores:
        """Returns the scores of all models except the one with index `member`."""
        return ModelScores(
            np.delete(self.log_probs, member, axis=0),
            np.delete(self.entropies, member, axis=0),
            np.delete(self.top_log_probs, member, axis=0),
            self.starts,
        )

    def relative_log_probs(self) -> NDArray[np.float64]:
        """Returns the logarithm (M, T) of each model's share in the sum of all models' probabilities of a token."""
        peaks = np.maximum(self.log_probs.max(axis=0), _LOWEST)  # tokens that no model can predict have -inf
        log_probs = np.maximum(self.log_probs - peaks, _LOWEST)
        return log_probs - np.logaddexp.reduce(log_probs, axis=0)


@dataclass(frozen=True, eq=False)
class FeatureScaling:
    """The constants that standardise the features of a context, from which a gate computes the weights of M models.

    For each model there are 6 features. Two tell how certain the model is: the entropy of its distribution and the
    largest log-probability. The others tell how well it predicted the last tokens: exponentially decaying means, with
    four rates of decay, of its relative log-probabilities of the earlier tokens of the document.
    """

    typical: NDArray[np.float64]
    """(M,): mean of the relative log-probabilities of each model on the validation text."""
    centre: NDArray[np.float32]
    """(F,): mean of each of the F = 6 M features on the validation text."""
    scale: NDArray[np.float32]
    """(F,): standard deviation of each feature on the validation text."""

    @classmethod
    def learn(cls, scores: ModelScores) -> FeatureScaling:
        """Returns the scaling with which the features of a validation text have mean 0 and standard deviation 1."""
        typical = scores.relative_log_probs().mean(axis=1)
        features = _features(scores, typical)
        centre, scale = features.mean(axis=1, dtype=np.float64), features.std(axis=1, dtype=np.float64)
        return cls(typical, centre.astype(np.float32), (scale + _SMALLEST_SCALE).astype(np.float32))

    def inputs(self, scores: ModelScores) -> NDArray[np.float32]:
        """Returns the standardised features of the context of each of T tokens, and a last row of ones: (F + 1, T)."""
        features = _features(scores, self.typical)
        inputs = np.ones((len(features) + 1, features.shape[1]), np.float32)
        np.clip((features - self.centre[:, None]) / self.scale[:, None], -_LARGEST, _LARGEST, out=inputs[:-1])
        return inputs


@dataclass(frozen=True, eq=False)
class Gate:
    """A function from features of the context to the weights of M models in a mixture."""

    scaling: FeatureScaling
    matrix: NDArray[np.float64]
    """(M, F + 1): the matrix A, and in the last column the vector b."""
    penalty: float
    """The penalty on the squares of the matrix A with which the gate was learned."""

    def log_weights(self, scores: ModelScores) -> NDArray[np.float64]:
        """Returns the logarithms of the weights (M, T) of M models at each of the T positions of a text.

        The weights at a position depend on the distributions that the models predict there, and on the earlier tokens
        of the same document. They do not depend on the token at the position itself.
        """
        logits = self.matrix @ self.scaling.inputs(scores)
        return logits - np.logaddexp.reduce(logits, axis=0)

    def without(self, scores: ModelScores, member: int) -> Gate:
        """Returns a gate for all models except the one with index `member`, learned with the same penalty.

        `scores` are the scores of all M models on the validation text.
        """
        others = scores.without(member)
        scaling = FeatureScaling.learn(others)
        n_models, n_columns = self.matrix.shape
        columns = np.arange(member, n_columns - 1, n_models)
        first = np.delete(np.delete(self.matrix, member, axis=0), columns, axis=1)
        return Gate(scaling, _fit(*_possible(others, scaling), first, self.penalty), self.penalty)


def learn_gate(scores: ModelScores, weights: NDArray[np.float64]) -> Gate:
    """Learns a gate for M models on a validation text, from the scores of the models.

    The gate maximises the likelihood of the text minus a penalty on the squares of the matrix A, which keeps the
    weights nearly constant if the text is short. The penalty is chosen by two-fold cross-validation. `weights` (M,) are
    the constant weights with which the training begins.
    """
    scaling = FeatureScaling.learn(scores)
    inputs, probs = _possible(scores, scaling)
    constant = np.zeros((len(probs), len(inputs)))
    constant[:, -1] = np.log(weights)
    n_tokens = probs.shape[1]
    folds = np.arange(n_tokens) * min(n_tokens, _N_BLOCKS) // max(n_tokens, 1) % 2
    losses = np.zeros(len(_PENALTIES))
    for fold in (0, 1):
        rest, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        matrix = constant
        for index, penalty in enumerate(_PENALTIES):
            matrix = _fit(inputs[:, rest], probs[:, rest], matrix, penalty)
            losses[index] += _loss(matrix, inputs[:, held_out], probs[:, held_out])[0]
    penalty = _PENALTIES[int(losses.argmin())]
    return Gate(scaling, _fit(inputs, probs, constant, penalty), penalty)


def _features(scores: ModelScores, typical: NDArray[np.float64]) -> NDArray[np.float32]:
    """Returns the features (F, T) of the context of each of T tokens, as `FeatureScaling` describes them.

    The means `typical` (M,) on the validation text are subtracted from the relative log-probabilities. The decaying
    means, which are 0 at the start of a document, then begin at a typical value.
    """
    from lmzoo.evaluation.kernels import decaying_means  # slow to import

    relative = scores.relative_log_probs() - typical[:, None]
    recent = np.empty((len(_DECAYS), *relative.shape), np.float32)
    decaying_means(np.ascontiguousarray(relative), scores.starts.astype(np.int64), np.array(_DECAYS), recent)
    return np.concatenate([scores.entropies, scores.top_log_probs, *recent], dtype=np.float32)


def _fit(
    inputs: NDArray[np.float32], probs: NDArray[np.float32], matrix: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    """Returns the matrix (M, F + 1) of a gate that minimises the loss plus a penalty, beginning at `matrix`.

    `inputs` (F + 1, T): standardised features and a row of ones. `probs` (M, T): probability of each token under each
    model, up to a factor for each token. The penalty is half of `penalty` times the sum of the squares of all elements
    except those of the last column.
    """
    from scipy.optimize import minimize  # slow to import

    def penalised(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        loss, gradient = _loss(flat.reshape(matrix.shape), inputs, probs)
        weights = flat.reshape(matrix.shape).copy()
        weights[:, -1] = 0
        n_tokens = max(probs.shape[1], 1)
        value = (loss + penalty / 2 * (weights**2).sum()) / n_tokens
        return value, ((gradient + penalty * weights) / n_tokens).ravel()

    options = {"maxiter": _MAX_ITERATIONS, "ftol": _TOLERANCE}
    solution: Any = minimize(penalised, matrix.ravel(), jac=True, method="L-BFGS-B", options=options)
    return solution.x.reshape(matrix.shape)


def _loss(
    matrix: NDArray[np.float64], inputs: NDArray[np.float32], probs: NDArray[np.float32]
) -> tuple[float, NDArray[np.float64]]:
    """Returns the total surprisal of T tokens under a gated mixture, in nats, and its gradient (M, F + 1).

    The probabilities `probs` are known up to a factor for each token. The factors do not depend on the gate, and are
    left out of the surprisal. `matrix` is the matrix of the gate; the other arguments are those of `_fit`.
    """
    logits = matrix.astype(np.float32) @ inputs
    weights = np.exp(logits - logits.max(axis=0))
    weights /= weights.sum(axis=0)
    joint = weights * probs
    totals = joint.sum(axis=0)
    joint /= totals  # the posterior probability of each model
    loss = -float(np.log(totals).sum(dtype=np.float64))
    return loss, ((weights - joint) @ inputs.T).astype(np.float64)


def _possible(scores: ModelScores, scaling: FeatureScaling) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the inputs of a gate (F + 1, T) and the probabilities (M, T) of T tokens under M models.

    The probabilities of each token are divided by the largest of them. Tokens that no model can predict are left out,
    because their probability is 0 whatever the weights are.
    """
    peaks = scores.log_probs.max(axis=0)
    possible = np.isfinite(peaks)
    probs = np.exp(scores.log_probs[:, possible] - peaks[possible]).astype(np.float32)
    return scaling.inputs(scores)[:, possible], probs
