"""The history of a training run: its losses, learning rate and gradient norm over steps, tokens and seconds.

A history has a bounded length. Each of its points stands for the same number of successive steps, at first one. When
there are too many points, each pair is replaced by one point, and the number of steps per point is doubled:

    steps per point      points
    1                    1 2 3 4 5 6 7 8
    2                    1-2 3-4 5-6 7-8 9-10 ..

The points depend on nothing but the steps, so a run that was killed and resumed has the same history as an
uninterrupted one, except for the seconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import Arrays
from lmzoo.errors import SavedModelError
from lmzoo.system.files import atomic_file
from lmzoo.system.json_files import parse_as, read_text
from lmzoo.system.progress import OnProgress, OnStep, Progress, TrainingStep

HISTORY: Final = "history.jsonl"
"""Name of the file with the history in the folder of a predictor."""
MOST_POINTS: Final = 512
"""Number of points at which a history is halved."""
_LARGEST_FILE: Final = 1 << 24
"""Largest size in bytes of a history file; a larger file is taken to be damaged."""


@final
@dataclass(frozen=True)
class TrainingHistory:
    """The history of the training of a network, or of the networks of a mixture one after the other.

    A point with a validation loss is an evaluation. Any other point stands for some successive steps: it has their mean
    training loss and mean gradient norm, and the learning rate of the last of these steps.
    """

    points: tuple[TrainingStep, ...]

    def with_bits_per_byte(self, bits_per_byte_per_nat: float | None) -> Self:
        """Returns a copy of the history in which evaluations also have the validation loss in bits per byte.

        `bits_per_byte_per_nat` is the bits per byte of a validation loss of one nat per token; with None, the copy is
        unchanged.
        """
        return type(self)(tuple(in_bits_per_byte(point, bits_per_byte_per_nat) for point in self.points))

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yields each point as a dictionary that JSON can hold, without the values that were not measured."""
        for point in self.points:
            yield {name: value for name, value in asdict(point).items() if value not in (None, "")}

    @classmethod
    def from_lines(cls, lines: Iterable[Mapping[str, Any]]) -> Self:
        """Creates a history from dictionaries as the method `lines` yields them."""
        return cls(tuple(TrainingStep(**line) for line in lines))

    def save(self, path: Path) -> None:
        """Writes the history as JSON lines, one for each point."""
        with atomic_file(path) as temporary:
            text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in self.lines())
            temporary.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a history that `save` has written; raises SavedModelError if the file is missing or damaged."""
        try:
            if path.is_file() and path.stat().st_size > _LARGEST_FILE:
                raise ValueError(f"it has more than {_LARGEST_FILE:,} bytes")
            lines = read_text(path, "the history of a training").splitlines()
            return cls(tuple(parse_as(TrainingStep, line) for line in lines))
        except ValueError as error:
            raise SavedModelError(f"{path} is damaged: {error}") from error


def in_bits_per_byte(point: TrainingStep, bits_per_byte_per_nat: float | None) -> TrainingStep:
    """Returns a step to which the validation loss in bits per byte is added if it has one in nats per token.

    `bits_per_byte_per_nat` is the bits per byte of a loss of one nat per token; with None, the step is unchanged.
    """
    if bits_per_byte_per_nat is None or point.valid_loss is None or point.unit != "nats/token":
        return point
    return replace(point, valid_bits_per_byte=_short(point.valid_loss * bits_per_byte_per_nat))


def reporter(on_progress: OnProgress | None, on_step: OnStep | None, bits_per_byte_per_nat: float | None) -> OnProgress:
    """Returns a progress callback that adds bits per byte to each training step, and calls both given callbacks.

    `bits_per_byte_per_nat` is the bits per byte of a validation loss of one nat per token; with None, no bits per byte
    are added.
    """

    def report(progress: Progress) -> None:
        if progress.step is not None:
            progress = replace(progress, step=in_bits_per_byte(progress.step, bits_per_byte_per_nat))
        if on_progress:
            on_progress(progress)
        if on_step and progress.step is not None:
            on_step(progress.step)

    return report


def in_member(point: TrainingStep, name: str) -> TrainingStep:
    """Returns a step to which the name of the member of a mixture that is being trained is added.

    If the member is a mixture itself, the name of its own member follows after a slash.
    """
    return replace(point, member=f"{name}/{point.member}" if point.member else name)


@final
class HistoryRecorder:
    """Records the history of one training run; `unit` is the unit of its losses."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._points: list[list[float]] = []  # (step, tokens, seconds, train loss, learning rate, gradient norm)
        self._evaluations: list[list[float]] = []  # (step, tokens, seconds, validation loss)
        self._steps_per_point = 1
        self._pending: list[list[float]] = []  # steps since the last point

    def add_step(self, figures: TrainingStep) -> None:
        """Adds a training step, which must have a training loss, a learning rate and a gradient norm."""
        assert figures.train_loss is not None
        assert figures.learning_rate is not None
        assert figures.gradient_norm is not None
        self._pending.append(
            [
                figures.step, figures.tokens, figures.seconds, figures.train_loss, figures.learning_rate,
                figures.gradient_norm,
            ]
        )  # fmt: skip
        if len(self._pending) < self._steps_per_point:
            return
        self._points.append(_merged(self._pending))
        self._pending = []
        if len(self._points) >= MOST_POINTS:
            self._points = [_merged(self._points[start : start + 2]) for start in range(0, len(self._points), 2)]
            self._steps_per_point *= 2

    def add_evaluation(self, figures: TrainingStep) -> None:
        """Adds an evaluation on the validation data, which must have a validation loss."""
        assert figures.valid_loss is not None
        self._evaluations.append([figures.step, figures.tokens, figures.seconds, figures.valid_loss])

    def history(self) -> TrainingHistory:
        """Returns the history so far."""
        rows = [*self._points, _merged(self._pending)] if self._pending else self._points
        points = [
            replace(
                self._point(*row[:3]),
                train_loss=_short(row[3]),
                learning_rate=_short(row[4]),
                gradient_norm=_short(row[5]),
            )
            for row in rows
        ]
        points += [replace(self._point(*row[:3]), valid_loss=_short(row[3])) for row in self._evaluations]
        return TrainingHistory(tuple(sorted(points, key=lambda point: point.step)))

    def _point(self, step: float, tokens: float, seconds: float) -> TrainingStep:
        return TrainingStep(step=int(step), tokens=int(tokens), seconds=round(seconds, 3), unit=self._unit)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns the state of the recorder as arrays for a checkpoint."""
        return {
            "points": np.array(self._points, np.float64).reshape(-1, 6),
            "pending": np.array(self._pending, np.float64).reshape(-1, 6),
            "evaluations": np.array(self._evaluations, np.float64).reshape(-1, 4),
            "steps_per_point": np.array([self._steps_per_point], np.int64),
        }

    def load_arrays(self, arrays: Arrays) -> None:
        """Restores the state of the recorder from the arrays of a checkpoint."""
        self._points, self._pending = arrays["points"].tolist(), arrays["pending"].tolist()
        self._evaluations = arrays["evaluations"].tolist()
        self._steps_per_point = int(arrays["steps_per_point"][0])


def _short(value: float) -> float:
    """Returns a number rounded to six significant digits, so that the file is small."""
    return float(f"{value:.6g}")


def _merged(rows: list[list[float]]) -> list[float]:
    """Merges successive points or steps into one point.

    It has the means of their losses and gradient norms, and the other values of the last of them.
    """
    step, tokens, seconds, _, learning_rate, _ = rows[-1]
    losses, norms = (math.fsum(row[column] for row in rows) / len(rows) for column in (3, 5))
    return [step, tokens, seconds, losses, learning_rate, norms]
