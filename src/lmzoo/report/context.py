"""How far back each one looks, as text: one definition for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from lmzoo import zoo
from lmzoo.metrics import bits

if TYPE_CHECKING:
    from lmzoo.probes.context_use import ContextUse, Kind, Reach

_LENGTHS = (1, 4, 16, 64, 256)
TOLERANCE = 0.01
"""Of perplexity: what may be lost by what a species does not look at."""

HEADER = (
    "species",
    *(f"{length} tokens" if length > 1 else "1 token" for length in _LENGTHS),
    "all",
    "looks back",
    "order matters",
)


@dataclass(frozen=True, eq=False)
class Use:
    """What one predictor makes of its context."""

    name: str
    year: int | None
    """Of its species; None if the zoo does not know it."""
    context: ContextUse

    @classmethod
    def of(cls, name: str, species: str, context: ContextUse) -> Self:
        return cls(name, zoo.year(species), context)

    def bits(self, kind: Kind) -> dict[int, float]:
        """Mean surprisal in bits for each token, by the number of tokens of context, or of those in order."""
        return dict(zip(self.context.lengths.tolist(), map(bits, self.context.loss(kind).tolist()), strict=True))

    @cached_property
    def reaches(self) -> dict[Kind, Reach]:
        """How far back it looks ("cut"), and within how many tokens order matters to it ("shuffled")."""
        return {kind: self.context.reach(kind, tolerance=TOLERANCE) for kind in ("cut", "shuffled")}

    def reach_text(self, kind: Kind) -> str:
        """As "4", "37 (28–49)" or "over 256"."""
        most, reach = self.context.max_context, self.reaches[kind]
        tokens, low, high = (
            str(end) if end <= most else f"over {most}" for end in (reach.tokens, reach.low, reach.high)
        )
        return tokens if low == high else f"{tokens} ({low}–{high})"


def rows(uses: Sequence[Use]) -> list[list[str]]:
    """The cells under `HEADER`: bits a token as the context is cut, and how far back it looks, with 95 % intervals."""
    table = []
    for use in uses:
        cut = use.bits("cut")
        shown = [f"{_at(cut, length):.2f}" if length <= use.context.max_context else "" for length in _LENGTHS]
        whole = f"{bits(float(use.context.whole.mean())):.2f}"
        table.append([use.name, *shown, whole, use.reach_text("cut"), use.reach_text("shuffled")])
    return table


def _at(losses: dict[int, float], length: int) -> float:
    return losses[max(step for step in losses if step <= length)]
