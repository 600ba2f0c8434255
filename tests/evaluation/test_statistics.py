"""Intervals and tests: where the truth is known, they hold it about as often as they say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from lmzoo.evaluation.statistics import (
    PairedComparison,
    ResamplingUnits,
    _holm,
    _sign_flip_p_values,
    compare_pairs,
    resampling_units,
)
from lmzoo.stream import TokenStream

TRUTH = 2.0
"""Bits for each byte that models of the tests below need in the long run."""


def text(rng: np.random.Generator, n_models: int, n_documents: int = 100) -> tuple[NDArray[np.float64], ...]:
    """Log-probs (S, D) and bytes (D,) of documents of one token each: long and short, easy and hard for all models."""
    sizes = rng.lognormal(5, 0.7, n_documents)
    hardness = rng.normal(0, 0.3, n_documents) + rng.normal(0, 0.1, (n_models, n_documents))
    return -math.log(2) * sizes * (TRUTH + hardness), sizes


def of_documents(log_probs: NDArray[np.float64], sizes: NDArray[np.float64], **more: int) -> PairedComparison:
    found = compare_pairs(log_probs, sizes, ResamplingUnits(np.arange(len(sizes)), "documents"), **more)
    assert found is not None
    return found


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng, n, held, of_difference = np.random.default_rng(0), 500, 0, 0
    for _ in range(n):
        found = of_documents(*text(rng, 2), n_resamples=400)
        low, high = found.intervals[0]
        held += low < TRUTH < high
        low, high = found.difference_intervals[0, 1]
        of_difference += low < 0 < high
    # Over thousands of such texts 93 %: so few documents of unequal length cost the bootstrap two. The share of 500 has
    # a standard deviation of 1.1 %.
    assert 0.90 < held / n < 0.97
    assert 0.90 < of_difference / n < 0.97


def test_equal_models_seldom_differ_significantly() -> None:
    """Of the six pairs of four equal models, a pair differs significantly in at most about 5 % of all texts."""
    rng, n, alarms = np.random.default_rng(1), 400, 0
    for _ in range(n):
        found = of_documents(*text(rng, 4), n_resamples=400)
        alarms += any(found.is_significant(a, b) for a, b in itertools.combinations(range(4), 2))
    assert alarms / n < 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / n)
    assert alarms, "a test that never raises an alarm tells nothing apart either"


def test_a_better_model_is_found_out() -> None:
    log_probs, sizes = text(np.random.default_rng(2), 2, 200)
    log_probs[1] *= 1.05
    found = of_documents(log_probs, sizes)
    assert found.is_significant(0, 1)
    assert found.differences[0, 1] == pytest.approx(found.losses[0] - found.losses[1])
    low, high = found.difference_intervals[0, 1]
    assert low < found.differences[0, 1] < high < 0
    np.testing.assert_allclose(found.difference_intervals[1, 0], [-high, -low])


def test_the_same_model_twice() -> None:
    log_probs, sizes = text(np.random.default_rng(3), 1)
    found = of_documents(np.concatenate([log_probs, log_probs]), sizes, n_resamples=200)
    assert not found.is_significant(0, 1)
    assert found.p_values[0, 1] == 1
    assert found.difference_intervals[0, 1].tolist() == [0, 0]
    low, high = found.intervals[0]
    assert low < found.losses[0] < high


def test_one_figure_by_hand() -> None:
    # Documents of tokens 0-1 and 2: log2 probabilities -1 -3 and -2, 2 + 2 bytes and 1 byte: 6 bits of 5 bytes.
    log_probs = math.log(2) * np.array([[-1.0, -3.0, -2.0]])
    found = compare_pairs(
        log_probs, np.array([2.0, 2.0, 1.0]), ResamplingUnits(np.array([0, 2]), "documents"), n_resamples=50
    )
    assert found is not None
    assert found.losses == pytest.approx([6 / 5])
    # a draw has the first document twice (4 bits of 4 bytes), both, or the second twice (2 bits of 1 byte)
    low, high = found.intervals[0]
    assert (low, high) == (1, 2)


def test_sign_flip_p_values_by_hand() -> None:
    # Of the 8 signs of 1, 2, 3 two have a sum of 6 or -6; of -1, 2, 3 the sum 4 is reached by 4 (4, 6 and mirrors).
    found = _sign_flip_p_values(np.array([[1.0, 2.0, 3.0], [-1.0, 2.0, 3.0]]), 20_000)
    np.testing.assert_allclose(found, [2 / 8, 4 / 8], atol=0.01)
    # All of 40 ones have the same sign in 2 of 2^40 flips, which nobody draws; Hoeffding's bound is 2 exp(-40 / 2).
    assert _sign_flip_p_values(np.ones((1, 40)), 200)[0] == pytest.approx(2 * math.exp(-20))


def test_many_different_models_all_differ_significantly() -> None:
    """Holm's correction multiplies the smallest p-value of 780 pairs by 780; sign flips alone cannot be so small."""
    log_probs, sizes = text(np.random.default_rng(4), 40)
    log_probs *= np.linspace(1, 3, 40)[:, None] / np.mean(log_probs, axis=1, keepdims=True) * log_probs[0].mean()
    found = of_documents(log_probs, sizes, n_resamples=400)
    assert all(found.is_significant(a, b) for a, b in itertools.combinations(range(40), 2) if b - a > 5)


def test_holm_by_hand() -> None:
    # 0.01 counts 4 times, 0.02 3 times, 0.03 twice but no less than the one before, 0.9 once.
    np.testing.assert_allclose(_holm(np.array([0.03, 0.9, 0.01, 0.02])), [0.06, 0.9, 0.04, 0.06])
    assert _holm(np.array([0.5, 0.4])).tolist() == [0.8, 0.8]
    assert _holm(np.array([0.8, 0.9])).tolist() == [1, 1]


def test_what_is_drawn() -> None:
    def stream(n_documents: int, n_tokens: int) -> TokenStream:
        return TokenStream.from_documents([[1] * n_tokens] * n_documents)

    documents = stream(100, 4)
    assert resampling_units(documents).starts.tolist() == documents.starts.tolist()
    assert resampling_units(documents).description == "100 documents"
    many = resampling_units(stream(2500, 1))
    assert many.starts[:4].tolist() == [0, 4, 10, 14]  # documents 0, 2.5, 5, 7.5 of two tokens each
    assert many.description == "1,000 groups of neighbouring documents"
    assert resampling_units(stream(10, 4)).description == "10 documents"
    assert resampling_units(stream(9, 4)).description.startswith("2 segments (too few documents")
    one = resampling_units(stream(1, 999))
    assert one.starts.tolist() == [20 * i for i in range(50)]
    assert one.description.startswith("50 segments (too few documents: intervals cover this text only")
    assert compare_pairs(np.zeros((1, 5)), np.ones(5), resampling_units(stream(1, 4))) is None
