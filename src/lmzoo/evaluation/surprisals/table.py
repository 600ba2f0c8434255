"""Tables of surprisals: one row for each word or token, as columns of NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import needs_extra

Unit = Literal["word", "token"]
"""What a row of a table is about."""

COUNTS: Final = ("context", "position", "word_position", "start", "end", "n_tokens", "token_id", "rank")
"""Columns of whole numbers. They are stored as floats where a value may be missing, as NaN."""
_NUMBERS: Final = ("sum", "corrected", "surprisal", "entropy", "entropy_reduction")
WORD_COLUMNS: Final = (
    "predictor", "context", "position", "word", "start", "end", "n_tokens",
    "sum", "corrected", "entropy", "entropy_reduction", "rank",
)  # fmt: skip
"""The columns of a table of words; the columns of the input follow "predictor"."""
TOKEN_COLUMNS: Final = (
    "predictor", "context", "position", "word_position", "token", "token_id", "start", "end",
    "surprisal", "entropy", "entropy_reduction", "rank",
)  # fmt: skip
"""The columns of a table of tokens; the columns of the input follow "predictor"."""


@dataclass(frozen=True, eq=False)
class SurprisalTable:
    """Surprisals, and what belongs to them, of R words or tokens. A missing number is NaN, and never 0."""

    columns: Mapping[str, NDArray[Any]]
    """The columns by name, each an array (R,): of texts (object), whole numbers (int64), or numbers (float64)."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    @classmethod
    def joined(cls, tables: Sequence[Self], names: Sequence[str]) -> Self:
        """Returns the rows of tables one after the other; `names` are their columns, which are empty without tables."""
        return cls({name: np.concatenate([table[name] for table in tables] or [_no_values(name)]) for name in names})

    def ordered(self, order: NDArray[np.intp]) -> Self:
        """Returns the table with its rows in the given order, an array (R,) of row numbers."""
        return type(self)({name: column[order] for name, column in self.columns.items()})

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields each row as a dictionary; missing numbers are None."""
        lists = [_as_list(name, column) for name, column in self.columns.items()]
        for values in zip(*lists, strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def to_dataframe(self) -> Any:
        """Returns the table as a pandas data frame; raises MissingExtraError without pandas."""
        with needs_extra("pandas", "pandas", "a data frame of surprisals"):
            import pandas  # pyright: ignore[reportMissingImports]
        return pandas.DataFrame(
            {
                name: (
                    pandas.array(_as_list(name, column), "Int64")
                    if column.dtype.kind == "f" and name in COUNTS
                    else column
                )
                for name, column in self.columns.items()
            }
        )


def _no_values(name: str) -> NDArray[Any]:
    """Returns an empty column of the type that the column `name` has."""
    return np.empty(0, np.int64 if name in COUNTS else np.float64 if name in _NUMBERS else object)


def _as_list(name: str, column: NDArray[Any]) -> list[Any]:
    """Returns the values of a column as Python objects, with None for missing numbers."""
    values = column.tolist()
    if column.dtype.kind == "f":
        if name in COUNTS:
            return [None if value != value else int(value) for value in values]
        return [None if value != value else value for value in values]
    return values
