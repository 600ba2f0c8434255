"""Losses by kind of token, calibration and disagreements, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lmzoo.errors import UsageError
from lmzoo.probes.breakdown import (
    Group,
    Passage,
    by_frequency,
    by_novelty,
    by_position,
    by_tag,
    calibration,
    calibration_error,
    disagreements,
    is_new,
)
from lmzoo.stream import EOT, TokenStream

STREAM = TokenStream(np.array([1, 2, 1, EOT, 2, 2, 3, EOT]))
LOG_PROBS = -np.arange(1.0, 9)
"""Each token costs its place, from 1."""
COUNTS = np.array([20, 0, 5, 10])


def same(found: list[Group], *expected: tuple[str, int, float, float | None]) -> None:
    assert [(one.name, one.n) for one in found] == [one[:2] for one in expected]
    for one, (_, _, nats, error) in zip(found, expected, strict=True):
        assert one.nats == pytest.approx(nats)
        assert one.error == (error if error is None else pytest.approx(error))


# ---- Groups ------------------------------------------------------------------------------------------


def test_by_position() -> None:
    """First tokens cost 1 and 5: 3 +- 2, as of any two numbers. The others cost 9 and 21 in their documents, of 3 each:
    mean 5, residuals -6 and 6, and sqrt(2 / 1 * 72) / 6 = 2."""
    same(by_position(STREAM, LOG_PROBS), ("0", 2, 3, 2), ("1–3", 6, 5, 2))
    deep = by_position(TokenStream(np.ones(300, np.int64)), np.zeros(300))
    assert [(one.name, one.n) for one in deep] == [("0", 1), ("1–3", 3), ("4–15", 12), ("16–63", 48), ("64–255", 192),
                                                   ("256–1,023", 44)]  # fmt: skip


def test_by_frequency() -> None:
    """Token 1 was never seen, and costs 1 and 3, in one document. Token 2 costs 2 | 5 + 6: mean 13/3, residuals -7/3
    and 11 - 26/3 = 7/3, error sqrt(2 * 98/9) / 3 = 14/9. Token 3 and the ends cost 4 | 7 + 8: mean 19/3, same error."""
    same(
        by_frequency(STREAM, LOG_PROBS, COUNTS),
        ("0", 2, 2, None),
        ("1–9", 3, 13 / 3, 14 / 9),
        ("10–99", 3, 19 / 3, 14 / 9),
    )
    steps = [0, 1, 9, 10, 99, 100, 999, 1000, 9999, 10_000, 10**6]
    often = by_frequency(TokenStream(np.arange(11)), np.zeros(11), np.array(steps))
    names = ["0", "1–9", "10–99", "100–999", "1,000–9,999", "10,000 or more"]
    assert [(one.name, one.n) for one in often] == list(zip(names, [1, 2, 2, 2, 2, 2], strict=True))


def test_by_novelty() -> None:
    assert is_new(STREAM).tolist() == [True, True, False, True, True, False, True, True]
    same(
        by_novelty(STREAM, LOG_PROBS, COUNTS),
        ("first, 0", 1, 1, None),
        ("first, 1–9", 2, 3.5, 1.5),  # 2 and 5
        ("first, 10–99", 3, 19 / 3, 14 / 9),
        ("repeated, 0", 1, 3, None),
        ("repeated, 1–9", 1, 6, None),
    )


def test_by_tag() -> None:
    tags = np.array(["a", "b", "a", "end", "b", "b", "c", "end"])
    same(
        by_tag(STREAM, LOG_PROBS, tags),
        ("b", 3, 13 / 3, 14 / 9),
        ("a", 2, 2, None),
        ("end", 2, 6, 2),  # 4 and 8
        ("c", 1, 7, None),
    )


def test_errors_are_those_of_means_over_documents() -> None:
    """A thousand times the same study: its means differ as much as the error of one says, though tokens are alike."""
    rng = np.random.default_rng(0)
    stream = TokenStream(np.tile([1, 1, 1, 1, EOT], 40))
    found = []
    for _ in range(1000):
        nats = np.repeat(rng.exponential(size=40), 5) + rng.exponential(size=200)
        (group,) = by_tag(stream, -nats, np.full(200, "all"))
        found.append((group.nats, group.error))
    means, errors = np.array(found, float).T
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)
    assert np.std(means) > 1.5 * np.sqrt(2 / 200), "else tokens are as good as independent, and this shows nothing"


def test_nothing_has_no_groups() -> None:
    nothing = TokenStream(np.empty(0, np.int32))
    assert by_position(nothing, np.empty(0)) == []
    assert by_novelty(nothing, np.empty(0), COUNTS) == []
    assert calibration(nothing, np.empty(0), np.empty(0, np.bool_)) == []
    assert calibration_error([]) == 0
    assert disagreements(nothing, np.empty(0), np.empty(0)) == []


# ---- Calibration -------------------------------------------------------------------------------------


def test_calibration_by_hand() -> None:
    """Guesses of 0.2 and 0.4, of which one was right, and six of 0.6 to 1, of which four were: mean 4.8 / 6 = 0.8."""
    confidence = np.array([0.2, 0.4, 0.6, 0.7, 0.8, 0.8, 0.9, 1.0])
    hits = np.array([True, False, True, False, True, True, False, True])
    low, high = calibration(STREAM, np.log(confidence), hits, n_bins=2)
    # Of the second bin, the first document has 1 of 2 right, and the second 3 of 4, where 4/3 and 8/3 are expected:
    # residuals -1/3 and 1/3, error sqrt(2 * 2/9) / 6 = 1/9.
    assert (low.n, low.confidence, low.accuracy, low.error) == (2, pytest.approx(0.3), 0.5, None)
    assert (high.n, high.confidence, high.accuracy) == (6, pytest.approx(0.8), pytest.approx(2 / 3))
    assert high.error == pytest.approx(1 / 9)
    assert calibration_error([low, high]) == pytest.approx((2 * 0.2 + 6 * (0.8 - 2 / 3)) / 8)
    with pytest.raises(UsageError, match="n_bins"):
        calibration(STREAM, np.log(confidence), hits, n_bins=0)


def test_a_calibrated_model_and_one_that_is_too_sure() -> None:
    rng = np.random.default_rng(0)
    stream = TokenStream(np.tile([1] * 99 + [EOT], 2000))
    confidence = rng.uniform(0.05, 1, len(stream))
    bins = calibration(stream, np.log(confidence), rng.random(len(stream)) < confidence)
    assert calibration_error(bins) < 0.004
    assert all(abs(one.accuracy - one.confidence) < 4 * (one.error or 0) for one in bins)
    too_sure = calibration(stream, np.log(confidence), rng.random(len(stream)) < 0.5 * confidence)
    assert calibration_error(too_sure) == pytest.approx(0.5 * confidence.mean(), abs=0.004)


# ---- Disagreements -----------------------------------------------------------------------------------


def test_disagreements_by_hand() -> None:
    #                              one document of 8                    one of 3
    stream = TokenStream(np.array([1, 1, 1, 1, 1, 1, 1, EOT, 1, 1, EOT]))
    more = np.array([0.0, 5, 1, 0, 4, 0, 3, -9, 9, -1, -6])
    # Runs of 2: 5 + 1 = 6 or 9 - 1 = 8, then 6, then 4 + 0, for which 0 + 4 makes way as it is later.
    assert disagreements(stream, -more, np.zeros(11), length=2, n_passages=4) == [
        Passage(8, 10, 8), Passage(1, 3, 6), Passage(3, 5, 4), Passage(5, 7, 3),
    ]  # fmt: skip
    # Nothing crosses the end of a document, and a short one is a passage.
    assert disagreements(stream, -more, np.zeros(11), length=4) == [Passage(1, 5, 10), Passage(8, 11, 2)]
    assert disagreements(stream, more, np.zeros(11), length=8) == [], "the other one is never better"


def test_disagreements_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    stream = TokenStream.from_documents(rng.integers(1, 5, size) for size in (40, 3, 0, 25, 12))
    worse, better = -rng.exponential(size=(2, len(stream)))
    found = disagreements(stream, worse, better, length=10, n_passages=3)
    taken = np.zeros(len(stream), np.bool_)
    for passage in found:
        windows = []
        for begin, end in zip(stream.starts.tolist(), stream.ends.tolist(), strict=True):
            windows += [(start, min(start + 10, end)) for start in range(begin, max(begin, end - 10) + 1)]
        free = [window for window in windows if not taken[slice(*window)].any()]
        best = max(free, key=lambda window: (better - worse)[slice(*window)].sum())
        assert (passage.start, passage.stop) == best
        assert passage.nats == pytest.approx((better - worse)[slice(*best)].sum())
        taken[slice(*best)] = True
