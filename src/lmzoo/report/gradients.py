"""How far gradients flow back in networks: the table that the terminal, Markdown and HTML share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmzoo.report import charts
from lmzoo.report.figures import Figure, Figures

if TYPE_CHECKING:
    from lmzoo.probes.gradient_norms import GradientFlow
    from lmzoo.report.models import ModelEntry

_DISTANCES = (1, 3, 10, 30, 100)
_THRESHOLD = 0.01
"""Relative gradient norm that defines the reach of a network."""

HEADER = ("network", *(f"{distance} back" for distance in _DISTANCES), f"at least {_THRESHOLD:.0%} up to distance")


@dataclass(frozen=True)
class Flow:
    """The gradient norms of one network, under the name that the report gives it."""

    name: str
    gradients: GradientFlow
    untrained: bool = False

    @property
    def label(self) -> str:
        return f"{self.name}, untrained" if self.untrained else self.name


@dataclass(frozen=True)
class GradientSection:
    """The report's section about gradients."""

    n_positions: int
    header: tuple[str, ...]
    rows: list[list[str]]
    reaches: list[tuple[str, str]]
    """Pairs of a network's name and the largest distance with a relative gradient norm of at least 1 %."""
    figure: Figure


def gradient_section(models: Sequence[ModelEntry], figures: Figures) -> GradientSection | None:
    """Returns the section about gradients; None if no model has this probe stored."""
    flows = [
        Flow(model.record.name, model.probes.gradients) for model in models if model.probes and model.probes.gradients
    ]
    if not flows:
        return None
    figure = figures.draw("gradients", charts.by_distance(flows))
    return GradientSection(len(flows[0].gradients.positions), HEADER, rows(flows), reaches(flows), figure)


def rows(flows: Sequence[Flow]) -> list[list[str]]:
    """Returns the cells under `HEADER`: the relative gradient norm at some distances, and the network's reach."""
    table = []
    for flow in flows:
        left = flow.gradients.left()
        norms = [_percent(left[distance]) if distance < len(left) else "" for distance in _DISTANCES]
        table.append([flow.label, *norms, _reach(flow.gradients)])
    return table


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g}%"


def _reach(gradients: GradientFlow) -> str:
    last = gradients.last_distance_with(_THRESHOLD)
    if last is None:
        return "–"
    return f"{last} or more" if last == gradients.max_distance else str(last)


def reaches(flows: Sequence[Flow]) -> list[tuple[str, str]]:
    """Returns the label and the reach of each network, the shortest reach first.

    The reach is the largest distance at which the relative gradient norm is at least 1 %. Networks without any
    gradient are left out.
    """
    with_gradient = [
        (last, flow) for flow in flows if (last := flow.gradients.last_distance_with(_THRESHOLD)) is not None
    ]
    return [(flow.label, _reach(flow.gradients)) for _, flow in sorted(with_gradient, key=lambda pair: pair[0])]
