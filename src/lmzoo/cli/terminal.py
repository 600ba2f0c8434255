"""Output of the commands: data goes to stdout, progress and notes go to stderr.

Texts from corpora, models and file names may contain control sequences of terminals. The consoles print them as visible
characters.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from lmzoo.cli.sparkline import Sparkline
from lmzoo.system.counts import short_number
from lmzoo.system.placement import this_process
from lmzoo.system.printable import name_text, printable, printable_json
from lmzoo.system.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import DataclassInstance
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import TaskID
    from rich.segment import Segment

    from lmzoo.system.progress import OnProgress


_SECONDS_BETWEEN_UPDATES = 0.05


@cache
def stdout() -> Console:
    """Returns the console that prints data to stdout."""
    console = _console()
    if not console.is_terminal:
        console.width = 1000  # tables in files and pipes need not fit a screen
    return console


@cache
def stderr() -> Console:
    """Returns the console that prints progress, notes and errors to stderr."""
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
    """A wrapper that shows control characters in the text of a rich object, and keeps the colours that rich adds."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.content, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table to stdout: the first column is aligned to the left, the others to the right."""
    from lmzoo.cli.tables import plain_table

    stdout().print(plain_table(header, rows))


def print_json(value: Any) -> None:
    """Prints a value as JSON on one line of stdout. Raises ValueError for NaN and infinity, which JSON lacks."""
    sys.stdout.write(printable_json(json.dumps(value, ensure_ascii=False, allow_nan=False)) + "\n")


def print_records(records: Iterable[DataclassInstance]) -> None:
    """Prints dataclass instances, such as the records of a run, as JSON with one of them on each line of stdout."""
    for record in records:
        print_json(asdict(record))


@dataclass(frozen=True)
class DataOutput:
    """Writes data to stdout; on a terminal, visible signs replace control characters."""

    def write(self, text: str, /) -> int:
        """Writes a text and returns its length."""
        sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
        return len(text)


def note(message: str) -> None:
    """Prints one line of plain text to stderr."""
    stderr().print(printable(message, keep=""), markup=False, soft_wrap=True)


class _NoteHandler(logging.Handler):
    """A log handler that prints each different message once on stderr.

    If several processes train one model, only the first process prints.
    """

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._printed and this_process().rank == 0:
            self._printed.add(message)
            note(message)


@contextmanager
def log_messages() -> Iterator[None]:
    """Prints the log messages of lmzoo on stderr within a `with` block, each different message once."""
    logger, handler = logging.getLogger("lmzoo"), _NoteHandler()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def note_pages(pages: Sequence[Path]) -> None:
    """Prints the paths of the pages of a report to stderr."""
    for page in pages:
        note(f"report: {page}")


def command_line() -> str:
    """Returns the command line of this process, quoted for a shell and as valid Unicode."""
    return name_text(shlex.join(["lmzoo", *sys.argv[1:]]))


@contextmanager
def progress(description: str) -> Iterator[OnProgress]:
    """Shows a progress bar with rate and remaining time on stderr, and yields the callback that updates the bar.

    Before the first update, the bar shows that the work has begun.
    """
    with progress_of_many() as update:
        update(description, Progress(0, None, ""))
        yield lambda progress: update(description, progress)


@contextmanager
def progress_of_many() -> Iterator[Callable[[str, Progress], None]]:
    """Shows a progress bar for each running job on stderr, and for a network the curve of its training loss so far.

    Yields a function `update(name, progress)`, which draws the progress of the job `name`. If stderr is not a terminal,
    it prints a plain line for each evaluation of a network instead.
    """
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
        console=stderr(),
        transient=True,
        disable=not stderr().is_terminal or this_process().rank > 0,
    )
    tasks: dict[tuple[str, str, float | None], TaskID] = {}
    updated: dict[str, float] = {}  # the time of the last update of each name
    curves: defaultdict[tuple[str, str, float | None], Sparkline] = defaultdict(Sparkline)
    has_bars = stderr().encoding.lower().startswith("utf")

    def update(name: str, progress: Progress) -> None:
        key = name, progress.unit, progress.total
        step = progress.step
        if step and step.valid_loss is not None and not stderr().is_terminal and this_process().rank == 0:
            note(_evaluation_line(name, progress, step.valid_loss))
        if step and step.train_loss is not None and progress.total:
            curves[key].add(progress.done / progress.total, step.train_loss)
        finished = progress.total is not None and progress.done >= progress.total
        now = time.monotonic()
        if key in tasks and not finished and now - updated[name] < _SECONDS_BETWEEN_UPDATES:
            return
        updated[name] = now
        if key not in tasks:
            for other in [other for other in tasks if other[0] == name]:  # the next stage of the job has begun
                bars.remove_task(tasks.pop(other))
            tasks[key] = bars.add_task(name, total=None, detail="")
        task = bars.tasks[bars.task_ids.index(tasks[key])]
        speed = f"{short_number(task.speed)} {progress.unit}/s" if task.speed and progress.unit else ""
        curve = str(curves[key]) if key in curves and has_bars else ""
        detail = " · ".join(part for part in (speed, " ".join((curve, progress.message)).strip()) if part)
        bars.update(task.id, completed=progress.done, total=progress.total, detail=detail, visible=not finished)

    with nullcontext() if bars.disable else bars:  # rich before 14.3 ends even a disabled display with an empty line
        yield update


def _evaluation_line(name: str, progress: Progress, valid_loss: float) -> str:
    """Returns a line about an evaluation of a network in training."""
    assert progress.step is not None
    share = f" ({progress.done / progress.total:.0%})" if progress.total else ""
    bits = progress.step.valid_bits_per_byte
    quality = f"{valid_loss:.3f} {progress.step.unit}" if bits is None else f"{bits:.3f} bits/byte"
    return (
        f"{name}{share}: {short_number(progress.step.tokens)} tokens in {progress.step.seconds:.0f} s, valid {quality}"
    )
