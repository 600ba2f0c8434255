"""The Distribution class: arithmetic, temperature and truncation, sampling, display."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from lmzoo import Distribution
from lmzoo.distribution import most_likely
from lmzoo.errors import ConfigurationError, TokenIdError
from lmzoo.generation import Decoding

weights = st.lists(st.floats(0.001, 1000), min_size=1, max_size=60)


def distribution(*probs: float) -> Distribution:
    return Distribution(np.log(probs))


def test_entropy_and_probabilities_by_hand() -> None:
    d = distribution(0.5, 0.25, 0.25)
    # 0.5 * 1 bit + 2 * 0.25 * 2 bits = 1.5 bits
    assert d.entropy() / math.log(2) == pytest.approx(1.5)
    assert d.prob(1) == pytest.approx(0.25)
    assert d.log_prob(0) == pytest.approx(math.log(0.5))
    assert len(d) == 3
    assert np.asarray(d).sum() == pytest.approx(1)


def test_top_breaks_ties_by_id() -> None:
    assert [token_id for token_id, _ in distribution(0.2, 0.3, 0.2, 0.3).top(4)] == [1, 3, 0, 2]
    many = Distribution(np.zeros(100))
    assert [token_id for token_id, _ in many.top(3)] == [0, 1, 2]


@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 100))
def test_the_most_likely_tokens_are_those_of_a_sort(size: int, k: int, seed: int) -> None:
    """Also if many tokens are equally likely or impossible, and whatever the size of the vocabulary."""
    rng = np.random.default_rng(seed)
    log_probs = rng.normal(size=size).round(1)
    log_probs[1 : rng.integers(1, size + 1)] = -np.inf
    expected = sorted(range(size), key=lambda token_id: (-log_probs[token_id], token_id))[:k]
    assert most_likely(log_probs, k).tolist() == expected


def test_top_p_keeps_the_fewest_tokens_whose_sum_reaches_p() -> None:
    d = distribution(0.5, 0.3, 0.15, 0.05)
    assert np.flatnonzero(np.asarray(d.top_p(0.5))).tolist() == [0]
    assert np.flatnonzero(np.asarray(d.top_p(0.51))).tolist() == [0, 1]
    np.testing.assert_allclose(d.top_p(0.8).probs[:2], [0.5 / 0.8, 0.3 / 0.8])
    assert np.flatnonzero(np.asarray(d.top_p(0.96))).tolist() == [0, 1, 2, 3]
    # 0.1 + 0.1 + 0.1 is above 0.3 in floating-point numbers, and 0.7 + 0.2 below 0.9.
    assert np.count_nonzero(distribution(*[0.1] * 10).top_p(0.3).probs) == 3
    assert np.count_nonzero(distribution(0.7, 0.2, 0.1).top_p(0.9).probs) == 2


def test_min_p_is_relative_to_the_largest_probability() -> None:
    d = distribution(0.5, 0.3, 0.15, 0.05)
    assert np.flatnonzero(np.asarray(d.min_p(0.25))).tolist() == [0, 1, 2]  # at least 0.125


def test_temperature_by_hand() -> None:
    # squared and renormalised: 0.64 / 0.68, 0.04 / 0.68
    np.testing.assert_allclose(distribution(0.8, 0.2).tempered(0.5).probs, [0.64 / 0.68, 0.04 / 0.68])
    np.testing.assert_allclose(distribution(0.2, 0.8).tempered(0).probs, [0, 1])
    np.testing.assert_allclose(distribution(0.2, 0.8).tempered(1e-300).probs, [0, 1])


@given(weights, st.floats(0.05, 5), st.floats(0.01, 1), st.floats(0, 1), st.integers(1, 70))
def test_transforms_return_distributions(
    values: list[float], temperature: float, top_p: float, min_p: float, top_k: int
) -> None:
    d = Distribution(np.log(values))
    best = d.top(1)[0][0]
    for changed in (d.tempered(temperature), d.top_p(top_p), d.min_p(min_p), d.top_k(top_k)):
        assert changed.probs.sum() == pytest.approx(1)
        assert changed.probs[best] == pytest.approx(changed.probs.max())
    assert np.count_nonzero(d.top_k(top_k).probs) == min(top_k, len(values))
    decoded = Decoding(temperature, top_k, top_p, min_p)(d)
    assert decoded.probs.sum() == pytest.approx(1)


def test_samples_follow_the_distribution() -> None:
    d = distribution(0.1, 0.2, 0.3, 0.4)
    rng = np.random.default_rng(0)
    drawn = np.bincount([d.sample(rng) for _ in range(4000)], minlength=4)
    assert chisquare(drawn, d.probs * 4000).pvalue > 1e-4


def test_tokens_of_probability_0_are_never_sampled() -> None:
    d = Distribution([-np.inf, 0.0, -np.inf])
    assert {d.sample(np.random.default_rng(seed)) for seed in range(50)} == {1}
    assert str(d.entropy()) == "0.0"  # not -0.0


def test_is_immutable() -> None:
    d = distribution(0.5, 0.5)
    with pytest.raises(AttributeError):
        d.log_probs = np.zeros(2)  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        d.log_probs[0] = 0


@pytest.mark.parametrize("bad", [[], [[0.0]], [math.nan, 0.0], [-math.inf, -math.inf], [math.inf, 0.0]])
def test_wrong_log_probs_are_refused(bad: list[float]) -> None:
    with pytest.raises(ConfigurationError):
        Distribution(bad)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": math.nan},
        {"temperature": -1},
        {"temperature": math.inf},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"min_p": -0.1},
        {"min_p": math.nan},
    ],
)
def test_wrong_decoding_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="must be"):
        Decoding(**settings)  # type: ignore[arg-type]


def test_ids_outside_the_vocabulary_are_named() -> None:
    with pytest.raises(TokenIdError, match="token id 2 is outside the vocabulary of 2"):
        distribution(0.5, 0.5).prob(2)
    with pytest.raises(TokenIdError):
        distribution(0.5, 0.5).prob(-1)


def test_display_shows_the_text_of_tokens_and_escapes_it() -> None:
    d = distribution(0.5, 0.3, 0.2).with_token_text(["<b>", "x", "y"].__getitem__)
    assert repr(d) == "<Distribution over 3 tokens, entropy 1.49 bits, top <b>: 0.500, x: 0.300, y: 0.200>"
    page = d.top_k(2)._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "62.50 %" in page
    assert page.count("<tr>") == 2, "impossible tokens are not shown"
    assert "0: 0.500" in repr(distribution(0.5, 0.5))
