"""n-gram models next to nltk.lm and KenLM."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import nltk.lm
import numpy as np
import pytest
from arpa_files import kenlm_scores, log10_probs, needs_kenlm
from nltk.lm.preprocessing import padded_everygram_pipeline
from numpy.typing import NDArray

from lmzoo.models.ngram import NgramModel, ngram
from lmzoo.models.ngram.arpa import read_arpa
from lmzoo.models.ngram.methods import Discounting
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import toy_data

SINGLE = 1e-6  # log-probabilities are stored in single precision


def fitted(stream: TokenStream, vocab_size: int, valid: TokenStream | None = None, **args: Any) -> NgramModel:
    return ngram(vocab_size, **args).fit(TrainingData(stream, valid or stream))


def probs_after(model: NgramModel, *context: int) -> NDArray[np.float64]:
    return model.predict_distribution(context).probs


# ---- nltk.lm -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smoothing", "peer"), [("mle", nltk.lm.MLE), ("additive:0.3", lambda order: nltk.lm.Lidstone(0.3, order))]
)
def test_equals_nltk_where_nltk_is_right(smoothing: str, peer: Any) -> None:
    """Compares methods that use only the highest order, for which nltk is right.

    For other methods, nltk counts `<s>` as a unigram and does not smooth unigrams, and its Kneser-Ney gives words that
    do not occur in training the probability 0.
    """
    data = toy_data(8)
    theirs = peer(2)
    theirs.fit(*padded_everygram_pipeline(2, [list(map(str, ids[:-1].tolist())) for ids in data.train.documents()]))
    names = ["</s>", *map(str, range(1, 6))]
    assert set(theirs.vocab) == {"<s>", "<UNK>", *names}
    model = ngram(len(theirs.vocab), order=2, smoothing=smoothing).fit(data)
    for context in range(6):
        given_context = ["<s>" if context == EOT else str(context)]
        expected = [theirs.score(name, given_context) for name in names]
        np.testing.assert_allclose(probs_after(model, context)[:6], expected, rtol=SINGLE)


@pytest.mark.parametrize("discount", [0.75, 0.1])
def test_a_given_discount_is_that_of_nltk(discount: float) -> None:
    """Compares absolute discounting of order 2: nltk differs only in the unigrams (see above), which are replaced."""
    data = toy_data(8)
    theirs = nltk.lm.AbsoluteDiscountingInterpolated(2, discount=discount)
    theirs.fit(*padded_everygram_pipeline(2, [list(map(str, ids[:-1].tolist())) for ids in data.train.documents()]))
    model = ngram(8, order=2, smoothing=f"absolute:{discount}").fit(data)
    unigrams = np.exp(model.without_start().next_log_probs(model.without_start().initial_state()))
    names = ["</s>", *map(str, range(1, 6))]
    for context in range(6):
        given_context = ("<s>" if context == EOT else str(context),)
        parts = [theirs.estimator.alpha_gamma(name, given_context) for name in names]
        expected = [alpha + gamma * unigram for (alpha, gamma), unigram in zip(parts, unigrams, strict=False)]
        np.testing.assert_allclose(probs_after(model, context)[:6], expected, rtol=2 * SINGLE)


def test_without_a_start_as_in_nltk() -> None:
    """nltk's score(word, context) has no start, so it equals a prediction without a start (Witten-Bell, order 3)."""
    sentences = [["a", "b", "c"], ["a", "b", "c"], ["b", "d"]]
    theirs = nltk.lm.WittenBellInterpolated(3)
    theirs.fit(*padded_everygram_pipeline(3, sentences))
    names = ["</s>", "a", "b", "c", "d"]
    stream = TokenStream.from_documents([[names.index(word) for word in sentence] for sentence in sentences])
    model = fitted(stream, len(names), order=3, smoothing="witten-bell")
    unigrams = np.exp(model.without_start().next_log_probs(model.without_start().initial_state()))
    (alphas, gamma) = zip(*(theirs.estimator.alpha_gamma(name, ("b",)) for name in names), strict=True)
    expected = np.array(alphas) + gamma[0] * unigrams
    found = np.exp(model.without_start().predict_distribution([2]).log_probs)
    np.testing.assert_allclose(found, expected, rtol=2 * SINGLE)
    assert np.abs(probs_after(model, 2) - expected).max() > 0.1, "at the start of a document, b d </s> is a document"


