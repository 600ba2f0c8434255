"""Smoothing of n-gram models: worked by hand, and compared with the plain Python of `reference.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lmzoo.models.ngram import NgramModel, ngram, scoring, trigram
from lmzoo.models.ngram.counting.sorting import count_ngrams
from lmzoo.models.ngram.methods import Discounting, Katz
from lmzoo.models.ngram.names import SMOOTHINGS
from lmzoo.models.ngram.reference import Reference
from lmzoo.models.ngram.smoothing import counts_of_counts, estimate
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

A, B, NEVER = 1, 2, 3

SINGLE = 1e-6  # log-probabilities are stored in single precision

HAND_MADE = TokenStream.from_documents([[B, B, B], [A], [A], [A, B], [A]])


def fitted(stream: TokenStream, vocab_size: int, valid: TokenStream | None = None, **args: Any) -> NgramModel:
    return ngram(vocab_size, **args).fit(TrainingData(stream, valid or stream))


def probs_after(model: NgramModel, *context: int) -> NDArray[np.float64]:
    return model.predict_distribution(context).probs


# ---- Worked by hand ------------------------------------------------------------------------------


def test_modified_kneser_ney_worked_by_hand() -> None:
    """Computes modified Kneser-Ney of order 2 for the documents "b b b", "a", "a", "a b", "a".

    The vocabulary is {</s>, a, b, never}, where "never" does not occur.

    Bigrams: <s>a 4, a</s> 3, bb 2, b</s> 2, <s>b 1, ab 1. Two of them have count 1, two have count 2, one has 3 and one
    has 4:
        Y = 2 / (2 + 2*2) = 1/3,  D1 = 1 - 2/3 * 2/2 = 1/3,  D2 = 2 - 3/3 * 1/2 = 3/2,  D3 = 3 - 4/3 * 1/1 = 5/3.
    The count of a unigram is the number of different words before it: b 3 (<s> b a), </s> 2 (a b), a 1 (<s>), in total
    6:
        Y = 1/3,  D1 = 1 - 2/3 = 1/3,  D2 = 2 - 3/3 = 1,  D3 = 3 - 0 = 3.
    The discounts are (1/3 + 1 + 3) / 6 = 13/18 of the total, which is distributed over the four words:
        p(</s>) = (2-1)/6 + 13/18/4 = 25/72,  p(a) = (1-1/3)/6 + 13/72 = 21/72,  p(b) = 0 + 13/72,  p(never) = 13/72.
    After a (</s> 3 times, b once), the discounts are 5/3 + 1/3 = 2 of 4 counts, so p(w) has the weight 1/2:
        p(</s>|a) = (3-5/3)/4 + 25/144 = 73/144,  p(b|a) = (1-1/3)/4 + 13/144 = 37/144,
        p(a|a) = 21/144,  p(never|a) = 13/144.
    """
    model = fitted(HAND_MADE, 4, order=2)
    np.testing.assert_allclose(model.parameters, [[1 / 3, 1, 3], [1 / 3, 3 / 2, 5 / 3]], rtol=1e-12)
    np.testing.assert_allclose(probs_after(model, A), np.array([73, 21, 37, 13]) / 144, rtol=SINGLE)
    np.testing.assert_allclose(probs_after(model, NEVER), np.array([25, 21, 13, 13]) / 72, rtol=SINGLE)


def test_witten_bell_worked_by_hand() -> None:
    """Computes Witten-Bell smoothing of order 2.

    The text has 13 tokens, 3 of them different, and b occurs 4 times: p(b) = (4 + 3/4) / 16. The word a is followed by
    4 tokens, 2 of them different, and by b once: p(b|a) = (1 + 2 p(b)) / 6.
    """
    model = fitted(HAND_MADE, 4, order=2, smoothing="witten-bell")
    p_b = (4 + 3 / 4) / 16
    np.testing.assert_allclose(probs_after(model, NEVER)[B], p_b, rtol=SINGLE)
    np.testing.assert_allclose(probs_after(model, A)[B], (1 + 2 * p_b) / 6, rtol=SINGLE)


def test_katz_discounts_worked_by_hand() -> None:
    """Computes Katz' factors for 100, 40, 20, 12, 8 and 6 n-grams with the counts 1 .. 6.

    Counts above 5 are not discounted, so with x = 6 t_6 / t_1 = 0.36,
    d_1 = (2*40/100 - 0.36) / 0.64 = 0.6875,  d_2 = (3*20/80 - 0.36) / 0.64 = 0.609375, and so on.
    """
    t = [100, 40, 20, 12, 8, 6]
    counts = np.repeat(np.arange(1, 7), t).astype(np.int32)
    expected = [((r + 1) * t[r] / (r * t[r - 1]) - 0.36) / 0.64 for r in range(1, 6)]
    assert expected[:2] == pytest.approx([0.6875, 0.609375])
    assert Katz()._factors(counts_of_counts(counts)).tolist() == pytest.approx(expected)
    left_over = counts.sum() - (counts * np.array([0, *expected, 1])[counts]).sum()
    assert left_over == pytest.approx(t[0])  # Good-Turing: the left-over count is the number of n-grams of count 1


def test_discounts_fall_back_order_by_order() -> None:
    # Every bigram comes once: no t2. The continuations are a 3 (<s> a b), b 2 (a b), </s> 1 (a): one of each count.
    model = fitted(TokenStream.from_documents([[A, A, B, B, A]]), 4, order=2)
    np.testing.assert_allclose(model.parameters, [[1 / 3, 1, 3], Discounting.FALLBACK])


def test_a_back_off_model_discounts_no_count_to_zero() -> None:
    # No unigram of HAND_MADE has the count 4, so the equation gives D3 = 3, and "b" has the count 3.
    assert fitted(HAND_MADE, 4, order=2).parameters[0].tolist() == pytest.approx([1 / 3, 1, 3])
    model = fitted(HAND_MADE, 4, order=2, smoothing="kneser-ney-backoff")
    assert tuple(model.parameters[0]) == Discounting.FALLBACK
    assert np.isfinite(model.next_log_probs_after([[], [A], [B], [NEVER]])).all()


class WithDiscounts(Reference):
    """The reference implementation with the discounts that are given as parameters."""

    def _discounts(self, order: int) -> Sequence[float]:
        return 0, *self.parameters[order - 1]


@pytest.mark.parametrize(
    ("smoothing", "discounts"),
    [
        ("absolute:0.75", (0.75, 0.75, 0.75)),
        ("kneser-ney-1995:0.1", (0.1, 0.1, 0.1)),
        ("kneser-ney-1995-interpolated:.25", (0.25, 0.25, 0.25)),
        ("kneser-ney:0.75", (0.75, 0.75, 0.75)),
        ("kneser-ney:0.5,1,1.5", (0.5, 1.0, 1.5)),
        ("kneser-ney-backoff:0.4,1.2,2.9", (0.4, 1.2, 2.9)),
    ],
)
def test_discounts_that_are_given(smoothing: str, discounts: tuple[float, ...]) -> None:
    data = toy_data(6)
    model = ngram(6, order=3, smoothing=smoothing).fit(data)
    assert model.parameters.tolist() == [list(discounts)] * 3
    assert model.largest_sum_error() < 1e-5
    documents = [document.tolist() for document in data.train.documents()]
    plain = WithDiscounts(documents, range(6), 3, smoothing.partition(":")[0], model.parameters.tolist())
    for context in ([], [2], [3, 4], [5, 5]):
        expected = [plain.prob((EOT, *context), token) for token in range(6)]
        np.testing.assert_allclose(probs_after(model, *context), expected, atol=SINGLE)


def test_characters_at_a_high_order() -> None:
    """Distributions sum to 1 although every token follows each context of a lower order, so that none backs off."""
    rng = np.random.default_rng(0)
    stream = TokenStream.from_documents(rng.integers(1, 6, (40, 60)))
    model = fitted(stream, 6, order=12)
    for context in ([1], [1, 2], [1, 2, 3, 4, 5] * 3):
        np.testing.assert_allclose(
            np.exp(model.next_log_probs(model.state_after(np.array(context)))).sum(), 1, atol=1e-12
        )


# ---- The reference implementation ----------------------------------------------------------------


def reference_of(model: NgramModel, stream: TokenStream, smoothing: str) -> Reference:
    documents = [document.tolist() for document in stream.documents()]
    return Reference(documents, range(model.vocab_size), model.order, smoothing, model.parameters.tolist())


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_every_smoothing_equals_a_second_implementation(smoothing: str, order: int) -> None:
    data = toy_data(8)
    model = ngram(8, order=order, smoothing=smoothing).fit(data)
    plain = reference_of(model, data.train, smoothing)
    rng = np.random.default_rng(1)
    seen = [data.train.ids[i : i + order - 1].tolist() for i in range(0, 200, 14)]
    for context in [*(c for c in seen if EOT not in c), *rng.integers(1, 8, (10, order)).tolist(), [], [1]]:
        expected = [plain.prob((EOT, *context), token) for token in range(8)]
        np.testing.assert_allclose(probs_after(model, *context), expected, atol=SINGLE, err_msg=f"after {context}")


@pytest.mark.parametrize(
    ("smoothing", "order"), [*((smoothing, 3) for smoothing in SMOOTHINGS), *(("kneser-ney", k) for k in (1, 2, 12))]
)
def test_every_smoothing_and_order_keeps_every_law(smoothing: str, order: int) -> None:
    check_language_model(
        lambda vocab_size: ngram(vocab_size, order=order, smoothing=smoothing),
        tolerance=SINGLE,
        nonzero_probabilities=smoothing != "mle",
    )


# ---- Parameters learned on the validation set ----------------------------------------------------


def test_jelinek_mercer_weights_make_the_valid_split_most_likely() -> None:
    """Every change of a weight lowers the likelihood, including the two additional tokens per weight."""
    data = toy_data(12, n_documents=300)
    model = trigram(12).fit(data)
    counted = count_ngrams(data.train, 12, 3)

    def objective(parameters: NDArray[np.float64]) -> float:
        weights = estimate(counted, model.smoothing, parameters)
        likelihood = scoring.Matcher(counted.trie).log_probs(data.valid.ids, weights).sum()
        return float(likelihood + np.log(parameters * (1 - parameters)).sum())

    best = objective(model.parameters)
    for index in np.ndindex(model.parameters.shape):
        for odds in (0.6, 1.6):
            changed = model.parameters.copy()
            changed[index] *= odds / (1 - changed[index] + odds * changed[index])
            assert objective(changed) < best, f"weight {index} times {odds}"
    assert len(np.unique(model.parameters.round(3))) > 10


def test_tuned_discounts_make_the_valid_split_most_likely() -> None:
    """Every change of a discount that is not at its bounds lowers the likelihood."""
    data = toy_data(12, n_documents=300)
    model = ngram(12, order=3, smoothing="kneser-ney-tuned").fit(data)
    counted = count_ngrams(data.train, 12, 3)

    def likelihood(parameters: NDArray[np.float64]) -> float:
        weights = estimate(counted, model.smoothing, parameters)
        return float(scoring.Matcher(counted.trie).log_probs(data.valid.ids, weights).sum())

    best, worse = likelihood(model.parameters), 0
    for index in np.ndindex(model.parameters.shape):
        if 0.03 < model.parameters[index] < index[1] + 0.97:
            for step in (-0.02, 0.02):
                changed = model.parameters.copy()
                changed[index] += step
                moved = likelihood(changed)
                assert moved < best + 1e-9, f"discount {index} {step:+}"
                worse += moved < best
    assert worse >= 8
    assert best > likelihood(ngram(12, order=3).fit(data).parameters)


def test_undefined_discounts_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="lmzoo"):
        once = TokenStream.from_documents([[1, 2, 3]])
        ngram(5, order=2).fit(TrainingData(once, once))
    assert [record.getMessage() for record in caplog.records] == [
        "the text has too few rare n-grams of order 1, 2 to estimate their discounts: 0.5, 1.0, 1.5 are used, as by "
        "lmplz with --discount_fallback"
    ]
