"""How the training of networks is shown: the table and the figure of a report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from lmzoo import Predictor
from lmzoo.report import charts, write_report
from lmzoo.report.training import HEADER, TrainingCurve
from lmzoo.system.progress import TrainingStep


def evaluation(step: int, seconds: float, bits: float) -> TrainingStep:
    return TrainingStep(step=step, tokens=100 * step, seconds=seconds, valid_loss=2 * bits, valid_bits_per_byte=bits)


def test_all_networks_are_on_one_axis_of_seconds_and_one_of_tokens() -> None:
    curves = [
        TrainingCurve("lstm", 1997, [evaluation(1, 0.0, 4.0), evaluation(2, 3.0, 2.0), evaluation(3, 4.0, 2.5)]),
        TrainingCurve("mixture: gru", None, [evaluation(5, 2.0, 3.0)]),
    ]
    chart = charts.by_training(curves)
    assert charts.as_svg(chart).startswith("<svg")
    panels: list[dict[str, Any]] = chart.to_dict()["concat"]
    points = [
        [(point["network"], point["read"], point["loss"]) for point in panel["data"]["values"]] for panel in panels
    ]
    assert points[0] == [("lstm", 3.0, 2.0), ("lstm", 4.0, 2.5), ("mixture: gru", 2.0, 3.0)], "no 0 on this axis"
    assert points[1] == [("lstm", 100, 4.0), ("lstm", 200, 2.0), ("lstm", 300, 2.5), ("mixture: gru", 500, 3.0)]
    ends = [[point["network"] for point in panel["data"]["values"] if "label_y" in point] for panel in panels]
    assert ends == [["lstm", "mixture: gru"]] * 2


@pytest.mark.usefixtures("undrawn")
def test_the_report_shows_the_histories_in_the_folder(run_folder: Path, tmp_path: Path) -> None:
    history = Predictor.load(run_folder / "predictors" / "rnn").history
    assert history is not None
    bits = [point.valid_bits_per_byte for point in history.points if point.valid_bits_per_byte is not None]
    assert len(bits) > 1
    html, markdown = ((run_folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    for page, head in ((html, '<h2 id="training">'), (markdown, "## How the networks learned")):
        section = page.split(head)[1].split("How far gradients")[0]
        assert f"{bits[0]:.3f}" in section
        assert f"{min(bits):.3f}" in section
        assert "markov" not in section
    rows = [line for line in markdown.split("## How the networks")[1].split("\n## ")[0].splitlines() if line[:1] == "|"]
    assert [line.count("|") for line in rows] == [len(HEADER) + 1] * 3, "only one model of the run is a network"
    assert (run_folder / "figures" / "training.svg").is_file()
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "predictors" / "rnn" / "history.jsonl").unlink()
    write_report(folder)
    assert "How the networks learned" not in (folder / "report.html").read_text(encoding="utf-8")
