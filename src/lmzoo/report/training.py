"""The section of a report on how networks learned: their validation loss during training, as a table and a figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmzoo import zoo
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import EvalRecord
from lmzoo.report import charts
from lmzoo.report.figures import Figure, Figures
from lmzoo.system.progress import TrainingStep
from lmzoo.training_history import HISTORY, TrainingHistory

HEADER = (
    "network", "tokens read", "seconds", "tokens/s", "bits/byte at first", "lowest bits/byte", "after tokens",
    "after seconds",
)  # fmt: skip
MAIN = ("network", "tokens read", "seconds", "lowest bits/byte", "after seconds")
"""The columns that a page shows first."""


@dataclass(frozen=True)
class TrainingCurve:
    """The evaluations of one network on the validation split during its training, in the order of time."""

    name: str
    """Name of the model, and of the member if the model is a mixture."""
    year: int | None
    """Year of the model's species; None if the species is not registered."""
    evaluations: Sequence[TrainingStep]
    """At least one evaluation; all have bits per byte."""


@dataclass(frozen=True)
class TrainingSection:
    """The section of a report about the training of networks: a table under `HEADER`, and a figure."""

    rows: list[list[str]]
    figure: Figure


def training_section(folder: Path, records: Sequence[EvalRecord], figures: Figures) -> TrainingSection | None:
    """Returns the section of a report about the training of the networks of a run; None if the run has no network.

    Networks whose losses are not comparable, because their tokenizer loses parts of texts, are left out.
    """
    curves = [curve for record in records for curve in _curves(folder, record)]
    if not curves:
        return None
    return TrainingSection([*map(_row, curves)], figures.draw("training", charts.by_training(curves)))


def _curves(folder: Path, record: EvalRecord) -> Iterator[TrainingCurve]:
    """Yields the curve of a network of a run, or of each network in a mixture."""
    try:
        history = TrainingHistory.load(folder / "predictors" / record.name / HISTORY)
    except LmzooError:  # a model that is not trained in steps, or was trained by an older version
        return
    for member in dict.fromkeys(point.member for point in history.points):
        evaluations = [
            point for point in history.points if point.member == member and point.valid_bits_per_byte is not None
        ]
        if evaluations:
            name = f"{record.name}: {member}" if member else record.name
            yield TrainingCurve(name, zoo.year(record.species), evaluations)


def _row(curve: TrainingCurve) -> list[str]:
    first, last = curve.evaluations[0], curve.evaluations[-1]
    best = min(curve.evaluations, key=lambda point: point.valid_bits_per_byte or 0.0)
    return [
        curve.name,
        f"{last.tokens:,}",
        f"{last.seconds:,.1f}",
        f"{last.tokens / last.seconds:,.0f}" if last.seconds else "",
        f"{first.valid_bits_per_byte:.3f}",
        f"{best.valid_bits_per_byte:.3f}",
        f"{best.tokens:,}",
        f"{best.seconds:,.1f}",
    ]
