"""Curves of reward against divergence: exact fits, the maximum, and points that determine no curve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmzoo.errors import UsageError
from lmzoo.evaluation.overoptimisation import Form, RewardCurve, end_slope, fit_reward_curve

FORMS: list[Form] = ["reinforcement learning", "best of n"]


def reward(kl: float, form: Form) -> float:
    """Returns the reward of the curve with R_0 = 0.5, a = 2 and b = 0.4, from the equation for one number."""
    d = math.sqrt(kl)
    if form == "best of n":
        return 0.5 + d * (2 - 0.4 * d)
    return 0.5 + (d * (2 - 0.4 * math.log(d)) if d else 0.0)


@pytest.mark.parametrize("form", FORMS)
def test_a_curve_without_noise_is_found_exactly(form: Form) -> None:
    kl = [0.0, 0.5, 1.0, 4.0, 9.0, 30.0]
    curve = fit_reward_curve(kl, [reward(each, form) for each in kl], form)
    assert curve is not None
    assert (curve.start, curve.gain, curve.loss) == pytest.approx((0.5, 2, 0.4))
    assert curve.r_squared == pytest.approx(1)
    np.testing.assert_allclose(curve(np.sqrt([[2.0, 3.0]])), [[reward(2, form), reward(3, form)]])


@pytest.mark.parametrize("form", FORMS)
def test_the_peak_is_the_maximum(form: Form) -> None:
    curve = RewardCurve(form, start=0.5, gain=1.0, loss=0.8, r_squared=1.0)
    distances = np.linspace(0, 4, 4001)
    assert curve.peak == pytest.approx(distances[curve(distances).argmax()], abs=1e-3)
    assert RewardCurve(form, start=0.5, gain=1.0, loss=-0.1, r_squared=1.0).peak is None
    assert RewardCurve(form, start=0.5, gain=1.0, loss=1e-9, r_squared=1.0).peak in (None, pytest.approx(5e8))


def test_noise_lowers_the_share_of_the_variance() -> None:
    kl = np.linspace(0, 9, 200)
    clean = np.array([reward(each, "reinforcement learning") for each in kl])
    noise = np.random.default_rng(0).normal(size=200) * clean.std()
    curve = fit_reward_curve(kl, clean + noise, "reinforcement learning")
    assert curve is not None
    assert 0.4 < curve.r_squared < 0.6  # half of the variance is noise


def test_estimates_below_zero_count_as_zero() -> None:
    points = [-0.2, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]
    assert fit_reward_curve(*points, "best of n") == fit_reward_curve([0.0, *points[0][1:]], points[1], "best of n")


def test_few_points_determine_no_curve() -> None:
    assert fit_reward_curve([], [], "best of n") is None
    assert fit_reward_curve([1, 1, 2, 2, 3, 3], [1, 2, 3, 4, 5, 6], "best of n") is None
    assert fit_reward_curve([-1, -2, -3, -4, 0, 1], [1, 2, 3, 4, 5, 6], "best of n") is None


@pytest.mark.parametrize(("kl", "rewards"), [([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]]), ([1.0, math.nan], [1.0, 2.0])])
def test_wrong_points(kl: list[float], rewards: list[float]) -> None:
    with pytest.raises(UsageError, match="as many rewards as divergences, all finite"):
        fit_reward_curve(kl, rewards, "best of n")


@pytest.mark.parametrize("form", FORMS)
def test_the_slope_at_the_end(form: Form) -> None:
    kl = np.linspace(0.01, 16, 300)
    noise = 0.05 * np.random.default_rng(1).normal(size=300)
    for loss in (0.1, 0.9):
        curve = RewardCurve(form, start=0.0, gain=1.0, loss=loss, r_squared=1.0)
        truth = (curve(4.0) - curve(4.0 - 1e-6)) / 1e-6
        low, high = end_slope(kl, curve(np.sqrt(kl)) + noise, form) or (0, 0)
        assert low < truth < high
        assert high - low < 0.2
    assert end_slope([1.0, 2.0], [1.0, 2.0], form) is None
