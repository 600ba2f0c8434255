"""Standings: significant differences between models, as tables and sentences of a report."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.evaluation.records import EvalRecord
from lmzoo.experiments.compare import compare
from lmzoo.report.standings import Standings, standings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EvalRecord]]:
    folder = tmp_path_factory.mktemp("standings")
    easy, hard = "the cat sat on the mat", "on a mat a dog ate the cat"
    for split in ("train", "valid", "test"):
        (folder / split).mkdir()
        for number in range(40):
            text = " ".join([easy, hard, easy][: 1 + number % 3])
            (folder / split / f"{number}.txt").write_text(f"{text} {number % 7}", encoding="utf-8")
    made = compare(folder / "run", species=["markov", "unigram"], corpus=folder, tokenizer="char")
    return folder / "run", made.records


def found(run: tuple[Path, list[EvalRecord]], *names: str) -> Standings | None:
    """Returns the standings of the named models; "twin" has the scores of markov."""
    folder, records = run
    scores = folder / "scores"
    shutil.copytree(scores / "markov", scores / "twin", dirs_exist_ok=True)
    known = {record.name: record for record in records}
    known["twin"] = dataclasses.replace(known["markov"], label="twin")
    known["gone"] = dataclasses.replace(known["markov"], label="gone")
    known["adapting"] = dataclasses.replace(known["twin"], adapts_on_test=True)
    return standings(folder, [known[name] for name in names], EncodedCorpus.load(folder / "encoded"))


def test_a_better_model_differs_significantly(run: tuple[Path, list[EvalRecord]]) -> None:
    result = found(run, "markov", "unigram")
    assert result is not None
    assert result.unit == "40 documents"
    assert len(result.pairs) == 1
    (markov, unigram), records = result.rows, {record.name: record for record in run[1]}
    assert markov[:2] == ["markov", f"{records['markov'].bits_per_byte:.3f}"]
    assert markov[3:] == ["0.000", "", "–"]
    assert unigram[5] == "–"
    least, _, most = unigram[4].partition(" to ")
    assert 0 < float(least) < float(unigram[3]) < float(most)
    assert result.verdict.startswith(
        "markov is significantly better than every other model: the second best, unigram, needs "
    )
    (pair,) = result.pairs
    assert (pair.better, pair.worse, pair.significant) == ("markov", "unigram", True)
    assert (f"{pair.difference:.3f}", f"{pair.low:.3f}", f"{pair.high:.3f}") == (unigram[3], least, most)
    assert pair.p_value < 0.05


def test_equal_models_do_not_differ_significantly(run: tuple[Path, list[EvalRecord]]) -> None:
    result = found(run, "markov", "twin", "unigram")
    assert result is not None
    assert result.verdict == "markov has the lowest loss, but does not differ significantly from twin."
    assert [row[5] for row in result.rows] == ["twin", "markov", "–"]


def test_models_without_scores_and_adaptive_models_are_left_out(run: tuple[Path, list[EvalRecord]]) -> None:
    result = found(run, "adapting", "markov", "gone", "unigram")
    assert result is not None
    assert [row[0] for row in result.rows] == ["markov", "unigram"]
    assert found(run, "markov", "gone") is None
