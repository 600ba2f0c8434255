"""The result of an experiment: its run folder, and the record or the error of each model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from lmzoo.errors import needs_extra
from lmzoo.evaluation.records import AnyRecord, as_row
from lmzoo.system.jobs import Outcome

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingImports]

_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "bits_per_byte": ("bits/byte", "{:.3f}".format),
    "perplexity_per_token": ("perplexity/token", "{:,.1f}".format),
    "excess_nats": ("excess nats/token", "{:.4f}".format),
    "n_parameters": ("parameters", "{:,}".format),
    "fit_seconds": ("training, s", "{:.1f}".format),
}
"""Columns of the table in a notebook: field of a record, title and format."""


@dataclass(frozen=True, repr=False)
class RunResult(Generic[AnyRecord]):
    """The result of an experiment: the records of the evaluated models, and the errors of the models that failed.

    A notebook displays the result as a table, with the lowest bits per byte first.
    """

    folder: Path
    """Folder of the run, with the records, the trained models and the scores of each token."""
    outcomes: list[Outcome[AnyRecord]]
    """One entry per model, in the order of the request."""

    @property
    def records(self) -> list[AnyRecord]:
        """The evaluation results of all models that did not fail, in the order in which the models were requested."""
        return [outcome.record for outcome in self.outcomes if outcome.record is not None]

    @property
    def failures(self) -> list[Outcome[AnyRecord]]:
        """The outcomes of the models that could not be trained or evaluated, each with its error message."""
        return [outcome for outcome in self.outcomes if outcome.error and not outcome.skipped]

    def to_dataframe(self) -> pandas.DataFrame:
        """Returns the records as a pandas DataFrame, one row per record and one column per field.

        Raises MissingExtraError if pandas is not installed.
        """
        with needs_extra("pandas", "pandas", "a data frame of results"):
            import pandas  # pyright: ignore[reportMissingImports]
        return pandas.DataFrame([as_row(record) for record in self.records])

    def __repr__(self) -> str:
        return f"<RunResult {self.folder}: {len(self.records)} records, {len(self.failures)} failures>"

    def _repr_html_(self) -> str:
        """Returns the records as an HTML table for notebooks, with the lowest bits per byte first, and the errors."""
        ranked = sorted(self.records, key=_rank)
        names = [name for name in _COLUMNS if any(hasattr(record, name) for record in ranked)]
        titles = ["model", *(_COLUMNS[name][0] for name in names)]
        rows = [[getattr(record, "name", ""), *(_cell(record, name) for name in names)] for record in ranked]
        errors = "".join(f"<p>{escape(one.name)}: {escape(one.error)}</p>" for one in self.failures)
        head = "".join(f"<th>{escape(title)}</th>" for title in titles)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{errors}"


def _rank(record: Any) -> tuple[bool, bool, float]:
    loss = getattr(record, "bits_per_byte", 0.0)
    unranked = (getattr(record, "trained_elsewhere", False), getattr(record, "adapts_on_test", False))
    return *unranked, math.inf if loss is None else loss


def _cell(record: Any, name: str) -> str:
    value = getattr(record, name, None)
    if name == "perplexity_per_token" and getattr(record, "trained_elsewhere", False):
        value = None  # its tokens are others
    return "–" if value is None else _COLUMNS[name][1](value)
