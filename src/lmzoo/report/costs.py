"""What each species costs, and which of them nothing undercuts: one definition for Markdown, HTML and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lmzoo.evaluation.records import EvalRecord
from lmzoo.report.leaderboard import duration, figure, short_number

MARK: Final = "◆"
"""Beside a figure that is on the front."""


@dataclass(frozen=True)
class Cost:
    """One thing that a species costs."""

    title: str
    meaning: str
    value: Callable[[EvalRecord], float | None]
    """None where it was not measured, or does not exist."""
    text: Callable[[float], str]
    unit: str = ""
    """Of `value`, where its name does not say it."""
    is_rate: bool = False
    """Whether more of it is cheaper."""

    @property
    def axis(self) -> str:
        """The title of an axis."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


def _size(n_bytes: float) -> str:
    number = short_number(n_bytes)
    return f"{number}B" if " " in number else f"{number} B"


COSTS: Final = (
    Cost("fit", "time to learn", lambda record: record.fit_seconds, duration, "seconds"),
    Cost(
        "memory", "peak of its process, which learned and was measured",
        lambda record: record.peak_memory_bytes, _size, "bytes",
    ),
    Cost("parameters", "numbers that were learned", lambda record: record.n_parameters, short_number),
    Cost("on disk", "size of what was learned, as saved", lambda record: record.model_bytes, _size, "bytes"),
    Cost(
        "predict", "one prediction after 100 tokens, the median",
        lambda record: record.predict_seconds, duration, "seconds",
    ),
    Cost(
        "generated/s", "tokens drawn one after the other, of one text",
        lambda record: record.generated_per_second, short_number, is_rate=True,
    ),
    Cost(
        "measured/s", "tokens of a text read, whole distributions included",
        lambda record: record.tokens_per_second, short_number, is_rate=True,
    ),
    Cost(
        "FLOPs/token",
        "multiplications and additions in products of matrices, to read a token and predict the next; networks only",
        lambda record: record.flops_per_token, short_number,
    ),
    Cost(
        "FLOPs to learn", "three times that for each token it was trained on; networks only",
        lambda record: record.training_flops, short_number,
    ),
)  # fmt: skip


def comparable(records: Sequence[EvalRecord], cost: Cost) -> list[tuple[EvalRecord, float]]:
    """Those that have the cost and bits per byte, with the cost; not who adapts to the test text."""
    figures = [(record, cost.value(record)) for record in records]
    return [(record, value) for record, value in figures if value is not None and record.is_ranked]


def front(records: Sequence[EvalRecord], cost: Cost) -> list[EvalRecord]:
    """The Pareto front, cheapest first: nothing that is as good, or better, is as cheap.

    Of two that are equal in both, both are on it.
    """
    sign = -1 if cost.is_rate else 1
    priced = [(sign * value, record.bits_per_byte or 0.0, record) for record, value in comparable(records, cost)]
    best = [
        (price, n_bits, record)
        for price, n_bits, record in priced
        if not any(
            other_price <= price and other_bits <= n_bits and (other_price, other_bits) != (price, n_bits)
            for other_price, other_bits, _ in priced
        )
    ]
    return [record for _, _, record in sorted(best, key=lambda figures: figures[:2])]


def measured(records: Sequence[EvalRecord]) -> list[Cost]:
    """The costs that at least one of the records has."""
    return [cost for cost in COSTS if any(cost.value(record) is not None for record in records)]


def rows(records: Sequence[EvalRecord]) -> list[list[str]]:
    """The cells of the table: the name, bits per byte and what `measured` has, marked where it is on the front."""
    costs = measured(records)
    fronts = [front(records, cost) for cost in costs]
    table = []
    for record in records:
        cells = [_cell(cost, record, on_front=record in best) for cost, best in zip(costs, fronts, strict=True)]
        table.append([record.name, figure(record.bits_per_byte, ".3f"), *cells])
    return table


def _cell(cost: Cost, record: EvalRecord, *, on_front: bool) -> str:
    value = cost.value(record)
    if value is None:
        return "–"
    return f"{cost.text(value)} {MARK}" if on_front else cost.text(value)
