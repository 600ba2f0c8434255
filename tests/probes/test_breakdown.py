"""Where losses lie: groups of tokens, calibration and disagreements by hand, and the section of the report."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import UsageError
from lmzoo.evaluation.records import read_records
from lmzoo.evaluation.scores import load_scores
from lmzoo.experiments.compare import compare
from lmzoo.experiments.run_folder import scores_path
from lmzoo.metrics import bits
from lmzoo.probes.breakdown import (
    ConfidenceBin,
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
from lmzoo.report import charts, write_report
from lmzoo.report.breakdown import differences, most_different
from lmzoo.report.figures import Figures
from lmzoo.report.leaderboard import entries
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
        ("new, 0", 1, 1, None),
        ("new, 1–9", 2, 3.5, 1.5),  # 2 and 5
        ("new, 10–99", 3, 19 / 3, 14 / 9),
        ("again, 0", 1, 3, None),
        ("again, 1–9", 1, 6, None),
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


def test_the_most_different_one_adds_the_most() -> None:
    best = np.log([0.9, 0.9, 0.1, 0.1])
    alike, other = np.log([0.8, 0.8, 0.1, 0.1]), np.log([0.2, 0.2, 0.5, 0.5])
    assert most_different({"best": best, "alike": alike, "other": other}) == ("best", "other")
    assert most_different({"best": best}) is None
    assert most_different({}) is None


# ---- The report --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    request = {"corpus": corpus_folder, "tokenizer": "bpe:300", "settings": {"cache": {"static": "markov"}}}
    assert not compare(folder, species=["unigram", "markov", "trigram", "cache"], **request).failures
    write_report(folder)
    return folder


def test_the_section_of_the_report(run_folder: Path) -> None:
    encoded = EncodedCorpus.load(run_folder / "encoded")
    stream, records = encoded.test.stream, entries(read_records(run_folder / "results.jsonl"))
    found = differences(run_folder, records, encoded, Figures())
    assert found is not None
    assert [one.title for one in found.breakdowns] == ["By place", "By frequency", "New and again"]
    names = ["markov", "unigram", "trigram", "cache"]
    assert all([name for name, _ in one.rows] == names for one in found.breakdowns), "in the order of their years"
    groups = by_position(stream, load_scores(scores_path(run_folder, "markov", "test"), len(stream)).log_probs)
    place = found.breakdowns[0]
    assert place.groups == [group.name for group in groups]
    assert sum(place.n_tokens) == len(stream)
    cells = dict(place.rows)
    assert [cell.text for cell in cells["markov"]] == [
        f"{bits(group.nats):.2f} ± {bits(group.error or 0):.2f}" for group in groups
    ]
    assert all(min(cells[name][column].shade for name in names) == 0 for column in range(len(groups)))
    assert max(cell.shade for cell in cells["unigram"]) == 6

    markdown, html = ((run_folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    assert "By part of speech" not in markdown
    section = markdown.split("## Where they differ")[1].split("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("|"):
            assert line.count("|") >= 4
    assert f"| {cells['markov'][0].text} |" in section
    page = html.split("Where they differ", 1)[1].split("<h2>")[0]
    assert f">{cells['markov'][0].text}</td>" in page
    assert page.count("<ruby") == sum(len(tokens) for one in found.disagreements for *_, tokens in one.readings)
    pairs = {frozenset((one.better, one.worse)) for one in found.disagreements}
    assert len(pairs) == 1
    assert records[0].name in next(iter(pairs))
    for one in found.disagreements:
        assert one.readings[0][1] < one.readings[1][1]
        assert one.readings[0][1] == pytest.approx(sum(token.bits for token in one.readings[0][2]))
        assert one.text.splitlines()[0] in section
        gains = [worse - better for _, better, worse in one.telling]
        assert gains == sorted(gains, reverse=True)


def test_one_species_disagrees_with_none(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "results.jsonl").write_text(next(line for line in lines if '"markov"' in line) + "\n", encoding="utf-8")
    write_report(folder)
    for kind in ("md", "html"):
        page = (folder / f"report.{kind}").read_text(encoding="utf-8")
        assert "Where they differ" in page
        assert "Passages to read" not in page


def test_tokens_of_passages_are_text(tmp_path: Path) -> None:
    """Whatever a corpus says: no markup, and no commands for a terminal."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(30):
        text = f"<script>{number % 3}</script> | `x` \x1b[2J\nnext line {number % 3} "
        (corpus / f"{number}.txt").write_text(text * 5, encoding="utf-8")
    compare(tmp_path / "run", species=["unigram", "markov"], corpus=corpus, tokenizer="bpe:270")
    write_report(tmp_path / "run")
    markdown, html = ((tmp_path / "run" / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    page = html.split("Passages to read")[1].split("<h2>")[0]
    assert "&lt;" in page, "else this test shows nothing"
    assert "<script" not in page
    assert "\x1b" not in html + markdown
    section = markdown.split("### Passages to read")[1].split("\n## ")[0]
    assert all(line.startswith("    ") or "`" in line for line in section.splitlines() if "script" in line)
    rows = [line.replace("\\|", "") for line in section.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4}


def test_passages_of_words_have_spaces(corpus_folder: Path, tmp_path: Path) -> None:
    compare(tmp_path / "run", species=["unigram", "markov"], corpus=corpus_folder, tokenizer="word:1")
    encoded, records = EncodedCorpus.load(tmp_path / "run" / "encoded"), read_records(tmp_path / "run/results.jsonl")
    found = differences(tmp_path / "run", records, encoded, Figures())
    assert found is not None
    for passage in found.disagreements:
        for _, _, tokens in passage.readings:
            assert "".join(token.text for token in tokens).startswith(f" {passage.text.split()[0]}")
            assert all(token.text[0] == " " for token in tokens)


def test_figure_of_calibration() -> None:
    bins = {"late": [ConfidenceBin(5, 0.3, 0.4, 0.1)], "early": [ConfidenceBin(2, 0.1, 0.0, None)]}
    chart = charts.by_confidence(bins)
    assert charts.as_svg(chart).startswith("<svg")
    specification = chart.to_dict()
    assert [point["species"] for point in specification["data"]["values"]] == ["late", "early"]
    assert specification["facet"]["sort"] == ["late", "early"], "in the order in which they are given"


def test_species_without_scores_are_left_out(run_folder: Path, tmp_path: Path) -> None:
    """Runs of earlier versions have none; and what finds a token impossible has no mean."""
    folder = shutil.copytree(run_folder, tmp_path / "run")
    encoded, records = EncodedCorpus.load(folder / "encoded"), read_records(folder / "results.jsonl")
    records = [replace(one, n_impossible=3) if one.name == "unigram" else one for one in records]
    scores_path(folder, "markov", "test").write_bytes(b"damaged")
    found = differences(folder, records, encoded, Figures())
    assert found is not None
    assert [name for name, _ in found.breakdowns[0].rows] == ["trigram", "cache"]
    shutil.rmtree(folder / "scores")
    assert differences(folder, records, encoded, Figures()) is None
    write_report(folder)
    assert "Where they differ" not in (folder / "report.html").read_text(encoding="utf-8")
