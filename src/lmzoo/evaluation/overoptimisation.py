"""Curves of reward against divergence: how far a model can be optimised for a reward model before it gets worse.

    R(d) = R_0 + d (a - b log d)      reinforcement learning
    R(d) = R_0 + d (a - b d)          best of n replies

R is the mean reward that the reward model gives to replies, or the mean grade that a judge gives to them. d is the
square root of the Kullback-Leibler (KL) divergence, in nats, from the model before the optimisation, and R_0 is the
reward or grade of that model. The forms are those of Gao et al. (2022, section 3), who measure rewards relative to R_0.

A reward model learns to imitate a judge. When a model is optimised for its rewards, the grade of the judge rises at
first. It falls later, when replies exploit the errors of the reward model. This is called over-optimisation.
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
    """A curve of rewards or grades against d, the square root of the KL divergence, fitted to measurements."""

    form: Form
    start: float
    """Reward or grade R_0 at d = 0."""
    gain: float
    """Coefficient a: how fast the curve rises at first."""
    loss: float
    """Coefficient b: how fast the rise slows down and turns into a fall."""
    r_squared: float
    """Share of the variance of the measurements that the curve explains."""

    def __call__(self, roots: ArrayLike) -> NDArray[np.float64]:
        """Returns the rewards or grades of the curve for an array of values of d, of any shape."""
        roots = np.asarray(roots, np.float64)
        return self.start + roots * self.gain - _loss_term(roots, self.form) * self.loss

    @property
    def peak(self) -> float | None:
        """The value of d at which the curve is highest; None if the curve has no maximum at a d above 0."""
        if self.loss <= 0 or (self.form == "best of n" and self.gain <= 0):
            return None
        ratio = self.gain / self.loss
        if self.form == "best of n":
            return ratio / 2
        return math.exp(ratio - 1) if ratio < 100 else None


def fit_reward_curve(kl: ArrayLike, rewards: ArrayLike, form: Form) -> RewardCurve | None:
    """Fits a curve to n measured rewards or grades by least squares.

    `kl` (n,) are the KL divergences from the model before the optimisation, in nats; an estimate below 0 counts as 0.
    `rewards` (n,) are the mean rewards or grades at these divergences. Returns None if fewer than four different
    divergences are given, or if they do not determine the curve. Raises UsageError for arrays of other shapes, and for
    numbers that are not finite.
    """
    kl, rewards = np.asarray(kl, np.float64), np.asarray(rewards, np.float64)
    if kl.ndim != 1 or kl.shape != rewards.shape or not (np.isfinite(kl).all() and np.isfinite(rewards).all()):
        raise UsageError(
            "a reward curve needs as many rewards as divergences, all finite, "
            f"got arrays of shapes {kl.shape} and {rewards.shape}"
        )
    roots = np.sqrt(np.maximum(kl, 0))
    if len(np.unique(roots)) < _MIN_POINTS:
        return None
    terms = np.stack([np.ones_like(roots), roots, -_loss_term(roots, form)], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(terms, rewards, rcond=None)
    if rank < terms.shape[1]:
        return None
    start, gain, loss = solution.tolist()
    variance = float(np.square(rewards - rewards.mean()).sum())
    error = float(np.square(rewards - terms @ solution).sum())
    return RewardCurve(form, start, gain, loss, 1 - error / variance if variance else 1.0)


def end_slope(kl: ArrayLike, rewards: ArrayLike, form: Form) -> tuple[float, float] | None:
    """Returns the 95 % interval of the slope of the fitted curve at the largest divergence, per unit of d.

    The arguments are those of `fit_reward_curve`. If the whole interval is below 0, more divergence lowers the reward
    or grade there. The interval comes from resampling the points with replacement. Returns None if the points do not
    determine a curve.
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


def _loss_term(roots: NDArray[np.float64], form: Form) -> NDArray[np.float64]:
    """Returns the factor of -b at each value of d: d^2 for best of n, else d log d, which is 0 at d = 0."""
    if form == "best of n":
        return np.square(roots)
    return roots * np.log(np.where(roots > 0, roots, 1.0))
