"""Reads docstrings of lmzoo, which are plain text with Markdown lists and tables, as reStructuredText.

In a docstring, an indented block is a formula, a drawing or a listing, and is shown as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from sphinx.application import Sphinx

_ITEMS = ("- ", "* ", "1. ", ">>> ")


def as_restructured_text(lines: Iterable[str]) -> Iterator[str]:
    """Yields the lines of a docstring, written as reStructuredText."""
    for kind, group in groupby(_with_kinds(lines), key=lambda pair: pair[0]):
        part = [line for _, line in group]
        if kind == "table":
            yield from _table(part)
        elif kind == "block":
            yield from ("", "::", "", *part, "")
        else:
            yield from (line.replace("|", "\\|") for line in part)


def _with_kinds(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields each line with its kind: "text", "table", or "block" for indented lines that continue no list."""
    kind, in_list = "text", False
    for line in lines:
        if line.startswith("|"):
            kind = "table"
        elif line.startswith("  "):
            kind = "text" if in_list or (kind == "text" and line.lstrip().startswith(_ITEMS)) else "block"
        elif line.strip():
            kind, in_list = "text", line.startswith(_ITEMS)
        yield kind, line


def _table(lines: Sequence[str]) -> Iterator[str]:
    """Yields a Markdown table, written as a table of lists."""
    yield from ("", ".. list-table::", "   :header-rows: 1", "")
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.strip() and any(set(cell) - set("-:") for cell in cells):
            yield from (f"   {' ' if column else '*'} - {cell}" for column, cell in enumerate(cells))
    yield ""


def process(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Replaces the lines of a docstring that autodoc has read."""
    lines[:] = as_restructured_text(lines)


def without_factories(
    app: Sphinx, what: str, name: str, obj: object, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Returns a signature in which `...` stands for a default value that is made anew for each call."""
    return signature and signature.replace("<factory>", "..."), returns


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects to autodoc."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", without_factories)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
