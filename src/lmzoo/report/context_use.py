"""How much context each model uses: the table that the terminal, Markdown and HTML share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from lmzoo import zoo
from lmzoo.metrics import bits
from lmzoo.report import charts
from lmzoo.report.figures import Figure, Figures
from lmzoo.system.counts import counted

if TYPE_CHECKING:
    from lmzoo.probes.context_use import ContextUse, Kind, Reach
    from lmzoo.report.models import ModelEntry

_LENGTHS = (1, 4, 16, 64, 256)
TOLERANCE = 0.01
"""Rise of perplexity below which a missing token of context does not count."""

HEADER = (
    "model",
    *(counted(length, "token") for length in _LENGTHS),
    "whole document",
    "effective context",
    "order matters within",
)
MAIN = ("model", "1 token", "whole document", "effective context", "order matters within")
"""The columns that a page shows first."""


@dataclass(frozen=True, eq=False)
class Use:
    """Measurements of how much of its context one model uses, and the name under which a report shows the model."""

    name: str
    year: int | None
    """Year of the model's species; None if the species is not registered."""
    context: ContextUse

    @classmethod
    def of(cls, name: str, species: str, context: ContextUse) -> Self:
        return cls(name, zoo.year(species), context)

    def bits(self, kind: Kind) -> dict[int, float]:
        """Returns the mean surprisal, in bits per token, as a dictionary by the number N of the nearest context tokens.

        `kind` says what is done to all older tokens of the context: they are removed ("cut") or shuffled ("shuffled").
        """
        return dict(zip(self.context.lengths.tolist(), map(bits, self.context.loss(kind).tolist()), strict=True))

    @cached_property
    def reaches(self) -> dict[Kind, Reach]:
        """Dictionary of two context lengths of the model, in tokens, each with a 95 % interval.

        "cut" is the effective context length: removing all older tokens raises the perplexity by at most 1 %.
        "shuffled" is the number of tokens whose order matters.
        """
        return {kind: self.context.reach(kind, tolerance=TOLERANCE) for kind in ("cut", "shuffled")}

    def reach_text(self, kind: Kind) -> str:
        """Returns a context length with its 95 % interval as text, such as "4", "37 (28–49)" or "over 256".

        For `kind` "cut", the length is the effective context length of the model. For "shuffled", it is the number of
        context tokens whose order matters.
        """
        longest, reach = self.context.max_context, self.reaches[kind]
        tokens, low, high = (
            str(end) if end <= longest else f"over {longest}" for end in (reach.tokens, reach.low, reach.high)
        )
        return tokens if low == high else f"{tokens} ({low}–{high})"


@dataclass(frozen=True)
class ContextSection:
    """The section of a report that shows how much of its context each model uses: a table and a figure."""

    n_positions: int
    n_documents: int
    max_context: int
    rows: list[list[str]]
    """Cells under `HEADER`."""
    figure: Figure


def context_section(models: Sequence[ModelEntry], figures: Figures) -> ContextSection | None:
    """Returns the section of a report that shows how much of its context each model uses.

    Returns None if this was measured for none of the models.
    """
    uses = [
        Use.of(model.record.name, model.record.species, model.probes.context)
        for model in models
        if model.probes and model.probes.context
    ]
    if not uses:
        return None
    first, figure = uses[0].context, figures.draw("context", charts.by_context(uses))
    return ContextSection(len(first.positions), first.n_documents, first.max_context, rows(uses), figure)


def rows(uses: Sequence[Use]) -> list[list[str]]:
    """Returns the rows of a table that shows how much of its context each model uses, one row for each model.

    A row has the bits per token at several context lengths, the effective context length, and the number of tokens
    whose order matters, both with 95 % intervals.
    """
    table = []
    for use in uses:
        cut = use.bits("cut")
        by_length = [_bits_at(cut, length) if length <= use.context.max_context else "" for length in _LENGTHS]
        whole = f"{bits(float(use.context.whole.mean())):.2f}"
        table.append([use.name, *by_length, whole, use.reach_text("cut"), use.reach_text("shuffled")])
    return table


def _bits_at(losses: dict[int, float], length: int) -> str:
    return f"{losses[max(step for step in losses if step <= length)]:.2f}"
