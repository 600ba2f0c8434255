"""Progress bars of the command line."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import rich.progress

from lmzoo.cli import terminal
from lmzoo.system.progress import Progress


def test_a_million_reports_are_few_updates_of_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing a bar takes far longer than a small document; the number of updates must not grow with the reports."""
    calls: Counter[str] = Counter()
    monkeypatch.setattr(terminal.time, "monotonic", lambda: 0.0)
    original = rich.progress.Progress.update

    def update(self: Any, *arguments: Any, **options: Any) -> None:
        calls["update"] += 1
        original(self, *arguments, **options)

    monkeypatch.setattr(rich.progress.Progress, "update", update)
    with terminal.progress("reading") as on_progress:
        assert calls["update"] == 1  # the bar is there before the first report
        for done in range(1001):
            on_progress(Progress(done, 1000, "documents"))
    assert calls["update"] == 3  # the first report and the last
