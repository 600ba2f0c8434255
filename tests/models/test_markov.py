"""Floors and Markov chain against arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lmzoo import TokenStream, TrainingData, zoo
from lmzoo.errors import ConfigurationError

# Two documents "1 2 1" and "1 2" over V = 4: pairs (from = EOT at a start) 0>1 twice, 1>2 twice, 2>1, 1>0, 2>0.
STREAM = TokenStream(np.array([1, 2, 1, 0, 1, 2, 0]))
DATA = TrainingData(STREAM, STREAM)


def test_unigram_by_hand() -> None:
    model = zoo.create("unigram", 4, alpha=0.5).fit(DATA)
    # counts 2, 3, 2, 0 of 7 tokens; with 0.5 added to each of 4: 9 in all
    np.testing.assert_allclose(model.predict_distribution([2]).probs, np.array([2.5, 3.5, 2.5, 0.5]) / 9)


def test_uniform_is_one_over_v() -> None:
    np.testing.assert_allclose(zoo.create("uniform", 4).fit(DATA).predict_distribution().probs, 0.25)


def test_markov_by_hand() -> None:
    model = zoo.create("markov", 4, alpha=2.0).fit(DATA)
    # unigram with 1 added: (3, 4, 3, 1) / 11; after 1: counts (1, 0, 2, 0) of 3, prior of weight 2
    unigram = np.array([3, 4, 3, 1]) / 11
    np.testing.assert_allclose(model.predict_distribution([1]).probs, (np.array([1, 0, 2, 0]) + 2 * unigram) / 5)
    np.testing.assert_allclose(model.predict_distribution().probs, (np.array([0, 2, 0, 0]) + 2 * unigram) / 4)
    np.testing.assert_allclose(model.predict_distribution([3]).probs, unigram)  # never seen: the prior alone


def test_tuned_alpha_is_the_best_on_valid() -> None:
    rng = np.random.default_rng(0)
    train = TokenStream.from_documents(rng.integers(1, 20, (30, 20)))
    valid = TokenStream.from_documents(rng.integers(1, 20, (10, 20)))
    tuned = zoo.create("markov", 20).fit(TrainingData(train, valid)).log_probs(valid).sum()
    for alpha in (0.1, 1.0, 10.0, 100.0, 1e4):
        assert (
            tuned >= zoo.create("markov", 20, alpha=alpha).fit(TrainingData(train, valid)).log_probs(valid).sum() - 1e-3
        )


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf")])
def test_senseless_alpha(alpha: float) -> None:
    with pytest.raises(ConfigurationError, match="alpha must be a finite number above 0, or null to tune it"):
        zoo.create("markov", 4, alpha=alpha)
