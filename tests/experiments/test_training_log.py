"""Logs of trainings: tables, JSON lines, and events for TensorBoard."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from lmzoo.errors import MissingExtraError, UsageError
from lmzoo.experiments.training_log import training_logs
from lmzoo.system.progress import Progress, TrainingStep

STEPS = [
    TrainingStep(step=1, tokens=20, seconds=0.5, train_loss=2.5, learning_rate=0.1, gradient_norm=3.0),
    TrainingStep(step=1, tokens=20, seconds=0.5, valid_loss=2.25, valid_bits_per_byte=1.5),
    TrainingStep(step=2, tokens=40, seconds=1.5, train_loss=2.0, learning_rate=0.05, gradient_norm=1.0, member="gru"),
]


def write(*targets: str) -> list[tuple[str, Progress]]:
    """Logs the steps of two models, and returns what was passed on."""
    passed: list[tuple[str, Progress]] = []
    with training_logs(targets, lambda name, progress: passed.append((name, progress))) as on_progress:
        on_progress("lstm", Progress(0, None, "tokens", "reading"))
        for step in STEPS:
            on_progress("lstm" if not step.member else "mixture", Progress(step.tokens, 40, "tokens", step=step))
    return passed


def test_tables_and_json_lines_have_all_figures_and_are_continued(tmp_path: Path) -> None:
    targets = [f"csv:{tmp_path / 'new' / 'log.csv'}", f"jsonl:{tmp_path / 'log.jsonl'}"]
    assert [progress.step for _, progress in write(*targets)] == [None, *STEPS]
    write(*targets)
    with (tmp_path / "new" / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 6
    assert rows[:3] == rows[3:]
    assert [row["name"] for row in rows[:3]] == ["lstm", "lstm", "mixture"]
    assert [row["train_loss"] for row in rows[:3]] == ["2.5", "", "2.0"], "a missing number is empty"
    assert [row["valid_bits_per_byte"] for row in rows[:3]] == ["", "1.5", ""]
    assert rows[2]["member"] == "gru"
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 6
    assert lines[1] == {
        "name": "lstm", "step": 1, "tokens": 20, "seconds": 0.5, "valid_loss": 2.25, "valid_bits_per_byte": 1.5,
        "unit": "nats/token",
    }  # fmt: skip


def test_a_log_without_steps_is_explained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lmzoo")
    write(f"jsonl:{tmp_path / 'log.jsonl'}")
    assert not caplog.messages
    with training_logs([f"csv:{tmp_path / 'log.csv'}"], lambda name, progress: None) as on_progress:
        on_progress("ngram", Progress(1, 1, "tokens"))
    (message,) = caplog.messages
    assert message.endswith("log.csv: only the training of networks is logged")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_whose_last_line_is_incomplete_is_continued_in_a_new_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(f"{kind}:{path}")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines)[:-5], encoding="utf-8")  # a process was killed while it wrote
    write(f"{kind}:{path}")
    assert path.read_text(encoding="utf-8").splitlines(keepends=True)[-3:] == lines[-3:]


def test_wrong_logs_are_refused_before_any_training(tmp_path: Path) -> None:
    for target in ("wandb:x", "csv", "csv:", "log.csv"):
        with pytest.raises(UsageError, match=f"must be tensorboard:FOLDER, csv:FILE or jsonl:FILE, got '{target}'"):
            write(target)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="is another table, to which no training can be added: name a new file"):
        write(f"csv:{tmp_path / 'other.csv'}")
    assert (tmp_path / "other.csv").read_text(encoding="utf-8") == "a,b\n1,2\n"


def test_without_tensorboard_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'tensorboard': pip install 'lmzoo\[tensorboard\]'"):
        write(f"tensorboard:{tmp_path}")


def test_tensorboard_reads_the_events_of_each_model(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(f"tensorboard:{tmp_path / 'events'}")

    def scalars(folder: str) -> dict[str, list[tuple[int, float]]]:
        events = reader.EventAccumulator(str(tmp_path / "events" / folder))
        events.Reload()
        return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    lstm = scalars("lstm")
    assert lstm["train/loss"] == [(1, 2.5)]
    assert lstm["valid/bits_per_byte"] == [(1, 1.5)]
    assert scalars("mixture/gru")["train/gradient_norm"] == [(2, 1.0)]
