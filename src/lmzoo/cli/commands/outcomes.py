"""The progress lines of the commands that train several models."""

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
    """Prints one line on stderr about a model whose training has ended.

    The line has the error, or the quality, if a function `quality` is given that describes it, and the training time.
    """
    name, record = name or outcome.name, outcome.record
    if record is None:
        terminal.note(f"  {name}: failed: {outcome.error}")
        return
    how = "reused" if outcome.reused or record.fit_seconds is None else f"fitted in {record.fit_seconds:.1f} s"
    terminal.note(f"  {name}: {quality(record)}, {how}" if quality else f"  {name}: {how}")
