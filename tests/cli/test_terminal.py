"""Progress bars of the command line."""

from __future__ import annotations

import io
import time
from collections import Counter
from typing import Any

import pytest
import rich.progress
from rich.console import Console

from lmzoo.cli import terminal
from lmzoo.cli.sparkline import Sparkline
from lmzoo.system.progress import Progress, TrainingStep


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


# ---- Training --------------------------------------------------------------------------------------


def a_step(number: int, **figures: Any) -> Progress:
    step = TrainingStep(step=number, tokens=1000 * number, seconds=number / 2, **figures)
    return Progress(number, 100, "tokens", "train 2.000 nats/token", step)


def test_a_curve_of_the_loss_grows_from_its_largest_to_its_smallest_value() -> None:
    """A straight line down in 16 characters has each of the 8 bars, in order."""
    curve = Sparkline()
    assert str(curve) == ""
    curve.add(0.0, 5.0)
    assert str(curve) == "▁", "a single value has no range"
    line = Sparkline()
    for number in range(1600):
        line.add(number / 1600, -number)
    assert [*str(line)] == sorted(str(line), reverse=True)
    assert (len(str(line)), {*str(line)}) == (16, {*"▁▂▃▄▅▆▇█"})


def test_the_curve_is_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal, encoding, expected in [(True, "utf-8", True), (True, "ascii", False), (False, "utf-8", False)]:
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", write_through=True)
        console = Console(file=file, force_terminal=is_terminal, width=150)
        monkeypatch.setattr(terminal, "stderr", lambda console=console: console)
        with terminal.progress("fitting lstm") as on_progress:
            for number in range(1, 60):
                on_progress(a_step(number, train_loss=8 - number / 10))
                time.sleep(0.002)
        text = raw.getvalue().decode(encoding)
        assert ("█" in text and "▁" in text) == expected
        assert ("nats/token" in text) == is_terminal


def test_elsewhere_each_evaluation_is_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.stderr.cache_clear()
    with terminal.progress_of_many() as on_progress:
        on_progress("lstm", a_step(50, train_loss=3.0))
        on_progress("lstm", a_step(50, valid_loss=3.5, valid_bits_per_byte=2.25))
        on_progress("reward", a_step(100, valid_loss=0.25, unit="nats/comparison"))
    terminal.stderr.cache_clear()
    assert capsys.readouterr().err.splitlines() == [
        "lstm (50%): 50 k tokens in 25 s, valid 2.250 bits/byte",
        "reward (100%): 100 k tokens in 50 s, valid 0.250 nats/comparison",
    ]
