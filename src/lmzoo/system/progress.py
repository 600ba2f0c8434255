"""Progress reports: long computations call a function with their progress, and the command line draws a bar from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The progress of a long computation: `done` of `total` units have been completed; an unknown total is None."""

    done: float
    total: float | None
    unit: str
    message: str = ""


OnProgress = Callable[[Progress], None]
"""A callback that receives progress reports."""
