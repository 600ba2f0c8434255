"""Progress reports: long computations call back with how far they are, and the command line draws a bar from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a long computation has come: `done` of `total` units; `total` is None if it is unknown."""

    done: float
    total: float | None
    unit: str
    message: str = ""


OnProgress = Callable[[Progress], None]
"""A callback that receives progress reports."""
