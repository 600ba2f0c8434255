"""Options of the commands that train networks: --log and --minutes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from lmzoo import Predictor
from lmzoo.cli import run
from lmzoo.evaluation.records import read_records
from lmzoo.experiments.plan import RunPlan

TINY = ["d_embed=4", "d_hidden=6", "training.batch_size=4", "training.chunk_size=8"]


def set_for(species: str = "") -> list[str]:
    return [part for setting in TINY for part in ("--set", f"{species}{setting}")]


def test_fit_logs_each_step_and_says_each_evaluation(
    corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["fit", "lstm", "--corpus", str(corpus_folder), "--tokenizer", "bpe:300", "--out", str(tmp_path / "lstm")]
    logs = ["--log", f"csv:{tmp_path / 'log.csv'}", "--log", f"jsonl:{tmp_path / 'log.jsonl'}"]
    assert run([*call, *set_for(), "--set", "training.tokens=2000", *logs]) == 0
    history = Predictor.load(tmp_path / "lstm").history
    assert history is not None
    evaluations = [point for point in history.points if point.valid_bits_per_byte]
    with (tmp_path / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["name"] for row in rows} == {line["name"] for line in lines} == {"lstm"}
    assert len(rows) == len(lines) == len(history.points) > len(evaluations) > 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fitting lstm (")]
    assert len(said) == len(evaluations)
    assert said[-1].endswith(f"valid {evaluations[-1].valid_bits_per_byte:.3f} bits/byte")


@pytest.mark.usefixtures("undrawn")
def test_compare_limits_networks_to_minutes_and_logs_them(corpus_folder: Path, tmp_path: Path) -> None:
    call = ["compare", "--corpus", str(corpus_folder), "--tokenizer", "bpe:300", "--out", str(tmp_path / "run")]
    options = ["--minutes", "0.02", "--log", f"csv:{tmp_path / 'log.csv'}"]
    assert run([*call, "--species", "unigram", "rnn", *set_for("rnn."), *options]) == 0
    unigram, rnn = read_records(tmp_path / "run" / "results.jsonl")
    assert "training" not in unigram.settings
    assert rnn.settings["training"] == {
        **{"tokens": None, "seconds": 1.2, "batch_size": 4, "chunk_size": 8},
        **{
            name: rnn.settings["training"][name]
            for name in ("learning_rate", "weight_decay", "sampled_softmax", "optimizer")
        },
    }
    with (tmp_path / "log.csv").open(encoding="utf-8", newline="") as file:
        assert {row["name"] for row in csv.DictReader(file)} == {"rnn"}


def test_minutes_replace_the_tokens_of_the_budget_and_not_those_that_are_set() -> None:
    plan = RunPlan(species=["lstm"], minutes=2, settings={"lstm": {"training": {"tokens": 7}}})
    assert plan.checked().settings_of("lstm")["training"]["tokens"] == 7
    assert plan.checked().settings_of("lstm")["training"]["seconds"] == 120
    assert RunPlan(species=["gru"], minutes=2).settings_of("gru")["training"]["tokens"] is None


def test_wrong_options_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    for arguments, message in [
        (["fit", "ngram", "--minutes", "1", *out], "'ngram' is not trained step by step"),
        (["fit", "lstm", "--minutes", "0", *out], "minutes must be a finite number above 0"),
        (["compare", "--species", "lstm", "--minutes", "-1", *out], "minutes must be a finite number above 0"),
        (["fit", "lstm", "--log", "wandb:x", *out], "a log must be tensorboard:FOLDER, csv:FILE or jsonl:FILE"),
        (["compare", "--species", "lstm", "--log", "x.csv", *out], "got 'x.csv'"),
        (["align", "--log", "csv:", *out], "got 'csv:'"),
    ]:
        assert run(arguments) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
