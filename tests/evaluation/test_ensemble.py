"""Mixtures of models, from what they gave each token."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmzoo.evaluation.ensemble import dynamically_mixed, evaluate_ensemble, learn_share, mixed
from lmzoo.evaluation.gate import ModelScores
from lmzoo.evaluation.statistics import ResamplingUnits


def test_mixtures_by_hand() -> None:
    log_probs = np.log([[0.5, 0.1], [0.1, 0.4]])
    np.testing.assert_allclose(np.exp(mixed(log_probs, np.log([[0.75], [0.25]]))), [0.4, 0.175])  # .375 + .025, ...
    # The first token has shares 0.25 and 0.05, 5/6 and 1/6 of their sum; a tenth goes back to halves: 0.8 and 0.2.
    first, second = np.exp(dynamically_mixed(log_probs, np.array([0.5, 0.5]), 0.1))
    assert first == pytest.approx(0.3)
    assert second == pytest.approx(0.8 * 0.1 + 0.2 * 0.4)


@pytest.mark.slow
def test_weights_that_follow_find_the_model_that_is_right_now() -> None:
    """Each of two models is right on half of a text: soon after the change, dynamic weights favour the other model."""
    right, wrong, n = math.log(0.5), math.log(0.25), 60_000
    log_probs = np.array([[right] * n + [wrong] * n, [wrong] * n + [right] * n])
    halves = np.array([0.5, 0.5])
    forgotten = learn_share(log_probs, halves)
    assert 0 < forgotten < 0.05
    found = dynamically_mixed(log_probs, halves, forgotten)
    assert found[n - 100 : n].mean() > right - 0.05
    assert found[n + 50 : n + 150].mean() > right - 0.05
    assert mixed(log_probs, np.log(halves)[:, None]).mean() == pytest.approx(math.log(0.375))


def test_where_models_take_turns_at_random_nothing_is_to_be_remembered() -> None:
    turn = np.random.default_rng(0).random(20_000) < 0.5
    log_probs = np.log(np.where([turn, ~turn], 0.5, 0.25))
    assert learn_share(log_probs, np.array([0.5, 0.5])) > 0.9


def test_ablations() -> None:
    """One model predicts half of the tokens, one predicts the others, and the third adds nothing to the two."""
    rng = np.random.default_rng(0)
    known = rng.random((2, 4000)) < 0.5
    known[1] = ~known[0]
    useful = np.where(known, math.log(0.5), math.log(0.02))
    log_probs = np.vstack([useful, np.full(4000, math.log(0.01))])
    uninformative = np.zeros((3, 2000))
    valid, test = (
        ModelScores(part, uninformative, uninformative, np.arange(0, 2000, 20))
        for part in (log_probs[:, :2000], log_probs[:, 2000:])
    )
    found = evaluate_ensemble(
        ["a", "b", "useless"],
        valid,
        test,
        np.ones(2000),
        ResamplingUnits(np.arange(0, 2000, 20), ""),
    )
    assert found is not None
    np.testing.assert_allclose(found.constant_weights, [0.5, 0.5, 0], atol=0.03)
    np.testing.assert_allclose(found.weights, [0.5, 0.5, 0], atol=0.03)
    mixture, single, constant = 0, 1, 2
    assert found.comparison.losses[constant] == pytest.approx(-math.log2(0.26), abs=0.02)
    assert found.comparison.losses[mixture] == pytest.approx(-math.log2(0.26), abs=0.02)
    assert found.comparison.is_significant(mixture, single)
    assert found.comparison.differences[found.ablation(0), mixture] > 1
    assert abs(found.comparison.differences[found.ablation(2), mixture]) < 0.01
