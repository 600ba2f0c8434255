"""Files with tables of surprisals: values separated by tabs or commas, JSON lines, and Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import UsageError, needs_extra
from lmzoo.evaluation.surprisals.delimited import quoted, rows_as_text
from lmzoo.evaluation.surprisals.table import COUNTS, SurprisalTable
from lmzoo.system.files import atomic_file
from lmzoo.system.jobs import n_cores
from lmzoo.system.printable import printable_json

Format = Literal["tsv", "csv", "jsonl", "parquet"]
FORMATS: Final = ("tsv", "csv", "jsonl", "parquet")
_DECIMALS: Final = 6
"""Decimal places of surprisals and entropies in text files; float32 networks are exact to about five."""
_ROWS_AT_ONCE: Final = 1 << 14
"""Number of rows that are written at a time."""


class TextOutput(Protocol):
    """What text can be written to, such as an open file."""

    def write(self, text: str, /) -> Any:
        """Writes a text."""


Write = Callable[[SurprisalTable], None]
"""Writes the rows of a table after those that were written before."""


def format_of(path: Path) -> Format:
    """Returns the format of a file by the suffix of its name; raises UsageError for another suffix."""
    suffix = path.suffix.lower().removeprefix(".")
    for name in FORMATS:
        if suffix == name:
            return name
    raise UsageError(f"the name of an output file must end in .{', .'.join(FORMATS)}; got {path}")


@contextmanager
def table_file(path: Path, names: Iterable[str]) -> Iterator[Write]:
    """Yields a function that writes tables to a file, which appears when the `with` block ends without an error.

    `names` are the columns, and the suffix of `path` tells the format. Raises UsageError for another suffix, and
    MissingExtraError if the format needs a package that is not installed.
    """
    file_format = format_of(path)
    if file_format == "parquet":
        with _parquet_file(path, names) as write:
            yield write
    else:
        with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            yield table_writer(file, file_format, names)


def table_writer(file: TextOutput, file_format: Format, names: Iterable[str]) -> Write:
    """Writes the header of a text file, if its format has one, and returns a function that writes tables to it.

    Missing numbers are empty cells, and null in JSON. An infinite surprisal is "inf", and null in JSON, which has no
    infinity. Raises UsageError for Parquet, which is not text.
    """
    if file_format == "parquet":
        raise UsageError("Parquet is not text and needs a file: --out FILE.parquet")
    if file_format == "jsonl":
        return lambda table: file.write("".join(_json_lines(table)))
    delimiter = "\t" if file_format == "tsv" else ","
    file.write(delimiter.join(quoted([*names], delimiter)) + "\n")
    return lambda table: _write_rows(file, table, delimiter)


def _write_rows(file: TextOutput, table: SurprisalTable, delimiter: str) -> None:
    decimals = [*starmap(_n_decimals, table.columns.items())]

    def lines(start: int) -> str:
        columns = [column[start : start + _ROWS_AT_ONCE] for column in table.columns.values()]
        return rows_as_text(columns, decimals, delimiter)

    with ThreadPoolExecutor(n_cores()) as pool:  # compiled code runs in parallel
        for text in pool.map(lines, range(0, len(table), _ROWS_AT_ONCE)):
            file.write(text)


def _n_decimals(name: str, column: NDArray[Any]) -> int:
    return 0 if name in COUNTS or column.dtype.kind != "f" else _DECIMALS


def _json_lines(table: SurprisalTable) -> Iterator[str]:
    for row in table.rows():
        values = {name: _finite(value) if isinstance(value, float) else value for name, value in row.items()}
        yield printable_json(json.dumps(values, ensure_ascii=False, allow_nan=False)) + "\n"


def _finite(value: float) -> float | None:
    return round(value, _DECIMALS) if abs(value) < np.inf else None


@contextmanager
def _parquet_file(path: Path, names: Iterable[str]) -> Iterator[Write]:
    with needs_extra("pyarrow", "arrow", "a Parquet file"):
        import pyarrow
        import pyarrow.parquet
    with atomic_file(path) as temporary:
        writer: Any = None

        def write(table: SurprisalTable) -> None:
            nonlocal writer
            arrow = pyarrow.table({name: _arrow(pyarrow, name, column) for name, column in table.columns.items()})
            texts: Any = [name for name, column in table.columns.items() if column.dtype == object]
            # A dictionary of values takes time, and saves space only where values repeat as texts do.
            writer = writer or pyarrow.parquet.ParquetWriter(temporary, arrow.schema, use_dictionary=texts)
            writer.write_table(arrow)

        try:
            yield write
            if not writer:
                write(SurprisalTable.joined([], [*names]))
        finally:
            if writer:
                writer.close()


def _arrow(pyarrow: Any, name: str, column: NDArray[Any]) -> Any:
    """Returns a column as an array of Arrow, with null for missing numbers."""
    if column.dtype == object:
        return pyarrow.array(column, pyarrow.string())
    array = pyarrow.array(column, from_pandas=True)  # which makes NaN null
    return array.cast(pyarrow.int64()) if name in COUNTS else array
