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
    """The gradient norms of one network, and the name under which a report shows the network.

    A gradient norm is the norm of the gradient of a prediction's loss with respect to the embedding of an earlier
    token. It was measured for each distance of this token, in tokens, from the last token read.
    """

    name: str
    gradients: GradientFlow
    untrained: bool = False

    @property
    def label(self) -> str:
        return f"{self.name}, untrained" if self.untrained else self.name


@dataclass(frozen=True)
class GradientSection:
    """The section of a report that shows how far gradients flow back in each network: a table and a figure."""

    n_positions: int
    header: tuple[str, ...]
    rows: list[list[str]]
    reaches: list[tuple[str, str]]
    """Pairs of a network's name and the largest distance with a relative gradient norm of at least 1 %."""
    figure: Figure


def gradient_section(models: Sequence[ModelEntry], figures: Figures) -> GradientSection | None:
    """Returns the section of a report that shows how far gradients flow back in each network.

    Returns None if gradients were measured for none of the models.
    """
    flows = [
        Flow(model.record.name, model.probes.gradients) for model in models if model.probes and model.probes.gradients
    ]
    if not flows:
        return None
    figure = figures.draw("gradients", charts.by_distance(flows))
    return GradientSection(len(flows[0].gradients.positions), HEADER, rows(flows), reaches(flows), figure)


def rows(flows: Sequence[Flow]) -> list[list[str]]:
    """Returns the rows of a table with the relative gradient norms of each network at some distances, and its reach.

    A relative gradient norm is the norm of the loss gradient with respect to the embedding of an earlier token, divided
    by the norm for the last token read. The reach is the largest distance, in tokens, at which it is at least 1 %.
    """
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
    """Returns pairs of a network's label and the distance its gradients reach, as text, the shortest first.

    The gradient of the loss is taken with respect to the embedding of each earlier token. The distance is the largest
    number of tokens back at which its median norm is at least 1 % of the norm for the last token read. `flows` holds
    the gradient norms of each network. Networks without any gradient are left out.
    """
    with_gradient = [
        (last, flow) for flow in flows if (last := flow.gradients.last_distance_with(_THRESHOLD)) is not None
    ]
    return [(flow.label, _reach(flow.gradients)) for _, flow in sorted(with_gradient, key=lambda pair: pair[0])]
