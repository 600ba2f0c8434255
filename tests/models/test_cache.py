"""The cache model: worked by hand, by a slow second implementation, over bands, saved and refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lmzoo import Predictor
from lmzoo.errors import ConfigurationError, SavedModelError, UnknownNameError
from lmzoo.models import mixing
from lmzoo.models.cache import CacheModel, cache
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

A, B, C = 1, 2, 3
DATA = toy_data(8)


def model_with(half_life: float, weights: Any, static: str = "uniform") -> CacheModel:
    model = cache(8, static=static, half_life=half_life).fit(DATA)
    return model.load_arrays({**model.arrays(), "weights": np.array(weights, np.float64)})


WEIGHTS = [[1, 0, 0], [0.6, 0.4, 0], [0.5, 0.3, 0.2]]


def test_worked_by_hand() -> None:
    """After "a b a" with a half-life of 1 token, the count of a is 1 + 1/4 and the count of b 1/2, in total 7/4.

    The last token, a, was followed by b before. The uniform model gives 1/8 to each token:
        p(a) = 0.5/8 + 0.3 (5/4)/(7/4) = 1/16 + 3/14,  p(b) = 1/16 + 0.3 (1/2)/(7/4) + 0.2,  p(c) = 1/16.
    """
    probs = model_with(1, WEIGHTS).predict_distribution([A, B, A]).probs
    assert probs[[A, B, C]] == pytest.approx([1 / 16 + 3 / 14, 1 / 16 + 3 / 35 + 0.2, 1 / 16])


def test_at_a_document_start_the_static_model_speaks_alone() -> None:
    model = model_with(5, WEIGHTS, static="unigram")
    for context in ([], [A, A, EOT]):
        np.testing.assert_allclose(model.predict_distribution(context).probs, model.static.predict_distribution().probs)


def test_with_one_token_only_the_unigram_cache_speaks() -> None:
    assert model_with(5, WEIGHTS).predict_distribution([C]).probs[[A, C]] == pytest.approx([0.6 / 8, 0.6 / 8 + 0.4])


def _slowly(ids: list[int], half_life: float) -> NDArray[np.float64]:
    """Returns the predictions (T, 8) of a cache model with a uniform static model, by the definition."""
    rows, document = [], []
    for token_id in ids:
        caches = []
        n = len(document)
        tokens: Counter[int] = Counter()
        pairs: Counter[int] = Counter()
        for place, seen in enumerate(document):
            weight = 2 ** (-(n - place) / half_life)
            tokens[seen] += weight  # type: ignore[assignment]
            if place and document[place - 1] == document[-1]:
                pairs[seen] += weight  # type: ignore[assignment]
        caches = [counts for counts in (tokens, pairs) if counts]
        row = np.full(8, WEIGHTS[len(caches)][0] / 8)
        for weight, counts in zip(WEIGHTS[len(caches)][1:], caches, strict=False):
            for seen, count in counts.items():
                row[seen] += weight * count / sum(counts.values())
        rows.append(row)
        document = [] if token_id == EOT else [*document, token_id]
    return np.array(rows)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.sampled_from([0.5, 3.0, 100.0]))
def test_equals_a_slow_and_simple_one(ids: list[int], half_life: float) -> None:
    model = model_with(half_life, WEIGHTS)
    expected = _slowly(ids, half_life)
    rows = np.concatenate([block for _, block in model.stream_log_probs(TokenStream(np.array(ids)))])
    np.testing.assert_allclose(np.exp(rows), expected, atol=1e-12)
    np.testing.assert_allclose(np.exp(model.log_probs(ids)), expected[np.arange(len(ids)), ids], atol=1e-12)


def test_long_documents_with_a_short_memory() -> None:
    """Counts that decayed for a thousand half-lives are 0 and never NaN, although 2^-1100 is no float64."""
    ids = np.array([A, B, *[C] * 2000, A, B, EOT, A])
    stats = model_with(1, WEIGHTS).token_stats(ids)
    assert np.isfinite(stats.log_probs).all()
    # After the second A, all weight of the pairs that begin with it is on B, however long ago that was.
    assert np.exp(stats.log_probs[-3]) == pytest.approx(0.5 / 8 + 0.2)


@pytest.mark.parametrize("static", ["uniform", "hmm", "ngram"])
def test_a_document_may_be_longer_than_a_band(static: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cache(8, static=static, half_life=4).fit(DATA)
    ids = np.concatenate([DATA.valid.ids, np.tile([A, B, C, B], 10)])
    whole = model.token_stats(ids)
    monkeypatch.setattr(mixing, "_BAND_ELEMENTS", 8 * 9)
    banded = model.token_stats(ids)
    np.testing.assert_allclose(banded.log_probs, whole.log_probs, atol=1e-6)
    np.testing.assert_allclose(banded.entropies, whole.entropies, atol=1e-6)


def test_weights_and_half_life_are_the_best_on_valid() -> None:
    """Uses documents that repeat three tokens for a while, and then three others."""
    rng = np.random.default_rng(0)
    spells = [rng.choice(rng.choice(np.arange(1, 30), 3, replace=False), 40) for _ in range(60)]
    documents = [np.concatenate(spells[first : first + 6]) for first in range(0, 60, 6)]
    stream = TokenStream.from_documents(documents)
    data = TrainingData(stream, stream)
    model = cache(30, static="unigram").fit(data)
    best = model.log_probs(stream).sum()
    assert best > model.static.log_probs(stream).sum() + 500
    assert 1.5 < model.half_life < 40
    for factor in (0.7, 1.5):
        other = cache(30, static="unigram", half_life=factor * model.half_life).fit(data)
        assert other.log_probs(stream).sum() < best
    for case, pair in ((1, (0, 1)), (2, (0, 1)), (2, (0, 2)), (2, (1, 2))):
        for step in (-0.05, 0.05):
            weights = model.weights.copy()
            weights[case, pair[0]] += step
            weights[case, pair[1]] -= step
            if (weights >= 0).all() and weights[case, 0] > 0:
                other = cache(30, static="unigram").load_arrays({**model.arrays(), "weights": weights})
                assert other.log_probs(stream).sum() < best + 0.5  # the pseudo-tokens change the best weights slightly


def test_impossible_tokens_do_not_disturb_the_tuning() -> None:
    train = TokenStream.from_documents([[1, 2, 1, 2, 3, 1]] * 3)
    valid = TokenStream.from_documents([[4, 1, 4, 2, 3, 3, 3, 1, 1]])  # no document begins with 4 in training
    static = {"species": "ngram", "settings": {"smoothing": "mle", "order": 2}}
    model = cache(5, static=static).fit(TrainingData(train, valid))

    def loss(half_life: float) -> float:
        log_probs = cache(5, static=static, half_life=half_life).fit(TrainingData(train, valid)).log_probs(valid)
        assert np.isneginf(log_probs[0])
        return -log_probs[np.isfinite(log_probs)].sum()

    assert loss(model.half_life) <= min(loss(1.1), loss(10), loss(1000)) + 1e-6
    assert np.isneginf(model.predict_distribution().log_probs[4])


@pytest.mark.parametrize(
    ("given", "tolerance"),
    [
        ({}, 1e-6),  # n-grams store their log-probabilities in single precision
        ({"static": "markov", "half_life": 0.5}, 1e-9),
        ({"static": {"species": "hmm", "settings": {"n_states": 3, "n_iterations": 3}}, "half_life": 1e5}, 1e-5),
        ({"static": {"species": "cache", "settings": {"static": "unigram"}}}, 1e-9),
    ],
    ids=str,
)
def test_caches_keep_the_laws(given: dict[str, Any], tolerance: float) -> None:
    assert cache(5, **given).adapts_on_test
    check_language_model(lambda vocab_size: cache(vocab_size, **given), tolerance=tolerance)


def test_cache_is_saved_and_loaded(corpus_folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.fit("cache", corpus_folder, tokenizer="bpe:300", static="markov")
    loaded = Predictor.load(predictor.save(tmp_path / "cache"))
    assert loaded.model.adapts_on_test
    assert loaded.surprisals("The cat saw the cat.") == predictor.surprisals("The cat saw the cat.")


def test_bad_settings_are_refused() -> None:
    for wrong in (0, -3, float("inf"), float("nan")):
        with pytest.raises(ConfigurationError, match="half_life must be a finite number above 0, or null to tune"):
            cache(5, half_life=wrong)
    with pytest.raises(UnknownNameError, match="unknown species 'ngrm': did you mean 'ngram'"):
        cache(5, static="ngrm")


@pytest.mark.parametrize(
    ("name", "wrong"), [("weights", np.zeros((3, 3))), ("weights", -np.eye(3)), ("half_life", np.array([np.nan]))]
)
def test_damaged_caches_are_refused(name: str, wrong: NDArray[np.float64]) -> None:
    arrays = cache(8, static="uniform").fit(DATA).arrays()
    with pytest.raises(SavedModelError, match="the saved cache model is damaged"):
        cache(8, static="uniform").load_arrays({**arrays, name: wrong})
