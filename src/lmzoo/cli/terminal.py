"""What the commands share on the terminal: data goes to stdout, progress and notes to stderr.

What the consoles print is text, whatever is in it: nothing out of a corpus, a model or a file name commands a terminal.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from lmzoo.system.placement import this_process
from lmzoo.system.printable import printable, printable_json

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import TaskID
    from rich.segment import Segment

    from lmzoo.system.progress import OnProgress, Progress


@cache
def stdout() -> Console:
    """The console for data."""
    console = _console()
    if not console.is_terminal:
        console.width = 1000  # files and pipes have no edge at which a table must be cut
    return console


@cache
def stderr() -> Console:
    """The console for progress, notes and errors."""
    return _console(stderr=True)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console, RenderHook

    class ShowAsText(RenderHook):
        def process_renderables(self, renderables: list[Any]) -> list[Any]:
            return [_AsText(renderable) for renderable in renderables]

    console = Console(stderr=stderr, highlight=False)
    console.push_render_hook(ShowAsText())
    return console


@dataclass(frozen=True)
class _AsText:
    """What rich draws, with no commands in its text; rich's own, such as colours, are not part of the text."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.content, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: names in the first column, figures in the others."""
    from lmzoo.cli.tables import plain_table

    stdout().print(plain_table(header, rows))


def print_json(value: Any) -> None:
    """One JSON document on one line of stdout; NaN and Infinity are errors, not output."""
    sys.stdout.write(printable_json(json.dumps(value, ensure_ascii=False, allow_nan=False)) + "\n")


def note(message: str) -> None:
    """One line for people on stderr, shown as it is."""
    stderr().print(message, markup=False, soft_wrap=True)


def note_pages(pages: Sequence[Path]) -> None:
    """Where a report is."""
    for page in pages:
        note(f"report: {page}")


def command_line() -> str:
    """How this program was called, as a line for a shell."""
    return shlex.join(["lmzoo", *sys.argv[1:]])


@contextmanager
def progress(description: str) -> Iterator[OnProgress]:
    """A bar with rate and time to go on stderr; yields the callback that moves it."""
    with progress_of_many() as move:
        yield lambda progress: move(description, progress)


@contextmanager
def progress_of_many() -> Iterator[Callable[[str, Progress], None]]:
    """A bar for each thing that is under way, by its name; yields the callback that moves them."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("to go"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
        console=stderr(),
        transient=True,
        disable=not stderr().is_terminal or this_process().rank > 0,
    )
    tasks: dict[tuple[str, str], TaskID] = {}

    def move(name: str, progress: Progress) -> None:
        key = name, progress.unit
        if key not in tasks:
            for other in [other for other in tasks if other[0] == name]:  # its next stage begins
                bars.remove_task(tasks.pop(other))
            tasks[key] = bars.add_task(name, total=None, detail="")
        task = bars.tasks[bars.task_ids.index(tasks[key])]
        speed = f"{_short(task.speed)} {progress.unit}/s" if task.speed else ""
        detail = " · ".join(part for part in (speed, progress.message) if part)
        finished = progress.total is not None and progress.done >= progress.total
        bars.update(task.id, completed=progress.done, total=progress.total, detail=detail, visible=not finished)

    with bars:
        yield move


def _short(number: float) -> str:
    for unit in ("", "k", "M"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}G"
