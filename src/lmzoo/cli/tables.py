"""Tables of results for a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

    from lmzoo.evaluation.code_records import CodeRecord
    from lmzoo.evaluation.records import EvalRecord
    from lmzoo.experiments.ladder import TaskResult

_GAP = 2
"""Spaces between two columns."""


def plain_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = (0,), bold: Sequence[int] = ()
) -> Table:
    """Returns a table without borders.

    The columns whose indices are in `text` are aligned left and may wrap; the others are aligned right. The rows whose
    indices are in `bold` are printed in bold type.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for column, title in enumerate(header):
        is_text = column in text
        table.add_column(title, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*(Text(cell, style="bold" if number in bold else "") for cell in row))
    return table


def leaderboard_table(records: Sequence[EvalRecord], width: int) -> Group:
    """Returns the leaderboard for a terminal of `width` characters; columns at the right that do not fit are left out.

    Each measured text has a line with its size above its tables. Models that adapt to the test text, and models whose
    perplexities are not comparable, have tables of their own.
    """
    from rich.console import Group
    from rich.text import Text

    from lmzoo.report.leaderboard import columns, measured_texts, rows, titled_tables

    shown = columns(records)
    titles = [column.title for column in shown]
    text = [index for index, column in enumerate(shown) if not column.is_number]
    n_columns = _n_columns_that_fit([titles, *rows(records, shown)], width)
    parts: list[RenderableType] = []
    for caption, of_text in measured_texts(records):
        parts += [*([Text()] if parts else []), Text(caption, style="bold")]
        for number, (title, note, part) in enumerate(titled_tables(of_text)):
            if number:
                parts += [Text(), Text(title, style="bold")]
            cells = [row[:n_columns] for row in rows(part, shown)]
            parts += [plain_table(titles[:n_columns], cells, text=text), *([Text(note, style="dim")] if note else [])]
    return Group(*parts)


def ladder_tables(task_results: Sequence[TaskResult], width: int) -> Group:
    """Returns the excess cross-entropy of every model on every task for a terminal of `width` characters.

    The columns are divided among several tables if the models do not fit into one.
    """
    from rich.console import Group
    from rich.text import Text

    from lmzoo.report.ladder import excess

    header, rows = excess(task_results)
    # Numbers without a mark are padded to the width of the longest mark, so that decimal points align.
    padding = max((len(cell.partition(" ")[2]) for row in rows for cell in row[2:]), default=0)
    rows = [[*row[:2], *(_padded(cell, padding) for cell in row[2:])] for row in rows]
    tasks, *columns = (list(column) for column in zip(header, *rows, strict=True))
    tables: list[RenderableType] = []
    while columns:
        ends = itertools.accumulate((_width(column) for column in columns), initial=_width(tasks))
        n_here = max(1, sum(end <= width + _GAP for end in ends) - 1)
        titles, *cells = zip(tasks, *columns[:n_here], strict=True)
        text = [index for index, title in enumerate(titles) if title in header[:2]]
        tables += [Text()] if tables else []
        tables.append(plain_table(titles, cells, text=text))
        columns = columns[n_here:]
    return Group(*tables)


def code_length_table(records: Sequence[CodeRecord]) -> Table:
    """Returns the table of a text's compressed lengths under models and compressors; compressors are in bold type."""
    from lmzoo.report.prequential import HEADER, ranked, rows

    bold = [number for number, record in enumerate(ranked(records)) if record.kind == "compressor"]
    return plain_table(list(HEADER), rows(records), bold=bold)


def _n_columns_that_fit(rows: Sequence[Sequence[str]], width: int) -> int:
    ends = itertools.accumulate(_width(column) for column in zip(*rows, strict=True))
    return sum(end <= width + _GAP for end in ends)


def _padded(cell: str, padding: int) -> str:
    number, _, mark = cell.partition(" ")
    return f"{number} {mark:{padding}}"


def _width(column: Sequence[str]) -> int:
    return max(map(len, column)) + _GAP
