"""Progress reports: long computations call a function with their progress, and the command line draws a bar from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """The figures of one step in the training of a network, or of an evaluation after it. None = not measured then."""

    step: int
    """Number of training steps so far."""
    tokens: int
    """Number of tokens read so far, counted once per epoch."""
    seconds: float
    """Training time so far in seconds, including that before an interruption."""
    train_loss: float | None = None
    """Loss of the batch of this step, in the unit `unit`."""
    learning_rate: float | None = None
    """Learning rate of this step."""
    gradient_norm: float | None = None
    """Norm of the gradient of this step before it was clipped."""
    valid_loss: float | None = None
    """Loss on the validation data, if the network was evaluated after this step. The unit is `unit`, except for reward
    models, where it is the share of pairs of replies that are ordered wrongly."""
    valid_bits_per_byte: float | None = None
    """The validation loss in bits per byte, if the validation data is text and no part of it is lost in tokens."""
    unit: str = "nats/token"
    """The unit of the losses."""
    member: str = ""
    """Name of the network among the members of a mixture; empty outside of mixtures."""


@dataclass(frozen=True)
class Progress:
    """The progress of a long computation: `done` of `total` units have been completed; an unknown total is None."""

    done: float
    total: float | None
    unit: str
    """Name of the units; empty if `done` counts seconds."""
    message: str = ""
    step: TrainingStep | None = None
    """The figures of the training step or evaluation after which this is reported, if there are any."""


OnProgress = Callable[[Progress], None]
"""A callback that receives progress reports."""


def progress_counter(
    on_progress: OnProgress | None, total: float | None, unit: str, message: str
) -> Callable[[int], None]:
    """Returns a function that takes the number of units done since its last call, and reports how many are done so far.

    The other arguments are those of `Progress`. Nothing is reported if `on_progress` is None.
    """
    n_done = 0

    def count(n_units: int) -> None:
        nonlocal n_done
        n_done += n_units
        if on_progress:
            on_progress(Progress(n_done, total, unit, message))

    return count


@final
class StepProgress:
    """Reports the progress of a computation of `n_steps` steps, each of which has a message.

    `on_progress` receives the reports; None = nobody does.
    """

    def __init__(self, n_steps: int, on_progress: OnProgress | None) -> None:
        self._n_steps, self._on_progress = n_steps, on_progress
        self._step, self._message = -1, ""

    def start(self, message: str) -> None:
        """Reports that the next step starts; `message` says what it does."""
        self._step, self._message = self._step + 1, message
        self.report(0)

    def report(self, share: float) -> None:
        """Reports that a share of the current step, from 0 to 1, is done."""
        if self._on_progress:
            self._on_progress(Progress(self._step + share, self._n_steps, "steps", self._message))


OnStep = Callable[[TrainingStep], None]
"""A callback that receives the figures of each training step and each evaluation, for example to log them."""
