"""The first sentence of a report: the best model, its lead and the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmzoo.evaluation.records import EvalRecord
from lmzoo.report.leaderboard import TOKENIZERS_NOTE
from lmzoo.report.standings import Standings


@dataclass(frozen=True)
class Headline:
    """The first sentence of a report, in parts, so that a page can emphasise the name of the best model."""

    best: str
    rest: str


def text_name(record: EvalRecord) -> str:
    """Returns the short name of the corpus of a record: without the folders if the corpus is a file or folder."""
    return Path(record.corpus).name


def headline(records: Sequence[EvalRecord], comparison: Standings | None) -> Headline:
    """Returns a sentence that names the best model of a run, its bits per byte and its lead over the next model.

    `records`: evaluation records, best first. `comparison`: the significance tests between the models; if None, the
    sentence has no lead. If no model has bits per byte, the sentence names the model with the lowest perplexity, or no
    model if their tokenizers differ.
    """
    best = records[0]
    if best.trained_elsewhere:
        return Headline("No model", f"of this run was trained on {text_name(best)}.")
    if best.bits_per_byte is None and len({record.tokenizer_fingerprint for record in records}) > 1:
        return Headline("No model", f"has bits per byte on {text_name(best)}. {TOKENIZERS_NOTE}")
    if best.bits_per_byte is None:
        return Headline(best.name, f"has the lowest perplexity on {text_name(best)}; no model has bits per byte.")
    sentence = f"predicts {text_name(best)} best, with {best.bits_per_byte:.3f} bits per byte"
    if comparison is None or comparison.rows[0][0] != best.name:
        return Headline(best.name, f"{sentence}.")
    similar = comparison.rows[0][-1]
    if similar != "–":
        return Headline(best.name, f"{sentence}, but its lead over {similar} is not significant.")
    second, difference, interval = (comparison.rows[1][column] for column in (0, 3, 4))
    return Headline(
        best.name, f"{sentence}: {difference} fewer than {second}, the second best (95 % interval {interval})."
    )
