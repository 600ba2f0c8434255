"""Where the models of a run differ: the section of the report."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.evaluation.ranking import entries
from lmzoo.evaluation.records import read_records
from lmzoo.evaluation.scores import load_scores
from lmzoo.experiments.compare import compare
from lmzoo.experiments.run_folder import scores_path
from lmzoo.metrics import bits
from lmzoo.probes.breakdown import ConfidenceBin, by_position
from lmzoo.report import charts, write_report
from lmzoo.report.breakdown import differences, most_different
from lmzoo.report.figures import Figures


def test_the_most_different_one_adds_the_most() -> None:
    best = np.log([0.9, 0.9, 0.1, 0.1])
    alike, other = np.log([0.8, 0.8, 0.1, 0.1]), np.log([0.2, 0.2, 0.5, 0.5])
    assert most_different({"best": best, "alike": alike, "other": other}) == ("best", "other")
    assert most_different({"best": best}) is None
    assert most_different({}) is None


def test_the_section_of_the_report(run_folder: Path) -> None:
    encoded = EncodedCorpus.load(run_folder / "encoded")
    stream, records = encoded.test.stream, entries(read_records(run_folder / "results.jsonl"))
    found = differences(run_folder, records, encoded, Figures())
    assert found is not None
    assert [one.title for one in found.breakdowns] == ["By position", "By frequency", "First and repeated occurrences"]
    names = ["markov", "unigram", "hmm", "trigram", "rnn", "cache"]
    assert all([name for name, _ in one.rows] == names for one in found.breakdowns), "in the order of their years"
    groups = by_position(stream, load_scores(scores_path(run_folder, "markov", "test"), len(stream)).log_probs)
    first = found.breakdowns[0]
    assert first.groups == [group.name for group in groups]
    assert sum(first.n_tokens) == len(stream)
    cells = dict(first.rows)
    assert [cell.text for cell in cells["markov"]] == [
        f"{bits(group.nats):.2f} ± {bits(group.error or 0):.2f}" for group in groups
    ]
    assert all(min(cells[name][column].shade for name in names) == 0 for column in range(len(groups)))
    assert max(cell.shade for cell in cells["unigram"]) == 6

    markdown, html = ((run_folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    assert "By part of speech" not in markdown
    section = markdown.split("## Where the models differ")[1].split("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("|"):
            assert line.count("|") >= 4
    assert f"| {cells['markov'][0].text} |" in section
    page = html.split("Where the models differ</h2>", 1)[1].split("<h2 ")[0]
    assert f">{cells['markov'][0].text}</td>" in page
    assert page.count("<ruby") == sum(len(tokens) for one in found.disagreements for *_, tokens in one.readings)
    pairs = {frozenset((one.better, one.worse)) for one in found.disagreements}
    assert len(pairs) == 1
    assert records[0].name in next(iter(pairs))
    for one in found.disagreements:
        assert one.readings[0][1] < one.readings[1][1]
        assert one.readings[0][1] == pytest.approx(sum(token.bits for token in one.readings[0][2]))
        assert one.text.splitlines()[0] in section
        gains = [worse - better for _, better, worse in one.largest]
        assert gains == sorted(gains, reverse=True)


@pytest.mark.usefixtures("undrawn")
def test_one_species_disagrees_with_none(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "results.jsonl").write_text(
        next(line for line in lines if '"species": "markov"' in line) + "\n", encoding="utf-8"
    )
    write_report(folder)
    for kind in ("md", "html"):
        page = (folder / f"report.{kind}").read_text(encoding="utf-8")
        assert "Where the models differ" in page
        assert "Passages with the largest differences" not in page


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_tokens_of_passages_are_text(tmp_path: Path) -> None:
    """Markup and terminal commands in a corpus are shown as text."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(30):
        text = f"<script>{number % 3}</script> | `x` \x1b[2J\nnext line {number % 3} "
        (corpus / f"{number}.txt").write_text(text * 5, encoding="utf-8")
    compare(tmp_path / "run", species=["unigram", "markov"], corpus=corpus, tokenizer="bpe:270")
    write_report(tmp_path / "run")
    markdown, html = ((tmp_path / "run" / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    page = html.split("Passages with the largest differences")[1].split("<h2 ")[0]
    assert "&lt;" in page, "else this test shows nothing"
    assert "<script" not in page
    assert "\x1b" not in html + markdown
    section = markdown.split("### Passages with the largest differences")[1].split("\n## ")[0]
    assert all(line.startswith("    ") or "`" in line for line in section.splitlines() if "script" in line)
    rows = [line.replace("\\|", "") for line in section.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4}


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_species_without_scores_are_left_out(run_folder: Path, tmp_path: Path) -> None:
    """Runs of earlier versions have no scores, and a model that gave a token probability 0 has no mean."""
    folder = shutil.copytree(run_folder, tmp_path / "run")
    encoded, records = EncodedCorpus.load(folder / "encoded"), read_records(folder / "results.jsonl")
    records = [replace(one, n_impossible=3) if one.name == "unigram" else one for one in records]
    scores_path(folder, "markov", "test").write_bytes(b"damaged")
    found = differences(folder, records, encoded, Figures())
    assert found is not None
    assert [name for name, _ in found.breakdowns[0].rows] == ["hmm", "trigram", "cache", "rnn"]
    shutil.rmtree(folder / "scores")
    assert differences(folder, records, encoded, Figures()) is None
    write_report(folder)
    assert "Where the models differ" not in (folder / "report.html").read_text(encoding="utf-8")
