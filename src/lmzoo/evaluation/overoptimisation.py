"""Curves of reward against divergence: how far a model can be optimised for a reward model before it gets worse.

    R(d) = R_0 + d (a - b log d)      reinforcement learning
    R(d) = R_0 + d (a - b d)          best of n replies

d is the square root of the KL divergence from the model before the optimisation, in nats, and R_0 is the reward of that
model. The forms are those of Gao et al. (2022, section 3), who measure rewards relative to R_0. A reward model stands
for a judge. The reward of the judge rises at first and falls later, when replies exploit the errors of the reward
model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.errors import UsageError
from lmzoo.evaluation.statistics import CONFIDENCE

Form = Literal["reinforcement learning", "best of n"]
_MIN_POINTS = 4
"""One point more than a curve has parameters."""
_N_RESAMPLES = 500


@dataclass(frozen=True)
class RewardCurve:
    """A curve of the reward against the distance d, the square root of the KL divergence, fitted to measurements."""

    form: Form
    start: float
    """Reward R_0 at distance 0."""
    gain: float
    """Coefficient a: how fast the reward rises at first."""
    loss: float
    """Coefficient b: how fast the rise slows down and turns into a fall."""
    r_squared: float
    """Share of the variance of the measured rewards that the curve explains."""

    def __call__(self, distances: ArrayLike) -> NDArray[np.float64]:
        """Returns the rewards of the curve at an array of distances of any shape."""
        distances = np.asarray(distances, np.float64)
        return self.start + distances * self.gain - _loss_term(distances, self.form) * self.loss

    @property
    def peak(self) -> float | None:
        """The distance at which the reward is highest; None if the curve has no maximum above distance 0."""
        if self.loss <= 0 or (self.form == "best of n" and self.gain <= 0):
            return None
        ratio = self.gain / self.loss
        if self.form == "best of n":
            return ratio / 2
        return math.exp(ratio - 1) if ratio < 100 else None


def fit_reward_curve(kl: ArrayLike, rewards: ArrayLike, form: Form) -> RewardCurve | None:
    """Fits a curve to n measured rewards by least squares.

    `kl` (n,): KL divergence from the model before the optimisation, in nats; an estimate below 0 counts as 0. `rewards`
    (n,): the mean reward at each divergence. Returns None if fewer than four different divergences are given, or if
    they do not determine the curve. Raises UsageError for other shapes, and for numbers that are not finite.
    """
    kl, rewards = np.asarray(kl, np.float64), np.asarray(rewards, np.float64)
    if kl.ndim != 1 or kl.shape != rewards.shape or not (np.isfinite(kl).all() and np.isfinite(rewards).all()):
        raise UsageError(
            "a reward curve needs as many rewards as divergences, all finite, "
            f"got arrays of shapes {kl.shape} and {rewards.shape}"
        )
    distances = np.sqrt(np.maximum(kl, 0))
    if len(np.unique(distances)) < _MIN_POINTS:
        return None
    terms = np.stack([np.ones_like(distances), distances, -_loss_term(distances, form)], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(terms, rewards)
    if rank < terms.shape[1]:
        return None
    start, gain, loss = solution.tolist()
    variance = float(np.square(rewards - rewards.mean()).sum())
    error = float(np.square(rewards - terms @ solution).sum())
    return RewardCurve(form, start, gain, loss, 1 - error / variance if variance else 1.0)


def end_slope(kl: ArrayLike, rewards: ArrayLike, form: Form) -> tuple[float, float] | None:
    """Returns the 95 % interval of the slope of the fitted curve at the largest distance, in reward per unit of d.

    The arguments are those of `fit_reward_curve`. If the interval is below 0, the model is over-optimised there: more
    divergence lowers the reward. The points are resampled with replacement. Returns None if they determine no curve.
    """
    kl, rewards = np.asarray(kl, np.float64), np.asarray(rewards, np.float64)
    if fit_reward_curve(kl, rewards, form) is None:
        return None
    end, rng, slopes = math.sqrt(kl.max()), np.random.default_rng(0), []
    for _ in range(_N_RESAMPLES):
        chosen = rng.integers(len(kl), size=len(kl))
        curve = fit_reward_curve(kl[chosen], rewards[chosen], form)
        if curve is not None:
            fall = 2 * end if form == "best of n" else math.log(end) + 1
            slopes.append(curve.gain - curve.loss * fall)
    low, high = np.quantile(slopes, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if slopes else (-math.inf, math.inf)
    return float(low), float(high)


def _loss_term(distances: NDArray[np.float64], form: Form) -> NDArray[np.float64]:
    """Returns the term whose coefficient is b, at each distance: d^2 for best of n, else d log d, which is 0 at 0."""
    if form == "best of n":
        return np.square(distances)
    return distances * np.log(np.where(distances > 0, distances, 1.0))
