"""How gradient norms are shown: table, figure, section of the report and command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo import Predictor
from lmzoo.cli import run
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.probes.gradient_flow import gradient_flow
from lmzoo.probes.gradient_norms import GradientFlow
from lmzoo.report import charts, write_report
from lmzoo.report.gradients import HEADER, Flow, reaches, rows
from lmzoo.stream import TokenStream


def flow_of(*norms: float) -> GradientFlow:
    return GradientFlow(np.array([5]), np.array([norms]))


def test_table_and_order() -> None:
    flows = [
        Flow("far", flow_of(2, 1.999, 1, 0.01)),
        Flow("near", flow_of(1, 0.5, 1e-3, 0)),
        Flow("nothing", flow_of(0, 0, 0, 0), untrained=True),
        Flow("all", flow_of(1, 2, 4, 8)),
    ]
    assert rows(flows) == [
        ["far", "100%", "0.5%", "", "", "", "2"],
        ["near", "50%", "0%", "", "", "", "1"],
        ["nothing, untrained", "0%", "0%", "", "", "", "–"],
        ["all", "200%", "800%", "", "", "", "3 or more"],
    ]
    assert {len(row) for row in rows(flows)} == {len(HEADER)}
    assert reaches(flows) == [("near", "1"), ("far", "2"), ("all", "3 or more")]


def test_figure() -> None:
    def drawn(*flows: Flow) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
        chart = charts.by_distance(flows)
        assert charts.as_svg(chart).startswith("<svg")
        specification = chart.to_dict()
        points = [(point["network"], point["distance"], point["left"]) for point in specification["data"]["values"]]
        return points, specification["layer"][0]["encoding"]

    flows = [Flow("rnn", flow_of(2, 1, 0)), Flow("lstm", flow_of(1, 20))]
    points, encoding = drawn(*flows)
    assert points == [("rnn", 0, 1), ("rnn", 1, 0.5), ("lstm", 0, 1), ("lstm", 1, 20)], "no 0 on a logarithmic axis"
    assert encoding["y"]["scale"]["domain"] == [1e-6, 20], "what explodes is not cut"
    assert "strokeDash" not in encoding
    assert "strokeDash" in drawn(*flows, Flow("rnn", flow_of(2, 1, 0), untrained=True))[1]
    assert drawn(Flow("rnn", flow_of(0, 0)))[0] == []


def test_the_report_shows_networks_only(run_folder: Path) -> None:
    html, markdown = ((run_folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    model = Predictor.load(run_folder / "predictors" / "rnn").model
    valid = EncodedCorpus.load(run_folder / "encoded").valid.stream
    flow = Flow("rnn", gradient_flow(model, valid))
    ((name, until),) = reaches([flow])
    for page, head, said in (
        (html, '<h2 id="gradients">', f"up to {until} tokens back in <code>{name}</code>."),
        (markdown, "## How far gradients flow", f"`{name}`."),
    ):
        section = page.split(head)[1].split("How much context")[0]
        assert said in section
        assert f"{len(flow.gradients.positions)} predictions on the validation split" in section
        assert all(cell in section for cell in rows([flow])[0])
        assert "unigram" not in section
    lines = markdown.split("## How far gradients")[1].split("\n## ")[0].splitlines()
    assert [line.count("|") for line in lines if line.startswith("|")] == [len(HEADER) + 1] * 3


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_networks_says_nothing_of_gradients(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "results.jsonl").write_text(
        next(line for line in lines if '"species": "unigram"' in line) + "\n", encoding="utf-8"
    )
    write_report(folder)
    assert "gradients" not in (folder / "report.html").read_text(encoding="utf-8")


def test_gradients_command(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(run_folder / "predictors" / "rnn")
    predictor = Predictor.load(home)
    asked = ["gradients", "The cat that I saw was near the river.", "-p", home, "--distance", "5"]
    assert run([*asked, "--untrained", "--seed", "3", "--json"]) == 0
    trained, untrained = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    stream = TokenStream.from_documents([predictor.tokenizer.encode("The cat that I saw was near the river.")])
    for said, kind in ((trained, False), (untrained, True)):
        flow = gradient_flow(predictor.model, stream, max_distance=5, seed=3, untrained=kind)
        assert said["untrained"] is kind
        assert said["max_distance"] == 5
        assert said["n_positions"] == len(flow.positions)
        assert said["norms"]["median"] == flow.quantile(0.5).tolist()
        assert said["left"][0] == 1

    figure = tmp_path / "figure.svg"
    assert run([*asked, "--untrained", "--svg", str(figure)]) == 0
    captured = capsys.readouterr()
    assert "rnn, untrained" in captured.out
    assert str(figure) in captured.err.replace("\n", "")
    assert figure.read_text(encoding="utf-8").startswith("<svg")

    assert run(["gradients", "-p", home, "--positions", "3", "--json"]) == 0, "on the valid split of its own corpus"
    assert json.loads(capsys.readouterr().out)["n_positions"] == 3


def test_gradients_of_the_default_run(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without -p, the command measures all networks of `make compare` and ignores other models."""
    shutil.copytree(run_folder, tmp_path / "runs" / "quick")
    monkeypatch.chdir(tmp_path)
    assert run(["gradients", "The cat that I saw", "--json"]) == 0
    assert [json.loads(line)["species"] for line in capsys.readouterr().out.splitlines()] == ["rnn"]


def test_wrong_calls_of_gradients(run_folder: Path, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = str(run_folder / "predictors" / "rnn")
    for status, arguments, message in (
        (
            2,
            ["The cat", "-p", str(saved)],
            "a 'markov', has no embeddings whose gradients could be measured: name a network",
        ),
        (2, ["The cat", "-p", home, "--corpus", "kjv"], "not both"),
        (2, ["The cat", "-p", "nothing", "--distance", "-1"], 'Invalid value "-1" for --distance. Must be >= 0.'),
        (2, ["The cat", "-p", "nothing", "--positions", "0"], 'Invalid value "0" for --positions. Must be >= 1.'),
        (1, ["", "-p", home], "no document of the text has a token"),
    ):
        assert run(["gradients", *arguments]) == status
        assert message in " ".join(capsys.readouterr().err.split())
