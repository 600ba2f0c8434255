"""The texts whose surprisals are measured, divided into contexts: what a model may see of a text.

Texts are read piece by piece, so that the memory needed depends on the longest context and not on the whole input.
"""

from __future__ import annotations

import csv
import io
import logging
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, groupby
from pathlib import Path
from typing import Final, Literal

from lmzoo.checks import check_choice, check_text
from lmzoo.corpora.compression import inner_suffix
from lmzoo.corpora.json_texts import SUFFIXES as JSON_SUFFIXES
from lmzoo.corpora.text_files import MAX_BYTES_VARIABLE, LineReader, max_bytes
from lmzoo.errors import ConfigurationError, CorpusError, UsageError
from lmzoo.system.counts import counted

_logger = logging.getLogger(__name__)
Kind = Literal["text", "csv", "tsv"]
"""How an input is read: as plain text, or as a table with commas or tabs between the cells."""
KINDS: Final = ("text", "csv", "tsv")
_DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
_OTHER_SEPARATORS: Final = {
    ";": "semicolons: save it with commas or, as TSV, with tabs",
    "\t": "tabs: read it as TSV (--input tsv)",
    ",": "commas: read it as CSV (--input csv)",
}
_LONGEST_CELL: Final = 2**31 - 1
"""Largest number of characters of a table cell; the default of the module csv, 131,072, is less than a chapter has."""
JOINER: Final = " "
"""The text between two parts of a context."""
_GROUPS: Final = ("item", "condition")
_REGION: Final = "region"
STANDARD_INPUT: Final = "-"


