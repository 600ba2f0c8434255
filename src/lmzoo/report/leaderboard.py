"""The leaderboard: its columns and cells, which the terminal, Markdown and HTML share."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmzoo.evaluation.ranking import entries, grouped_by_seed, ranked
from lmzoo.evaluation.records import EvalRecord


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard: one quantity of an evaluation record as text."""

    title: str
    meaning: str
    text: Callable[[EvalRecord], str]
    is_number: bool = True


def figure(value: float | None, pattern: str) -> str:
    """Formats a number with a format specification, without a minus sign before zero; "–" for None."""
    return "–" if value is None else format(value, f"z{pattern}")


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def context(record: EvalRecord) -> str:
    """Formats the largest number of tokens that a prediction can depend on; "∞" if there is no limit."""
    return "∞" if record.context_size is None else f"{record.context_size:,}"


def duration(seconds: float) -> str:
    """Formats a time in µs, ms, seconds or minutes, whichever suits its size."""
    if seconds < 0.1:
        return f"{1e6 * seconds:.3g} µs" if seconds < 1e-3 else f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def short_number(number: float) -> str:
    """Formats a number with three significant digits and a prefix: "210 k", "8.14 M"."""
    for unit in ("", " k", " M", " G", " T", " P"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} E"


COLUMNS = (
    Column("model", "name of the trained model in this run", lambda record: record.name, is_number=False),
    Column(
        "bits/byte",
        "surprisal of the test text, in bits per UTF-8 byte; lower is better",
        lambda record: figure(record.bits_per_byte, ".3f"),
    ),
    Column(
        "95 %",
        "95 % confidence interval of bits/byte, by bootstrap over the test documents",
        lambda record: _interval(record.bits_per_byte_low, record.bits_per_byte_high),
    ),
    Column(
        "ppl/token",
        "perplexity per token, EOT (end-of-text) tokens included; comparable only under one tokenizer",
        lambda record: figure(record.perplexity_per_token, ",.1f"),
    ),
    Column(
        "ppl/word",
        "perplexity per word; a word is a run of characters between white space",
        lambda record: figure(record.perplexity_per_word, ",.0f"),
    ),
    Column(
        "top-1",
        "share of test tokens that were the most likely prediction",
        lambda record: f"{record.top1_accuracy:.1%}",
    ),
    Column(
        "top-5",
        "share of test tokens among the five most likely predictions",
        lambda record: f"{record.top5_accuracy:.1%}",
    ),
    Column("context", "largest number of tokens that a prediction can depend on; ∞ = no limit", context),
    Column("parameters", "number of learned parameters", lambda record: short_number(record.n_parameters)),
    Column("fit", "training time", lambda record: "–" if record.fit_seconds is None else duration(record.fit_seconds)),
    Column(
        "tokens/s",
        "evaluation throughput: tokens per second, with the full distribution of each",
        lambda record: short_number(record.tokens_per_second),
    ),
    Column(
        "memory",
        "peak memory of the process that trained and evaluated the model",
        lambda record: f"{record.peak_memory_bytes / 1e6:,.0f} MB",
    ),
)
MAIN = ("model", "bits/byte", "95 %", "parameters", "fit")
"""The columns that a page shows first."""


ADAPTIVE_NOTE = "These models learn from the test text while they read it, so they are not ranked with the others."
"""The reason why models that adapt have a table of their own."""

SEEDS_HEADER = ("model", "seeds", "mean bits/byte", "standard deviation", "lowest", "highest")


def seed_rows(records: Sequence[EvalRecord]) -> list[list[str]]:
    """Returns mean, standard deviation and range of bits per byte for models trained with several seeds, as table rows.

    The model with the lowest mean comes first.
    """
    spread = []
    for group in grouped_by_seed(records):
        by_seed = {record.seed: record.bits_per_byte for record in group}  # two runs may have the same seed
        figures = [figure for figure in by_seed.values() if figure is not None]
        if len(figures) > 1:
            spread.append((statistics.mean(figures), group[0].name, figures))
    return [
        [
            name,
            f"{len(figures)}",
            f"{mean:.4f}",
            f"{statistics.stdev(figures):.4f}",
            f"{min(figures):.4f}",
            f"{max(figures):.4f}",
        ]
        for mean, name, figures in sorted(spread)
    ]


def seen_in_train(records: Sequence[EvalRecord]) -> str:
    """Returns one sentence on the share of the test text that also occurs in the training text.

    The sentence is empty if no record has this share.
    """
    share = next((record.seen_in_train for record in records if record.seen_in_train is not None), None)
    if share is None:
        return ""
    return (
        f"{share:.1%} of the words of the test split are seen in train: they are part of a sequence of 8 words, or of "
        "a shorter document, that the train split has too."
    )


def rows(records: Sequence[EvalRecord]) -> list[list[str]]:
    """Returns the rows of the leaderboard, the best model first."""
    return [[column.text(record) for column in COLUMNS] for record in ranked(records)]


def static_and_adaptive(records: Sequence[EvalRecord]) -> tuple[list[EvalRecord], list[EvalRecord]]:
    """Splits the entries of a leaderboard into ranked models and models that adapt to the test text; best first."""
    both = entries(records)
    return [one for one in both if not one.adapts_on_test], [one for one in both if one.adapts_on_test]


def titled_tables(records: Sequence[EvalRecord]) -> list[tuple[str, str, list[EvalRecord]]]:
    """Returns title, note and records of each leaderboard that is not empty."""
    static, adaptive = static_and_adaptive(records)
    tables = [("Leaderboard", "", static), ("Models that adapt to the test text", ADAPTIVE_NOTE, adaptive)]
    return [table for table in tables if table[2]]
