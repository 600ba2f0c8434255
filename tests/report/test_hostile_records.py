"""Run folders from elsewhere: their records name no path, are no markup, and have the right types."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmzoo.errors import SavedModelError
from lmzoo.evaluation.records import read_records, write_csv, write_records
from lmzoo.experiments.ladder import read_task_results
from lmzoo.experiments.learning_curves import read_curves
from lmzoo.report import write_report
from lmzoo.report.charts import by_species
from lmzoo.report.figures import Figures
from lmzoo.report.pages import _markdown_code, _markdown_text


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of a run folder with its records alone."""
    (tmp_path / "run").mkdir()
    shutil.copy(run_folder / "results.jsonl", tmp_path / "run")
    return tmp_path / "run"


def edit(run: Path, change: Callable[[Any], object], name: str = "results.jsonl") -> None:
    lines = (run / name).read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    change(first)
    (run / name).write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["hmm,/elsewhere/EVIL=1", "../../EVIL", "..", "a\\b", "a\0b", "\x1b[31m"])
@pytest.mark.parametrize("field", ["label", "species"])
def test_names_are_no_paths(field: str, name: str, run: Path) -> None:
    edit(run, lambda record: record.update({"label": "", field: name}))
    before = sorted(run.parent.rglob("*"))
    with pytest.raises(SavedModelError, match=r"results.jsonl:1 is not a record of lmzoo: the name '.*' cannot be"):
        write_report(run)
    assert sorted(run.parent.rglob("*")) == before


def test_figures_are_in_their_folder(run: Path) -> None:
    with pytest.raises(ValueError, match="cannot be a file name"):
        Figures().draw("/elsewhere/EVIL", by_species(read_records(run / "results.jsonl"), width=100))


WRONG: dict[str, dict[str, Any]] = {
    "label": {"label": []}, "command": {"command": {}}, "versions": {"versions": "x"},
    "version": {"versions": {"a": 1}}, "machine": {"machine": []},
    "text for a number": {"bits_per_byte": "x"}, "truth value": {"n_parameters": True},
    "fraction": {"n_tokens": 1.5}, "large": {"n_parameters": 10**30}, "infinite": {"fit_seconds": float("inf")},
    "negative": {"n_parameters": -1}, "negative time": {"fit_seconds": -0.5}, "share": {"train_share": 1e-300},
    "settings": {"settings": 5}, "lossless": {"lossless": 1}, "null": {"corpus": None},
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_values_are_named_with_their_line(case: str, run: Path) -> None:
    edit(run, lambda record: record.update(WRONG[case]))
    with pytest.raises(SavedModelError, match=r"results\.jsonl:1 is not a record of lmzoo: ") as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_other_readers_check_their_records(run: Path) -> None:
    shutil.copy(run / "results.jsonl", run / "curves.jsonl")
    edit(run, lambda record: record.update(train_share="1"), "curves.jsonl")
    with pytest.raises(SavedModelError, match=r"curves\.jsonl:1 is not a record of lmzoo: 'train_share'"):
        read_curves(run)
    (run / "ladder.jsonl").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(SavedModelError, match=r"ladder\.jsonl:1 is not a record of lmzoo: .*deep"):
        read_task_results(run)


@pytest.mark.usefixtures("undrawn")
def test_an_unknown_machine_is_reported(run: Path) -> None:
    path = run / "results.jsonl"
    write_records(path, [replace(record, machine={}) for record in read_records(path)])
    write_report(run)
    assert "machine: unknown, unknown cores" in (run / "report.md").read_text(encoding="utf-8")


def test_names_of_corpora_are_no_markup(run: Path) -> None:
    name = "<img src=x onerror=alert(1)> [a](javascript:b) `c` \x1b[31m"
    records = [replace(record, corpus=name) for record in read_records(run / "results.jsonl")]
    write_records(run / "results.jsonl", records)
    write_report(run)
    page = (run / "report.md").read_text(encoding="utf-8")
    assert r"# Language models compared on &lt;img src=x onerror=alert(1)> \[a\](javascript:b) \`c\`" in page
    assert "<img" not in page
    assert "<img src=x" not in (run / "report.html").read_text(encoding="utf-8")
    for path in ("report.md", "report.html", "results.csv"):
        assert "\x1b" not in (run / path).read_text(encoding="utf-8")


def test_cells_of_a_table_are_no_formulas(run: Path, tmp_path: Path) -> None:
    records = read_records(run / "results.jsonl")
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "plain = 1"]
    write_csv(tmp_path / "a.csv", [replace(records[0], corpus=name) for name in names])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["corpus"] for row in rows] == ["'=cmd|' /C calc'!A0", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "plain = 1"]
    assert rows[0]["n_tokens"] == str(records[0].n_tokens)


def test_markdown_is_escaped() -> None:
    assert _markdown_text("a_b & c|d <e> [f] *g*\nh") == r"a_b & c\|d &lt;e> \[f\] \*g\* h"
    assert _markdown_text("&lt;") == "&amp;lt;"
    assert _markdown_code("a`b\nc") == "aˋb c"
