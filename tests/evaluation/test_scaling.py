"""Power laws out of points, and where curves cross."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from lmzoo.errors import UsageError
from lmzoo.evaluation.scaling import crossings, fit_power_law, leaders

SIZES = 870_000.0 / 2 ** np.arange(6, -1, -1)  # seven shares of a text


def a_law(floor: float, scale: float, exponent: float) -> NDArray[np.float64]:
    return floor + scale * SIZES**-exponent


# ---- Laws --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("floor", "scale", "exponent"),
    [
        (1.2, 30.0, 0.35),  # as an n-gram's: 30 x 870,000^-0.35 = 0.25 above the floor in the end
        (1.8, 5.0, 0.1),  # far from its floor
        (0.9, 4e4, 1.2),
        (150.0, 1e4, 0.4),  # in another unit
    ],
)
def test_a_law_without_noise_is_found(floor: float, scale: float, exponent: float) -> None:
    law = fit_power_law(SIZES, a_law(floor, scale, exponent))
    assert law is not None
    assert law.floor == pytest.approx(floor, rel=1e-4)
    assert law.scale == pytest.approx(scale, rel=1e-3)
    assert law.exponent == pytest.approx(exponent, rel=1e-4)
    assert law.misfit < 1e-6
    assert law.has_floor
    np.testing.assert_allclose(law(SIZES), a_law(floor, scale, exponent), rtol=1e-6)
    assert law.floor_interval == pytest.approx((floor, floor), rel=1e-4)


def test_no_floor_is_said_to_be_none() -> None:
    rng = np.random.default_rng(0)
    losses = a_law(0.0, 8.0, 0.1) * np.exp(0.01 * rng.standard_normal(7))
    law = fit_power_law(SIZES, losses)
    assert law is not None
    assert not law.has_floor
    assert law.floor_interval[0] == 0


@pytest.mark.slow
def test_intervals_hold_what_they_claim() -> None:
    """With noise of 0.5 % on seven points, most intervals contain the truth, and the estimates are unbiased."""
    rng = np.random.default_rng(1)
    held, exponents = [], []
    for _ in range(60):
        law = fit_power_law(SIZES, a_law(1.2, 30.0, 0.35) * np.exp(0.005 * rng.standard_normal(7)))
        assert law is not None
        held.append(
            law.floor_interval[0] <= 1.2 <= law.floor_interval[1]
            and law.exponent_interval[0] <= 0.35 <= law.exponent_interval[1]
        )
        exponents.append(law.exponent)
    assert np.mean(held) > 0.85
    assert np.median(exponents) == pytest.approx(0.35, abs=0.05)


def test_the_order_of_points_does_not_matter() -> None:
    losses = a_law(1.2, 30.0, 0.35) * np.array([1, 1.01, 0.99, 1, 1.01, 0.99, 1])
    order = np.random.default_rng(2).permutation(7)
    assert fit_power_law(SIZES, losses) == fit_power_law(SIZES[order], losses[order])


def test_what_has_no_law() -> None:
    assert fit_power_law(SIZES[:3], a_law(1.2, 30.0, 0.35)[:3]) is None, "too few points"
    assert fit_power_law([], []) is None
    assert fit_power_law(SIZES, np.full(7, 3.0)) is None, "it does not fall"
    assert fit_power_law(SIZES, np.linspace(2, 3, 7)) is None, "it rises"
    for x, losses in (([1, 2, 3], [1, 2]), ([0, 1, 2, 3], [4, 3, 2, 1]), ([1, 2, 3, 4], [4, 3, np.nan, 1])):
        with pytest.raises(UsageError):
            fit_power_law(x, losses)


# ---- Crossings ---------------------------------------------------------------------------------------


def test_where_two_curves_cross() -> None:
    # Differences -1, -1, +3: a quarter of the way from 100 to 1,000, in logarithms: 100 x 10^(1/4) = 177.8.
    (crossing,) = crossings([10, 100, 1000], [1, 1, 4], [2, 2, 1])
    assert crossing.x == pytest.approx(177.828, rel=1e-5)
    assert crossing.first_is_ahead_before
    assert crossing.interval is None
    assert not crossing.is_certain
    (other,) = crossings([10, 100, 1000], [2, 2, 1], [1, 1, 4])
    assert other.x == crossing.x
    assert not other.first_is_ahead_before


def test_a_crossing_at_a_point_counts_once() -> None:
    (crossing,) = crossings([10, 100, 1000], [1, 2, 3], [2, 2, 2])
    assert crossing.x == pytest.approx(100)
    assert crossings([10, 100, 1000], [1, 2, 1], [2, 2, 2]) == [], "touching is not crossing"
    assert crossings([10, 100, 1000], [2, 2, 1], [2, 2, 2]) == [], "nor is parting"
    assert crossings([10, 100], [2, 2], [2, 2]) == []


def test_several_crossings_come_in_order() -> None:
    found = crossings([1, 10, 100, 1000], [1, 3, 1, 3], [2, 2, 2, 2])
    # Half way each time: 10^0.5, 10^1.5, 10^2.5.
    np.testing.assert_allclose([crossing.x for crossing in found], [10**0.5, 10**1.5, 10**2.5])
    assert [crossing.first_is_ahead_before for crossing in found] == [True, False, True]


def test_the_interval_of_a_crossing_is_that_of_resamples() -> None:
    """The second curve is raised by s: the crossing moves to 10^(1.5 + s / 2), and s is even on -0.5 .. 0.5."""
    x, first, second = np.array([1.0, 1000.0]), np.array([1.0, 4.0]), np.array([2.5, 2.5])
    shifts = np.linspace(-0.5, 0.5, 1001)
    resampled = (np.tile(first, (1001, 1)), second + shifts[:, None])
    (crossing,) = crossings(x, first, second, resampled)
    assert crossing.x == pytest.approx(10**1.5)
    assert crossing.interval is not None
    # Differences -1.5 - s and 1.5 - s: at log10 x = 3 (1.5 + s) / 3 = 1.5 + s, and s from -0.475 to 0.475 is 95 %.
    assert crossing.interval[0] == pytest.approx(10**1.025, rel=5e-3)
    assert crossing.interval[1] == pytest.approx(10**1.975, rel=5e-3)
    assert crossing.is_certain


@pytest.mark.parametrize(("shift", "ends"), [(1.4, (10**2.5, math.inf)), (-1.4, (0.0, 10**0.5))])
def test_a_crossing_that_may_lie_outside_is_not_certain(shift: float, ends: tuple[float, float]) -> None:
    x, first, second = np.array([1.0, 1000.0]), np.array([1.0, 4.0]), np.array([2.5, 2.5])
    # Of 100 resamples 90 are shifted by a third of that, to cross at 10^(1.5 + shift / 3), and ten go outside.
    shifts = np.repeat([shift / 1.4, 2 * shift], [90, 10])
    resampled = (np.tile(first, (100, 1)), second + shifts[:, None])
    (crossing,) = crossings(x, first, second, resampled)
    assert crossing.interval == (pytest.approx(ends[0]), pytest.approx(ends[1]))
    assert not crossing.is_certain


def test_leaders() -> None:
    losses = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [4.0, 3.0, 1.0]])
    # The first until 100, where it meets the second; the third passes the second half way from 100 to 1,000.
    found = leaders([10, 100, 1000], losses)
    assert [row for _, row in found] == [0, 1, 2]
    np.testing.assert_allclose([x for x, _ in found], [10, 100, 10**2.5])
    assert leaders([10, 100], np.array([[1.0, 1.0], [2.0, 3.0]])) == [(pytest.approx(10), 0)]