@dataclass(frozen=True)
class Scope:
    """How far the context of a token reaches back: to the start of its document, or of its sentence; or a window."""

    by_sentence: bool = False
    """True if each line of a text, or each row of a table, is a context of its own."""
    window: int | None = None
    """Largest number of tokens of the context that a model sees; None = all."""

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Returns the scope that "document", "sentence" or "window:N" names, where N is a number of tokens.

        Raises ConfigurationError for another text.
        """
        name, colon, number = str(text).partition(":")
        if name == "window" and re.fullmatch("[0-9]{1,18}", number) and int(number) > 0:
            return cls(window=int(number))
        if name not in ("document", "sentence") or colon:
            raise ConfigurationError(
                f"the context must be 'document', 'sentence', or 'window:N' with a number of tokens N of at least 1, "
                f"as in 'window:64'; got {reprlib.repr(text)}"
            )
        return cls(by_sentence=name == "sentence")


@dataclass(frozen=True)
class Part:
    """A part of a context, with the cells of the table row from which it comes."""

    text: str
    cells: Sequence[str]
    offset: int = 0
    """Position of the first character of the part in the text of its file or table cell."""


@dataclass(frozen=True)
class Context:
    """A text that a model reads on its own, in one or several parts. Parts are joined by spaces."""

    parts: Sequence[Part]
    n_bytes_read: int = 0
    """Number of bytes of the input that have been read until the end of this context, to show progress."""

    @property
    def text(self) -> str:
        """The text of the context."""
        return JOINER.join(part.text for part in self.parts)


@dataclass(frozen=True)
class Contexts:
    """The contexts of an input, which are read while they are iterated over, with the columns that they carry along."""

    columns: Sequence[str]
    """The names of the cells of each part: the columns of a table, or "document" for the name of a plain text."""
    contexts: Iterable[Context]
    n_bytes: int | None = None
    """Size of the input in bytes; None if it is not known before the end."""


def from_texts(texts: Sequence[str], scope: Scope) -> Contexts:
    """Returns the contexts of texts in memory; each text is a document, whose name is its number from 1 on."""

    def contexts() -> Iterator[Context]:
        for number, (text, n_read) in enumerate(zip(texts, n_bytes, strict=True), start=1):
            yield from _of_lines(io.StringIO(text, newline="\n"), str(number), scope, lambda n_read=n_read: n_read)

    for text in texts:
        check_text(text)
    n_bytes = [*accumulate(len(text.encode(errors="surrogatepass")) for text in texts)]
    return Contexts(["document"], contexts(), n_bytes[-1] if n_bytes else 0)


def read_contexts(
    sources: Sequence[str | Path],
    scope: Scope,
    *,
    kind: Kind | None = None,
    text_column: str = "text",
    groups: Sequence[str] | None = None,
) -> Contexts:
    """Returns the contexts of files, which are read while the contexts are iterated over.

    - `sources`: names of files; "-" is standard input.
    - `kind`: how they are read; None = a table for names that end in .csv or .tsv (also compressed), else plain text.
    - `text_column`: the column of a table that holds the text.
    - `groups`: columns of a table. Successive rows with the same cells in these columns are the parts of one document;
      without such columns, each row is a document. None = "item" and "condition", as far as the table has them, if it
      has a column "region", too.

    Raises UsageError if files of both kinds are mixed, a column is missing or standard input is named twice, and
    CorpusError for a file that cannot be read.
    """
    names = [*map(str, sources)]
    if not names or "" in names:
        raise UsageError("name at least one text: a file, or - for standard input; a name cannot be empty")
    if names.count(STANDARD_INPUT) > 1:
        raise UsageError("standard input can be read only once: name - once")
    if kind is not None:
        check_choice(KINDS, kind=kind)
    kinds = {kind or _kind_of(source) for source in sources}
    if len(kinds) > 1:
        raise UsageError("plain texts and tables have different columns: read them in separate calls")
    readers = [LineReader(None if name == STANDARD_INPUT else Path(name)) for name in names]
    sizes = [reader.n_bytes for reader in readers]
    total = sum(size for size in sizes if size is not None) if None not in sizes else None
    if (delimiter := _DELIMITERS.get(kinds.pop())) is None:
        if text_column != "text" or groups:
            raise UsageError("columns can be named for tables only: a file .csv or .tsv, or --input csv or tsv")
        return Contexts(["document"], _of_files(readers, scope), total)
    tables = [_Table(reader, delimiter, text_column, groups) for reader in readers]
    header = tables[0].columns
    if different := next((table for table in tables if table.columns != header), None):
        raise UsageError(
            f"the tables {tables[0].name} and {different.name} have different columns: read them separately"
        )
    return Contexts(header, _of_tables(tables, scope), total)


def _kind_of(source: str | Path) -> Kind:
    suffix = inner_suffix(Path(source))
    for kind in ("csv", "tsv"):
        if suffix == f".{kind}":
            return kind
    if suffix in JSON_SUFFIXES:
        raise UsageError(
            f"{source} is JSON; surprisals are measured on plain text and tables: give a .txt, .csv or .tsv"
        )
    return "text"


# ---- Plain text -------------------------------------------------------------------------------------


def _of_files(readers: Sequence[LineReader], scope: Scope) -> Iterator[Context]:
    for reader in readers:
        yield from _of_lines(reader, reader.name, scope, lambda: sum(each.n_read for each in readers), reader)


def _of_lines(
    lines: Iterable[str], name: str, scope: Scope, n_read: Callable[[], int], reader: LineReader | None = None
) -> Iterator[Context]:
    """Yields the contexts of a text, given by its lines: each line, or all of them. Blank contexts are left out.

    `name` is the name of the text, and `n_read` returns the number of bytes of the input that have been read.
    """

    def context(text: str, offset: int) -> Iterator[Context]:
        if text and not text.isspace():
            yield Context([Part(text, [name], offset)], n_read())

    if scope.by_sentence:
        offset = 0
        for line in lines:
            yield from context(line.removesuffix("\n"), offset)
            offset += len(line)
        return
    kept, size = list[str](), 0
    for line in lines:
        kept.append(line)
        size += len(line)
        if reader and reader.is_limited and size > max_bytes():
            raise CorpusError(
                f"{name} has more than {max_bytes():,} characters, which are one document: read it with the context "
                f"'sentence', or set the environment variable {MAX_BYTES_VARIABLE} to a larger number"
            )
    yield from context("".join(kept), 0)


# ---- Tables -----------------------------------------------------------------------------------------


class _Table:
    """A table of which the header has been read, and whose rows are read when they are iterated over."""

    def __init__(self, reader: LineReader, delimiter: str, text_column: str, groups: Sequence[str] | None) -> None:
        self.reader, self.name = reader, reader.name
        self._rows = csv.reader(reader, delimiter=delimiter, strict=True)
        self._first_line = 0  # of the row that was read last
        columns = self._next()
        if columns is None:
            raise CorpusError(f"the table {self.name} is empty: its first row must name the columns")
        self.columns = columns
        self._text = self._index(text_column, "--text-column")
        if groups is None:
            groups = [name for name in _GROUPS if name in self.columns and _REGION in self.columns]
        self.group_names = groups
        self._groups = [self._index(name, "--group") for name in groups]
        for name in self.columns:
            if self.columns.count(name) > 1:
                twice, advice = (
                    (f"'{name}'", "rename one of them") if name else ("without a name", "name or delete them")
                )
                raise CorpusError(f"the table {self.name} has two columns {twice}: {advice}")

    def _index(self, column: str, option: str) -> int:
        if column not in self.columns:
            for separator, advice in _OTHER_SEPARATORS.items():
                if len(self.columns) == 1 and separator in self.columns[0]:
                    raise UsageError(f"the cells of the table {self.name} are separated by {advice}")
            names = ", ".join(f"'{name}'" for name in self.columns)
            raise UsageError(
                f"the table {self.name} has no column '{column}'; its columns are: {names}; choose one with {option}"
            )
        return self.columns.index(column)

    def _next(self) -> list[str] | None:
        """Returns the cells of the next row that is not a blank line; None at the end of the table."""
        row: list[str] | None = []
        while row == []:
            self._first_line = self._rows.line_num + 1
            limit = csv.field_size_limit(_LONGEST_CELL)
            try:
                row = next(self._rows, None)
            except csv.Error as error:
                raise CorpusError(f"{self.name} line {self._first_line:,} {_fault(error)}") from error
            finally:
                csv.field_size_limit(limit)  # the limit of the module csv is that of the whole program
        return row

    def __iter__(self) -> Iterator[tuple[list[str], Part]]:
        """Yields the cells of the grouping columns of each row, and the row as a part of a context."""
        while (row := self._next()) is not None:
            if len(row) != len(self.columns):
                raise CorpusError(
                    f"{self.name} line {self._first_line:,} has {counted(len(row), 'cell')}, but the table has "
                    f"{counted(len(self.columns), 'column')}"
                )
            yield [row[index] for index in self._groups], Part(row[self._text], row)


def _fault(error: csv.Error) -> str:
    """Returns what is wrong with a row that the module csv refuses, and what to do."""
    if "new-line" in str(error):
        return "has a carriage return (CR) outside quotation marks: save the table with the line ends LF or CRLF"
    fault = (
        "has text after a closing quotation mark"
        if "expected after" in str(error)
        else "has a quotation mark that is not closed"
    )
    return f"{fault}: put a cell that has quotation marks into quotation marks, and double those inside it"


def _of_tables(tables: Sequence[_Table], scope: Scope) -> Iterator[Context]:
    for table in tables:
        yield from _of_table(table, scope, lambda: sum(each.reader.n_read for each in tables))


def _of_table(table: _Table, scope: Scope, n_read: Callable[[], int]) -> Iterator[Context]:
    """Yields the contexts of a table: one for each row or, if it has documents, for each run of rows of one document.

    Blank rows are left out. `n_read` returns the number of bytes of the input that have been read. Logs a warning at
    the end of the table if rows of one document are separated by rows of another.
    """
    has_documents = bool(table.group_names) and not scope.by_sentence
    number = count()  # without documents, each row is a group of its own
    seen: set[object] = set()
    is_scattered = False
    for group, rows in groupby(table, key=lambda row: tuple(row[0]) if has_documents else next(number)):
        parts = [part for _, part in rows if part.text and not part.text.isspace()]
        if has_documents:
            is_scattered |= group in seen
            seen.add(group)
        if parts:
            yield Context(parts, n_read())
    if is_scattered:
        _logger.warning(
            "%s: some rows with the same %s do not follow each other, so they were measured as separate documents: "
            "if they are parts of one document, sort the table",
            table.name,
            " and ".join(table.group_names),
        )
