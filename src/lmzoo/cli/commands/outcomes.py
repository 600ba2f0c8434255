"""What commands that fit many species say when one of them is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lmzoo.cli import terminal

if TYPE_CHECKING:
    from lmzoo.evaluation.records import EvalRecord
    from lmzoo.system.jobs import Outcome


def note_fit(
    outcome: Outcome[EvalRecord], *, name: str = "", quality: Callable[[EvalRecord], str] | None = None
) -> None:
    """A line under `name` (default: that of the outcome): why it failed, or how good it is, and how it was made."""
    name, record = name or outcome.name, outcome.record
    if record is None:
        terminal.note(f"  {name}: failed: {outcome.error}")
        return
    how = "reused" if outcome.reused else f"fitted in {record.fit_seconds:.1f} s"
    terminal.note(f"  {name}: {quality(record)}, {how}" if quality else f"  {name}: {how}")
