"""The cost of each model, and the models that are Pareto-optimal: shared by Markdown, HTML and the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lmzoo.evaluation.records import EvalRecord
from lmzoo.report.leaderboard import duration, formatted
from lmzoo.system.counts import short_number

MARK: Final = "◆"
"""Marks the cost of a Pareto-optimal model."""


@dataclass(frozen=True)
class CostColumn:
    """One kind of cost of a model, such as training time, as a column of a table of costs."""

    title: str
    meaning: str
    value: Callable[[EvalRecord], float | None]
    """Returns the cost of a model; None if it was not measured or does not exist."""
    text: Callable[[float], str]
    unit: str = ""
    """Unit of the value, if the title does not contain it."""
    is_rate: bool = False
    """True for a rate such as tokens per second, where a larger value is cheaper."""

    @property
    def axis(self) -> str:
        """The title of a figure's axis for this kind of cost, with the unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


def _size(n_bytes: float) -> str:
    number = short_number(n_bytes)
    return f"{number}B" if " " in number else f"{number} B"


COSTS: Final = (
    CostColumn("fit", "training time", lambda record: record.fit_seconds, duration, "seconds"),
    CostColumn(
        "memory", "peak memory of the process that trained and evaluated the model",
        lambda record: record.peak_memory_bytes, _size, "bytes",
    ),
    CostColumn("parameters", "number of learned parameters", lambda record: record.n_parameters, short_number),
    CostColumn("on disk", "size of the saved parameters", lambda record: record.model_bytes, _size, "bytes"),
    CostColumn(
        "predict", "median time of one prediction after 100 tokens",
        lambda record: record.predict_seconds, duration, "seconds",
    ),
    CostColumn(
        "generated/s", "tokens per second when one text is sampled token by token",
        lambda record: record.generated_per_second, short_number, is_rate=True,
    ),
    CostColumn(
        "evaluated/s", "evaluation throughput: tokens per second, with the full distribution of each",
        lambda record: record.tokens_per_second, short_number, is_rate=True,
    ),
    CostColumn(
        "FLOPs/token",
        "multiplications and additions in matrix products to read one token and predict the next; networks only",
        lambda record: record.flops_per_token, short_number,
    ),
    CostColumn(
        "training FLOPs", "three times FLOPs/token for each training token read; networks only",
        lambda record: record.training_flops, short_number,
    ),
)  # fmt: skip
MAIN = ("model", "bits/byte", "fit", "memory", "predict")
"""The columns that a page shows first."""


def priced_records(records: Sequence[EvalRecord], cost: CostColumn) -> list[tuple[EvalRecord, float]]:
    """Returns pairs of a record and its cost in the given column, for every ranked record that has this cost.

    `cost` is the column, such as training time. Models that adapt to the test text are not ranked, so they are left
    out.
    """
    values = [(record, cost.value(record)) for record in records]
    return [(record, value) for record, value in values if value is not None and record.is_ranked]


def pareto_front(records: Sequence[EvalRecord], cost: CostColumn) -> list[EvalRecord]:
    """Returns the records that are Pareto-optimal in bits per byte and one kind of cost, the cheapest first.

    `cost` is the kind of cost, such as training time. A record is Pareto-optimal if no other record is at least as good
    and at least as cheap, and better in one of the two. Two records that are equal in both are both included.
    """
    sign = -1 if cost.is_rate else 1
    points = [(sign * value, record.bits_per_byte or 0.0, record) for record, value in priced_records(records, cost)]
    front = [
        (price, n_bits, record)
        for price, n_bits, record in points
        if not any(
            other_price <= price and other_bits <= n_bits and (other_price, other_bits) != (price, n_bits)
            for other_price, other_bits, _ in points
        )
    ]
    return [record for _, _, record in sorted(front, key=lambda point: point[:2])]


def by_machine(records: Sequence[EvalRecord]) -> dict[str, list[EvalRecord]]:
    """Groups records by the kind of machine on which they were measured, because only costs of one kind are comparable.

    Keys are descriptions of the machines. Machines with the same processor, number of cores, memory in GiB and
    operating system are of one kind.
    """
    groups: dict[str, list[EvalRecord]] = {}
    for record in records:
        groups.setdefault(machine_text(record.machine), []).append(record)
    return groups


def machine_text(facts: Mapping[str, Any], *, threads: bool = False) -> str:
    """Describes a machine on which results were measured: processor, cores, memory and operating system.

    `facts` is the `machine` of a record. With `threads`, the text also has the number of threads that were used.
    """
    known = {name: facts.get(name, "unknown") for name in ("processor", "n_cores", "n_threads", "platform")}
    memory = facts.get("memory_bytes")
    size = f"{memory / 2**30:.0f} GiB" if isinstance(memory, int) else "unknown memory"
    used = f" ({known['n_threads']} used)" if threads else ""
    return f"{known['processor']}, {known['n_cores']} cores{used}, {size}, {known['platform']}"


def measured_costs(records: Sequence[EvalRecord]) -> list[CostColumn]:
    """Returns the kinds of cost, such as training time, for which at least one of the records has a value."""
    return [cost for cost in COSTS if any(cost.value(record) is not None for record in records)]


def header(records: Sequence[EvalRecord]) -> list[str]:
    """Returns the column titles of a table of the costs of models; kinds of cost that no record has are left out."""
    return ["model", "bits/byte", *(cost.title for cost in measured_costs(records))]


def rows(records: Sequence[EvalRecord]) -> list[list[str]]:
    """Returns the rows of a table of costs, such as training time, one row for each model.

    The costs of Pareto-optimal models are marked: no other model is at least as good and at least as cheap, and better
    in one of the two.
    """
    costs = measured_costs(records)
    fronts = [pareto_front(records, cost) for cost in costs]
    return [
        [
            record.name,
            formatted(record.bits_per_byte, ".3f"),
            *(_cell(cost, record, optimal=record in front) for cost, front in zip(costs, fronts, strict=True)),
        ]
        for record in records
    ]


def _cell(cost: CostColumn, record: EvalRecord, *, optimal: bool) -> str:
    value = cost.value(record)
    if value is None:
        return "–"
    return f"{cost.text(value)} {MARK}" if optimal else cost.text(value)
