"""The leaderboard: one definition of its columns for the terminal, Markdown and HTML."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmzoo.evaluation.records import EvalRecord

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

_GAP = 2
"""Spaces between the columns of a terminal."""


@dataclass(frozen=True)
class Column:
    """One figure of a record as text."""

    title: str
    meaning: str
    text: Callable[[EvalRecord], str]
    is_number: bool = True


def figure(value: float | None, pattern: str) -> str:
    """A number as text, without a minus before zero; a dash where there is none."""
    return "–" if value is None else format(value, f"z{pattern}")


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def context(record: EvalRecord) -> str:
    """How many tokens a prediction can depend on."""
    return "∞" if record.context_size is None else f"{record.context_size:,}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 0.1:
        return f"{1e6 * seconds:.3g} µs" if seconds < 1e-3 else f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def short_number(number: float) -> str:
    """Three digits of a number, with k, M, G .. for the thousands that were taken off."""
    for unit in ("", " k", " M", " G", " T", " P"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} E"


COLUMNS = (
    Column("species", "what was fitted", lambda record: record.name, is_number=False),
    Column(
        "bits/byte",
        "code length of the test text in bits for each UTF-8 byte of it; lower is better",
        lambda record: figure(record.bits_per_byte, ".3f"),
    ),
    Column(
        "95 %",
        "interval of bits/byte, by bootstrap over documents: what other texts of this kind would give",
        lambda record: _interval(record.bits_per_byte_low, record.bits_per_byte_high),
    ),
    Column(
        "ppl/token",
        "perplexity for each token, ends of text included; compares only under one tokenizer",
        lambda record: figure(record.perplexity_per_token, ",.1f"),
    ),
    Column(
        "ppl/word",
        "perplexity for each run of characters between white space",
        lambda record: figure(record.perplexity_per_word, ",.0f"),
    ),
    Column("top-1", "the token was the most likely one", lambda record: f"{record.top1_accuracy:.1%}"),
    Column("top-5", "the token was among the five most likely", lambda record: f"{record.top5_accuracy:.1%}"),
    Column(
        "context",
        "tokens that it can see; ∞ = unbounded memory",
        context,
    ),
    Column("parameters", "numbers that were learned", lambda record: short_number(record.n_parameters)),
    Column("fit", "time to learn", lambda record: duration(record.fit_seconds)),
    Column(
        "tokens/s",
        "speed of measuring, whole distributions included",
        lambda record: short_number(record.tokens_per_second),
    ),
    Column("memory", "peak of its process", lambda record: f"{record.peak_memory_bytes / 1e6:,.0f} MB"),
)


ADAPTIVE_NOTE = "These learn from the test text while they read it, so they are not ranked with models that do not."
"""Why dynamic models have a table of their own."""


def ranked(records: Sequence[EvalRecord]) -> list[EvalRecord]:
    """Best first: by bits per byte; then what has none (a lossy tokenizer, something impossible) by perplexity.

    Models that adapt to the test text come after all others.
    """
    infinity = float("inf")
    return sorted(
        records,
        key=lambda record: (
            record.adapts_on_test,
            record.bits_per_byte if record.bits_per_byte is not None else infinity,
            record.perplexity_per_token if record.perplexity_per_token is not None else infinity,
        ),
    )


def by_entry(records: Sequence[EvalRecord]) -> list[list[EvalRecord]]:
    """Records that differ in their seed alone belong together; each group has the lowest seed first."""
    groups: dict[str, list[EvalRecord]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        key = (record.species, record.settings, record.corpus_fingerprint, record.tokenizer_fingerprint, record.split)
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(record)
    return list(groups.values())


def entries(records: Sequence[EvalRecord]) -> list[EvalRecord]:
    """The records to rank, best first: of fits that were repeated with other seeds, the first."""
    return ranked([group[0] for group in by_entry(records)])


SEEDS_HEADER = ("species", "seeds", "mean bits/byte", "standard deviation", "lowest", "highest")


def seed_rows(records: Sequence[EvalRecord]) -> list[list[str]]:
    """The cells under `SEEDS_HEADER`: how much the seed changes what was fitted more than once, best mean first."""
    spread = []
    for group in by_entry(records):
        by_seed = {record.seed: record.bits_per_byte for record in group}  # two runs may have the same
        found = [figure for figure in by_seed.values() if figure is not None]
        if len(found) > 1:
            spread.append((statistics.mean(found), group[0].name, found))
    return [
        [
            name,
            f"{len(found)}",
            f"{mean:.4f}",
            f"{statistics.stdev(found):.4f}",
            f"{min(found):.4f}",
            f"{max(found):.4f}",
        ]
        for mean, name, found in sorted(spread)
    ]


def rows(records: Sequence[EvalRecord]) -> list[list[str]]:
    """The cells of the leaderboard, best first, in the order of `COLUMNS`."""
    return [[column.text(record) for column in COLUMNS] for record in ranked(records)]


def static_and_adaptive(records: Sequence[EvalRecord]) -> tuple[list[EvalRecord], list[EvalRecord]]:
    """The records that are ranked with each other, and those that are shown apart; each best first."""
    both = entries(records)
    return [one for one in both if not one.adapts_on_test], [one for one in both if one.adapts_on_test]


def titled_tables(records: Sequence[EvalRecord]) -> list[tuple[str, str, list[EvalRecord]]]:
    """The tables of figures that are not empty: a title, a note, and the records of each, best first."""
    static, adaptive = static_and_adaptive(records)
    tables = [("Leaderboard", "", static), ("Models that adapt to the test text", ADAPTIVE_NOTE, adaptive)]
    return [table for table in tables if table[2]]


def as_rich_table(records: Sequence[EvalRecord], width: int) -> Group:
    """The leaderboard for a terminal of `width` characters: as many columns as fit, from the first."""
    from rich.console import Group
    from rich.text import Text

    static, adaptive = static_and_adaptive(records)
    n_columns = _columns_that_fit(records, width)
    parts: list[RenderableType] = [_table(static, n_columns)] if static else []
    if adaptive:
        parts += [Text(f"{chr(10) if static else ''}{ADAPTIVE_NOTE}", style="dim"), _table(adaptive, n_columns)]
    return Group(*parts)


def _columns_that_fit(records: Sequence[EvalRecord], width: int) -> int:
    cells = [[column.title for column in COLUMNS], *rows(records)]
    widths = [max(map(len, column)) + _GAP for column in zip(*cells, strict=True)]
    return sum(sum(widths[: n + 1]) <= width + _GAP for n in range(len(widths)))


def _table(records: Sequence[EvalRecord], n_columns: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for column in COLUMNS[:n_columns]:
        table.add_column(column.title, justify="right" if column.is_number else "left", no_wrap=True)
    for row in rows(records):
        table.add_row(*(Text(cell) for cell in row[:n_columns]))
    return table
