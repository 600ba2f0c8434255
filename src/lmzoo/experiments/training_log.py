"""Logs the training of models while it runs: as events for TensorBoard, or as tables with a row for each step.

An evaluation has a row, too. When training is resumed after an interruption, its log is continued. The steps between
the last checkpoint and the interruption are repeated, and are therefore in a table twice.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final, TextIO

from lmzoo.errors import UsageError, needs_extra
from lmzoo.system.files import make_folder, writing
from lmzoo.system.progress import Progress, TrainingStep

_logger = logging.getLogger(__name__)
NamedProgress = Callable[[str, Progress], None]
"""A callback that receives the name of a model and a progress report of its training."""
NamedStep = Callable[[str, TrainingStep], None]
"""A callback that receives the name of a model and the figures of one of its training steps."""
KINDS: Final = ("tensorboard", "csv", "jsonl")
_COLUMNS: Final = ("name", *(field.name for field in fields(TrainingStep)))


@contextmanager
def training_logs(targets: Sequence[str], on_progress: NamedProgress) -> Iterator[NamedProgress]:
    """Yields a progress callback that writes all training steps to logs, and calls `on_progress`.

    Each of `targets` is "tensorboard:FOLDER", "csv:FILE" or "jsonl:FILE". In the folder for TensorBoard, each model has
    a folder of its own. If a file exists already, lines are appended to it. Raises UsageError for any other target, and
    MissingExtraError if tensorboard is not installed.
    """
    check_logs(targets)
    with ExitStack() as stack:
        logs = [stack.enter_context(_training_log(target)) for target in targets]
        has_steps = False
        lock = threading.Lock()  # models that are trained at the same time report in different threads

        def report(name: str, progress: Progress) -> None:
            nonlocal has_steps
            if progress.step is not None and logs:
                with lock:
                    has_steps = True
                    for log in logs:
                        log(name, progress.step)
            on_progress(name, progress)

        yield report
        if logs and not has_steps:
            _logger.info("nothing was logged in %s: only the training of networks is logged", ", ".join(targets))


def check_logs(targets: Sequence[str]) -> None:
    """Raises the errors of `training_logs` for invalid targets, so that they are reported before any expensive work."""
    for target in targets:
        kind, _, path = target.partition(":")
        if kind not in KINDS or not path:
            raise UsageError(f"a log must be tensorboard:FOLDER, csv:FILE or jsonl:FILE, got '{target}'")
        if kind == "tensorboard":
            _summary_writer()


@contextmanager
def _training_log(target: str) -> Iterator[NamedStep]:
    kind, _, path = target.partition(":")
    with ExitStack() as stack:
        if kind == "tensorboard":
            log = _tensorboard_log(Path(path), stack)
        else:
            with writing(Path(path)):
                make_folder(Path(path).parent)
                file = stack.enter_context(Path(path).open("a+", encoding="utf-8", newline=""))
            log = _csv_log(file, Path(path)) if kind == "csv" else _jsonl_log(file)
            if not _ends_a_line(Path(path)):
                file.write("\n")
        yield log


def _ends_a_line(path: Path) -> bool:
    """Returns True if a file is empty or ends with a line end, which may be missing if its writer was killed."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


def _csv_log(file: TextIO, path: Path) -> NamedStep:
    """Returns a function that adds a row to a table; the cells of values that were not measured are empty."""
    writer = csv.writer(file, lineterminator="\n")
    file.seek(0)
    header = next(csv.reader(file), None)
    if header is None:
        writer.writerow(_COLUMNS)
    elif header != [*_COLUMNS]:
        raise UsageError(f"{path} is another table, to which no training can be added: name a new file")

    def log(name: str, step: TrainingStep) -> None:
        writer.writerow([name, *asdict(step).values()])
        file.flush()

    return log


def _jsonl_log(file: TextIO) -> NamedStep:
    """Returns a function that adds a JSON line to a file; values that were not measured are left out."""

    def log(name: str, step: TrainingStep) -> None:
        values = {key: value for key, value in asdict(step).items() if value not in (None, "")}
        file.write(json.dumps({"name": name, **values}, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()

    return log


def _tensorboard_log(folder: Path, stack: ExitStack) -> NamedStep:
    """Returns a function that adds events to the log of a model, in a folder of its own inside `folder`."""
    summary_writer = _summary_writer()
    with writing(folder):
        make_folder(folder)
    writers: dict[str, Any] = {}

    def log(name: str, step: TrainingStep) -> None:
        name = f"{name}/{step.member}" if step.member else name
        if name not in writers:
            # `purge_step` hides the events of later steps that an interrupted training has left.
            writers[name] = summary_writer(str(folder / name), purge_step=step.step)
            stack.callback(writers[name].close)
        values = {
            "train/loss": step.train_loss,
            "train/learning_rate": step.learning_rate,
            "train/gradient_norm": step.gradient_norm,
            "train/tokens": step.tokens,
            "valid/loss": step.valid_loss,
            "valid/bits_per_byte": step.valid_bits_per_byte,
        }
        for tag, value in values.items():
            if value is not None:
                writers[name].add_scalar(tag, value, step.step)

    return log


def _summary_writer() -> Any:
    """Returns the torch class that writes events; raises MissingExtraError if tensorboard is not installed."""
    with needs_extra("tensorboard", "tensorboard", "a log for TensorBoard"):
        from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter
