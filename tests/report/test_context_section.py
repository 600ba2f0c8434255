"""How the use of context is shown: table, figure, section of the report and command."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from lmzoo import Predictor, zoo
from lmzoo.cli import run
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.experiments.compare import compare
from lmzoo.probes.context_use import ContextUse, context_use
from lmzoo.report import charts, write_report
from lmzoo.report.charts.style import apart
from lmzoo.report.context_use import HEADER, Use, rows


def use_of(name: str, lost: list[float], *, whole: float = 1.0, year: int | None = 2000) -> Use:
    """Returns the use of context in two documents: truncation costs `lost` bits per token, and shuffling half of it."""
    levels = np.full((2, len(lost)), whole * math.log(2))
    excess = np.array(lost) * math.log(2)
    return Use(name, year, ContextUse(np.arange(2), np.arange(2), levels, levels * 0 + excess, levels * 0 + excess / 2))


def test_table() -> None:
    lost = [4.0, 3.0, 2.0, 1.0, 0.0, 0.0]
    uses = [use_of("four", lost), use_of("none", [0.0] * 6, whole=2.0), use_of("more", [0.5] * 6)]
    assert uses[0].context.lengths.tolist() == [0, 1, 2, 3, 4, 5]
    assert rows(uses) == [
        ["four", "4.00", "1.00", "", "", "", "1.00", "4", "4"],
        ["none", "2.00", "2.00", "", "", "", "2.00", "0", "0"],
        ["more", "1.50", "1.50", "", "", "", "1.00", "over 5", "over 5"],
    ]
    assert {len(row) for row in rows(uses)} == {len(HEADER)}
    assert uses[0].bits("shuffled") == pytest.approx({0: 3, 1: 2.5, 2: 2, 3: 1.5, 4: 1, 5: 1})
    few = use_of("few", [1.0, 1.0, 0.0])
    few.context.cut[1] = 0  # the other document needs nothing
    assert few.reach_text("cut") == "2 (0–2)"


def test_figure() -> None:
    uses = [use_of("four", [4.0, 3, 2, 1, 0, 0]), use_of("none", [0.0] * 6), use_of("more", [3.0, 0, 0, 0, 0, 0])]
    chart = charts.by_context([*uses, use_of("visitor", [1.0, 1, 1, 0, 0, 0], year=None)])
    assert charts.as_svg(chart).startswith("<svg")
    points = chart.to_dict()["data"]["values"]
    assert {point["species"] for point in points} == {"four", "more", "visitor"}, "what looks at nothing is not drawn"
    cut = [point for point in points if point["species"] == "four" and "Truncated" in point["panel"]]
    assert [(point["tokens"], round(point["bits"], 6)) for point in cut] == [(1, 4), (2, 3), (3, 2), (4, 1), (5, 1)]
    assert [point["tokens"] for point in cut if point["dot"]] == [4]
    places = sorted(point["label_y"] for point in points if "label_y" in point and "Truncated" in point["panel"])
    assert np.diff(places).min() > 0.05, "labels of lines that end together lie apart"
    assert charts.as_svg(charts.by_context(uses[1:2])).startswith("<svg"), "unless there is nothing else"


def test_labels_lie_apart() -> None:
    assert apart([5, 1, 9], 1) == [5, 1, 9]
    assert apart([3, 3, 3], 2) == [1, 3, 5]
    np.testing.assert_allclose(apart([4, 3, 10], 2), [4.5, 2.5, 10])


def test_the_report_has_the_use_of_context(run_folder: Path) -> None:
    html, markdown = ((run_folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    valid = EncodedCorpus.load(run_folder / "encoded").valid.stream
    found = []
    for name in ("unigram", "trigram"):
        model = Predictor.load(run_folder / "predictors" / name).model
        found.append(Use.of(name, name, context_use(model, valid)))
    use = found[1].context
    assert use.max_context < 256
    for page, end in ((html, '<h2 id="differences">'), (markdown, "## Where the models differ")):
        section = page.split("How much context the models use", 1)[1].split(end)[0]
        assert f"{len(use.positions)} passages of the validation split, from {use.n_documents} documents" in section
        assert f"Contexts of up to {use.max_context} tokens were measured" in " ".join(section.split())
        assert all(cell in section for row in rows(found) for cell in row)
    assert "<svg" in html.split("How much context the models use", 1)[1].split('<h2 id="differences">')[0]
    lines = markdown.splitlines()
    assert not [line for before, line in itertools.pairwise(lines) if line.startswith("#") and before], "headings"


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_report_goes_on_where_context_cannot_be_measured(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(f'{{"text": "{letter}"}}\n' for letter in "abcdefghij" * 3), encoding="utf-8")
    compare(tmp_path / "run", species=["unigram"], corpus=corpus, tokenizer="char")
    write_report(tmp_path / "run")
    assert "How much context" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_context_command(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default, the command measures all predictors of `make compare` on the validation split of their corpus."""
    shutil.copytree(run_folder, tmp_path / "runs" / "quick")
    monkeypatch.chdir(tmp_path)
    assert run(["context", "--max-context", "20", "--positions", "9", "--seed", "3", "--json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["species"] for one in said] == [name for name in zoo.names() if (run_folder / "scores" / name).exists()]
    said = [one for one in said if one["species"] in ("unigram", "trigram")]
    model = Predictor.load(run_folder / "predictors" / "trigram").model
    valid = EncodedCorpus.load(run_folder / "encoded").valid.stream
    use = Use.of("trigram", "trigram", context_use(model, valid, max_context=20, n_positions=9, seed=3))
    assert said[1]["max_context"] == 20
    assert said[1]["n_positions"] == 9
    assert said[1]["lengths"] == use.context.lengths.tolist()
    assert said[1]["bits_cut"] == list(use.bits("cut").values())
    assert said[1]["bits_shuffled"] == list(use.bits("shuffled").values())
    assert said[1]["looks_back"] == asdict(use.reaches["cut"])
    assert said[0]["order_matters"] == {"tokens": 0, "low": 0, "high": 0}

    assert run(["context", "-p", "runs/quick/predictors/trigram", "--max-context", "20", "--svg", "figure.svg"]) == 0
    captured = capsys.readouterr()
    assert "trigram" in captured.out
    assert "contexts of up to 20 tokens" in captured.err.replace("\n", " ")
    assert Path("figure.svg").read_text(encoding="utf-8").startswith("<svg")


def test_context_says_if_tokens_differ(
    run_folder: Path, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Predictor.fit("unigram", corpus_folder, tokenizer="char").save(tmp_path / "chars")
    homes = [str(run_folder / "predictors" / name) for name in ("unigram", "trigram")]
    for others, said in (([homes[1]], False), ([homes[1], str(tmp_path / "chars")], True)):
        pairs = [argument for home in (homes[0], *others) for argument in ("-p", home)]
        assert run(["context", *pairs, "--max-context", "8", "--positions", "9"]) == 0
        assert ("different tokenizers" in capsys.readouterr().err) is said


def test_wrong_calls_of_context(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(run_folder / "predictors" / "unigram")
    for status, arguments, message in (
        (2, ["-p", "nothing", "--max-context", "0"], 'Invalid value "0" for --max-context. Must be >= 1.'),
        (2, ["-p", "nothing", "--positions", "0"], 'Invalid value "0" for --positions. Must be >= 1.'),
        (2, ["-p", home, "--corpus", "kjw"], "did you mean 'kjv'"),
        (1, ["-p", "nowhere"], "no saved predictor in nowhere"),
    ):
        assert run(["context", *arguments]) == status
        assert message in " ".join(capsys.readouterr().err.split())
