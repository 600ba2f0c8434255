"""The stages of a run of `lmzoo align` as a table, which the terminal and pages share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmzoo.experiments.align.records import StageRecord, WinRate

_EMPTY = "–"


def header_and_rows(records: Sequence[StageRecord]) -> tuple[list[str], list[list[str]]]:
    """Returns the table of the stages: the column titles, and one row per stage.

    A column without any value is left out. Intervals are 95 % intervals over prompts.
    """
    base = next((record.bits_per_byte for record in records if record.stage == "base"), None)
    n_best = next((record.n_best_of for record in records if record.n_best_of), None)
    columns: dict[str, Callable[[StageRecord], str]] = {
        "stage": lambda record: record.stage,
        "correct": lambda record: _percent(record.mean_accuracy),
        "wins against sft": lambda record: _wins(record.against_sft),
        f"best of {n_best}": lambda record: _wins(record.best_of_n),
        "wins against earlier": lambda record: _wins(record.against_earlier),
        "reward accuracy": lambda record: _percent(record.reward_accuracy),
        "KL, nats/reply": lambda record: _number(record.kl, 2),
        "ended": lambda record: _percent(record.ended),
        "bits/byte": lambda record: _number(record.bits_per_byte, 3),
        "against base": lambda record: _change(record.bits_per_byte, base),
        "seconds": lambda record: f"{record.seconds:,.0f}",
    }
    shown = {
        title: [cell(record) for record in records]
        for title, cell in columns.items()
        if any(cell(record) != _EMPTY for record in records)
    }
    return list(shown), [list(row) for row in zip(*shown.values(), strict=True)]


def _percent(share: float | None) -> str:
    return _EMPTY if share is None else f"{share:.1%}"


def _number(value: float | None, digits: int) -> str:
    return _EMPTY if value is None else f"{value:.{digits}f}"


def _wins(wins: WinRate | None) -> str:
    return _EMPTY if wins is None else f"{wins.rate:.1%} [{100 * wins.low:.1f}, {100 * wins.high:.1f}]"


def _change(loss: float | None, base: float | None) -> str:
    """Returns by how much a loss differs from the base's, as a percentage with a sign."""
    return _EMPTY if loss is None or not base else f"{loss / base - 1:+.1%}"
