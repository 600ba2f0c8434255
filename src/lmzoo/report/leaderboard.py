"""The leaderboard: its columns and cells, which the terminal, Markdown and HTML share."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmzoo.corpora.training_sample import MUCH_SEEN
from lmzoo.evaluation.ranking import grouped_by_seed, ranked
from lmzoo.evaluation.records import EvalRecord, share_seen_in_train
from lmzoo.system.counts import counted, short_number


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard: one quantity of an evaluation record as text."""

    title: str
    meaning: str
    text: Callable[[EvalRecord], str]
    is_number: bool = True
    per_token: bool = False
    """True if values are comparable under one tokenizer only."""


def formatted(value: float | None, pattern: str) -> str:
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


COLUMNS = (
    Column("model", "name of the trained model in this run", lambda record: record.name, is_number=False),
    Column("tokenizer", "tokenizer of the model, with its settings", lambda record: record.tokenizer, is_number=False),
    Column(
        "bits/byte",
        "surprisal of the test text, in bits per UTF-8 byte; lower is better",
        lambda record: formatted(record.bits_per_byte, ".3f"),
    ),
    Column(
        "95 %",
        "95 % confidence interval of bits/byte, by bootstrap over the test documents",
        lambda record: _interval(record.bits_per_byte_low, record.bits_per_byte_high),
    ),
    Column(
        "ppl/token",
        "perplexity per token, EOT (end-of-text) tokens included; comparable only under one tokenizer",
        lambda record: formatted(record.perplexity_per_token, ",.1f"),
        per_token=True,
    ),
    Column(
        "unknown",
        "share of test tokens that stand for unknown words; a smaller vocabulary has more, and a lower perplexity",
        lambda record: formatted(record.unknown_share, ".1%"),
        per_token=True,
    ),
    Column(
        "ppl/word",
        "perplexity per word; a word is a run of characters between white space",
        lambda record: formatted(record.perplexity_per_word, ",.0f"),
    ),
    Column(
        "top-1",
        "share of test tokens that were the most likely prediction",
        lambda record: f"{record.top1_accuracy:.1%}",
        per_token=True,
    ),
    Column(
        "top-5",
        "share of test tokens among the five most likely predictions",
        lambda record: f"{record.top5_accuracy:.1%}",
        per_token=True,
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
        lambda record: "–" if record.peak_memory_bytes is None else f"{record.peak_memory_bytes / 1e6:,.0f} MB",
    ),
)
_COLUMN = {column.title: column for column in COLUMNS}
_IF_MEASURED = ("unknown", "memory")
"""The columns that a table leaves out if they have no value."""
MAIN = ("model", "bits/byte", "95 %", "parameters", "fit")
"""The columns that a page shows first."""


ADAPTIVE_NOTE = "These models learn from the test text while they read it, so they are not ranked with the others."
"""The reason why models that adapt have a table of their own."""

ELSEWHERE_NOTE = (
    "These models were trained before this run, on other text or with another tokenizer, so they are not ranked with "
    "the others. Bits per byte are comparable across tokenizers; figures per token are not, so they are left out. If "
    "the test text is part of the training text of a model, its loss means nothing."
)
"""The reason why models that were trained elsewhere have a table of their own."""