# ---- KenLM ---------------------------------------------------------------------------------------


DATA = Path(os.environ.get("LMZOO_DATA", "")) / "brown-by-sentence"

SHAKESPEARE = DATA.parent / "tinyshakespeare.txt"

needs_brown = pytest.mark.skipif(
    not os.environ.get("LMZOO_DATA") or not DATA.is_dir(), reason="LMZOO_DATA has no brown-by-sentence"
)


@pytest.fixture(scope="module")
def brown() -> tuple[list[str], list[TokenStream]]:
    """Returns the words of Brown by their ids, and its splits train, valid and test."""
    ids = {"</s>": EOT, "<unk>": 1}  # KenLM adds <unk>, which does not occur in Brown
    streams = [
        TokenStream.from_documents(
            [ids.setdefault(word, len(ids)) for word in line.split()]
            for line in (DATA / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        )
        for split in ("train", "valid", "test")
    ]
    return list(ids), streams


@pytest.fixture(scope="module", params=[3, 5])
def kenlm_model(request: pytest.FixtureRequest, brown: tuple[list[str], list[TokenStream]]) -> NgramModel:
    """Returns the model that KenLM's `lmplz` estimated from the train split of Brown."""
    return read_arpa(DATA / f"kenlm-{request.param}.arpa.gz", brown[0])[1]


@needs_brown
@pytest.mark.slow
def test_equals_kenlm_on_brown(brown: tuple[list[str], list[TokenStream]], kenlm_model: NgramModel) -> None:
    """Compares every n-gram, probability and back-off weight, and the perplexity of the test sentences."""
    words, (train, valid, test) = brown
    model = fitted(train, len(words), valid, order=kenlm_model.order)
    expected, found = kenlm_model.arrays(), model.arrays()
    for name in ("levels", "tokens", "first_child", "suffixes"):
        np.testing.assert_array_equal(found[name], expected[name])
    for name in ("log_probs", "backoffs"):
        np.testing.assert_allclose(found[name][1:], expected[name][1:], rtol=0, atol=5e-6)
    assert round(math.exp(-model.log_probs(test).mean()), 1) == {3: 139.8, 5: 138.8}[model.order]


@needs_kenlm
@needs_brown
@pytest.mark.slow
def test_brown_scores_as_in_kenlm(brown: tuple[list[str], list[TokenStream]], kenlm_model: NgramModel) -> None:
    sentences = [
        line for split in ("test", "train") for line in (DATA / f"{split}.txt").read_text(encoding="utf-8").splitlines()
    ][:10_000]
    sentences[::9] = [f"{sentence} zyzzyva , the end" for sentence in sentences[::9]]
    expected = kenlm_scores(DATA / f"kenlm-{kenlm_model.order}.arpa.gz", sentences)
    np.testing.assert_allclose(log10_probs(kenlm_model, brown[0], sentences), expected, atol=1e-4)
    for state in [kenlm_model.initial_state(), *range(1, len(kenlm_model.arrays()["backoffs"]), 40_000)]:
        assert np.exp(kenlm_model.next_log_probs(state)).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(not SHAKESPEARE.is_file(), reason="LMZOO_DATA has no tinyshakespeare.txt")
@pytest.mark.parametrize(("order", "bits"), [(6, 2.197), (10, 2.196)])
def test_equals_kenlm_on_characters(order: int, bits: float) -> None:
    """Compares bits per character on one stream, split 90/10.

    KenLM needs --discount_fallback for this text, because no character is rare.
    """
    text = SHAKESPEARE.read_text(encoding="utf-8")
    letters = sorted(set(text))
    ids = 2 + np.searchsorted(letters, list(text))  # 0 and 1 are KenLM's </s> and <unk>
    train, valid = TokenStream(ids[: int(0.9 * len(ids))]), TokenStream(ids[int(0.9 * len(ids)) :])
    model = fitted(train, 2 + len(letters), order=order)
    assert model.parameters[0].tolist() == list(Discounting.FALLBACK)
    assert -model.log_probs(valid).mean() / math.log(2) == pytest.approx(bits, abs=1e-3)
