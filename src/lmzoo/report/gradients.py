"""How far gradients flow, as text: one definition for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmzoo.probes.gradient_flow import GradientFlow

_DISTANCES = (1, 3, 10, 30, 100)
_LITTLE = 0.01
"""The share of the gradient whose last distance tells how far a network looks back."""

HEADER = ("network", *(f"{distance} back" for distance in _DISTANCES), f"{_LITTLE:.0%} is left until")


@dataclass(frozen=True)
class Flow:
    """The gradients of one network."""

    name: str
    gradients: GradientFlow
    untrained: bool = False

    @property
    def label(self) -> str:
        return f"{self.name}, untrained" if self.untrained else self.name


def rows(flows: Sequence[Flow]) -> list[list[str]]:
    """The cells under `HEADER`: what is left of the gradient so many tokens back, and how far back a little is."""
    table = []
    for flow in flows:
        left = flow.gradients.left()
        shown = [_share(left[distance]) if distance < len(left) else "" for distance in _DISTANCES]
        table.append([flow.label, *shown, _until(flow.gradients)])
    return table


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g}%"


def _until(gradients: GradientFlow) -> str:
    last = gradients.last_distance_with(_LITTLE)
    if last is None:
        return "–"
    return f"{last} or more" if last == gradients.max_distance else str(last)


def reaches(flows: Sequence[Flow]) -> list[tuple[str, str]]:
    """Each network's label and the distance to which a little is left, the shortest first; not where nothing flows."""
    found = [(flow.gradients.last_distance_with(_LITTLE), flow) for flow in flows]
    kept = sorted(((last, flow) for last, flow in found if last is not None), key=lambda pair: pair[0])
    return [(flow.label, _until(flow.gradients)) for _, flow in kept]