TOKENIZERS_NOTE = "Perplexities under different tokenizers are not comparable."
"""The reason why models without bits per byte have one table for each tokenizer."""

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

    The sentence is about the models of the run; it is empty if no record of them has this share.
    """
    share = share_seen_in_train(records)
    if share is None:
        return ""
    return (
        f"{share:.1%} of the words of the test split are seen in train: they are part of a sequence of 8 words, or of "
        "a shorter document, that the train split has too."
    )


def columns(records: Sequence[EvalRecord]) -> list[Column]:
    """Returns the columns of a leaderboard, without those that are of no use for the given records.

    Left out are the share of unknown words if no tokenizer has any, the memory if it was not measured, and the
    tokenizer if all records have the same.
    """
    left_out = {title for title in _IF_MEASURED if all(_COLUMN[title].text(record) == "–" for record in records)}
    if len({record.tokenizer_fingerprint for record in records}) < 2:
        left_out.add("tokenizer")
    return [column for column in COLUMNS if column.title not in left_out]


def rows(records: Sequence[EvalRecord], shown: Sequence[Column]) -> list[list[str]]:
    """Returns the rows of the leaderboard, the best model first, with the cells of the columns `shown`.

    Models that were trained elsewhere have no figures per token, because their tokens are others.
    """
    return [
        ["–" if column.per_token and record.trained_elsewhere else column.text(record) for column in shown]
        for record in ranked(records)
    ]


def titled_tables(records: Sequence[EvalRecord]) -> list[tuple[str, str, list[EvalRecord]]]:
    """Divides evaluation records into leaderboards; returns the title, the note and the records of each, best first.

    Models that adapt to the test text have a leaderboard of their own, and so have models that were trained elsewhere.
    Under different tokenizers, models without bits per byte have one leaderboard for each tokenizer, because their
    perplexities are not comparable.
    """
    ours = [one for one in ranked(records) if not one.trained_elsewhere]
    others = [one for one in ranked(records) if one.trained_elsewhere]
    tables = _comparable("Leaderboard", "", [one for one in ours if not one.adapts_on_test])
    tables += _comparable(
        "Models that adapt to the test text", ADAPTIVE_NOTE, [one for one in ours if one.adapts_on_test]
    )
    tables.append(("Models trained elsewhere", f"{ELSEWHERE_NOTE} {_training_texts(others)}", others))
    return [(title, " ".join([*([note] if note else []), *notes(part)]), part) for title, note, part in tables if part]


def _training_texts(records: Sequence[EvalRecord]) -> str:
    """Returns one sentence that names the training text of each model that was trained elsewhere."""
    by_text: dict[str, list[str]] = {}
    for record in records:
        by_text.setdefault(Path(record.training_text).name, []).append(record.name)
    parts = [f"{text} ({', '.join(names)})" for text, names in by_text.items()]
    return f"Their training texts: {'; '.join(parts)}."


def _comparable(title: str, note: str, records: list[EvalRecord]) -> list[tuple[str, str, list[EvalRecord]]]:
    """Divides the records of a leaderboard into tables of comparable models, as triples (title, note, records).

    Bits per byte are comparable under all tokenizers. Perplexities are not, so that models without bits per byte have
    one table for each tokenizer.
    """
    names = tokenizer_names(records)
    if len(names) < 2:
        return [(title, note, records)]
    tables = [(title, note, [record for record in records if record.bits_per_byte is not None])]
    for fingerprint, name in names.items():
        part = [one for one in records if one.bits_per_byte is None and one.tokenizer_fingerprint == fingerprint]
        tables.append((f"{title} without bits per byte, tokenizer {name}", f"{note} {TOKENIZERS_NOTE}".strip(), part))
    return tables


def measured_texts(records: Sequence[EvalRecord]) -> list[tuple[str, list[EvalRecord]]]:
    """Groups evaluation records by the text that was measured, and describes each text and its size in one line.

    Returns pairs of a line, such as "kjv, test split: 119 documents, 79,072 words, 408,034 bytes, 104,811 tokens", and
    the records.
    """
    groups: dict[tuple[str, str, str, int, int], list[EvalRecord]] = {}
    for record in records:
        key = (record.corpus, record.corpus_fingerprint, record.split, record.n_documents, record.n_bytes)
        groups.setdefault(key, []).append(record)
    return [(_caption(group), group) for group in groups.values()]


def _caption(records: Sequence[EvalRecord]) -> str:
    first, names = records[0], tokenizer_names(records)
    part = "whole text" if first.split == "all" else f"{first.split} split"
    n_tokens = {names[record.tokenizer_fingerprint]: record.n_tokens for record in records}
    tokens = [f"{n:,} tokens of {name}" if len(n_tokens) > 1 else f"{n:,} tokens" for name, n in n_tokens.items()]
    sizes = [counted(first.n_documents, "document"), f"{first.n_words:,} words", f"{first.n_bytes:,} bytes", *tokens]
    return f"{first.corpus}, {part}: {', '.join(sizes)}"


def tokenizer_names(records: Sequence[EvalRecord]) -> dict[str, str]:
    """Returns a dictionary from the fingerprint (hash) of each tokenizer in the records to its name, such as "word:50".

    Different tokenizers of the same name get the sizes of their vocabularies appended, or else their fingerprints.
    """
    first = {record.tokenizer_fingerprint: record for record in records}
    sized = {fingerprint: f"{one.tokenizer} ({one.vocab_size:,} entries)" for fingerprint, one in first.items()}
    names = {}
    for fingerprint, record in first.items():
        if [one.tokenizer for one in first.values()].count(record.tokenizer) == 1:
            names[fingerprint] = record.tokenizer
        elif [*sized.values()].count(sized[fingerprint]) == 1:
            names[fingerprint] = sized[fingerprint]
        else:
            names[fingerprint] = f"{record.tokenizer} (sha256 {fingerprint[:8]})"
    return names


def notes(records: Sequence[EvalRecord]) -> list[str]:
    """Returns sentences that explain a leaderboard: why models lack bits per byte, and which had seen much of the text.

    A model had seen much of the text if at least a fifth of it also occurs in the training text, so that its loss is
    lower than on new text.
    """
    reasons: dict[str, list[str]] = {}
    for record in records:
        if record.bits_per_byte is None:
            reasons.setdefault(record.why_no_bits_per_byte, []).append(record.name)
    sentences = [
        f"No bits per byte{_of(names) if len(names) < len(records) else ''}: {reason}."
        for reason, names in reasons.items()
    ]
    seen = [record for record in records if (record.seen_in_train or 0) >= MUCH_SEEN]
    shares = {f"{record.seen_in_train:.0%}" for record in seen}
    if seen:
        share = f"{min(shares)} to {max(shares)}" if len(shares) > 1 else shares.pop()
        of = _of([record.name for record in seen]) if len(seen) < len(records) else ""
        sentences.append(
            f"About {share} of this text also occurs in the training text{of}, so the loss{of} is lower than on new "
            "text."
        )
    return sentences


def _of(names: Sequence[str]) -> str:
    return f" of {', '.join(names)}"
