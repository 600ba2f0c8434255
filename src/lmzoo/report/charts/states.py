"""Hidden states and the transitions between them as a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair
import networkx

from lmzoo.models.hidden_states import StateSummary
from lmzoo.report.charts.style import BLUE, GREY, LINE_HEIGHT, PALE, Chart

_WAYS_OUT = 2
"""Ways drawn from each state."""
_HEAD = 0.66


def state_graph(states: Sequence[StateSummary], labels: Sequence[str]) -> Chart:
    """Hidden states as circles, by mass, and the busiest ways between them: the two widest out of each state.

    `labels` has a few tokens of each state, a line each.
    """
    flows = {
        (one.state, other): one.mass * prob
        for one in states
        for other, prob in one.next
        if other != one.state and other in {state.state for state in states}
    }
    widest = sorted(flows, key=lambda way: -flows[way])
    kept = {way for way in widest if sum(way[0] == before[0] for before in widest[: widest.index(way)]) < _WAYS_OUT}
    graph = networkx.DiGraph()
    graph.add_nodes_from(state.state for state in states)
    graph.add_weighted_edges_from((*way, flows[way]) for way in sorted(kept))
    place = networkx.circular_layout(graph)
    circles = [
        {"x": place[state.state][0], "y": place[state.state][1], "mass": state.mass, "label": label}
        for state, label in zip(states, labels, strict=True)
    ]
    ways = [_arrow(place[start], place[end], flows[start, end]) for start, end in graph.edges]
    plain = altair.Axis(labels=False, ticks=False, domain=False, grid=False, title=None)
    x = altair.X("x:Q", scale=altair.Scale(domain=[-1.3, 1.3]), axis=plain)
    y = altair.Y("y:Q", scale=altair.Scale(domain=[-1.3, 1.3]), axis=plain)
    width = altair.Size("flow:Q", scale=altair.Scale(range=[0.5, 6]), legend=None)
    lines = altair.Chart(altair.Data(values=ways)).mark_rule(color=GREY).encode(x=x, y=y, x2="x2", y2="y2", size=width)
    heads = (
        altair.Chart(altair.Data(values=ways))
        .mark_point(shape="triangle", filled=True, color=GREY, size=120, opacity=1)
        .encode(
            x=altair.X("head_x:Q", axis=plain),
            y=altair.Y("head_y:Q", axis=plain),
            angle=altair.Angle("angle:Q", scale=None),
        )
    )
    nodes = altair.Chart(altair.Data(values=circles)).encode(x=x, y=y)
    discs = nodes.mark_circle(color=PALE, stroke=BLUE, opacity=1).encode(
        size=altair.Size("mass:Q", scale=altair.Scale(range=[800, 4000]), legend=None)
    )
    up = -LINE_HEIGHT * max(label.count("\n") for label in labels) / 2  # a text of many lines begins at its place
    texts = nodes.mark_text(
        lineBreak="\n", lineHeight=LINE_HEIGHT, dy=up, fontSize=11, fontWeight="bold", baseline="middle"
    ).encode(text="label:N")
    return (
        (lines + heads + discs + texts)
        .resolve_scale(size="independent")
        .properties(width=620, height=620, title="Hidden states and the ways between them")
    )


def _arrow(start: Any, end: Any, flow: float) -> dict[str, float]:
    """A line between two places, with its head two thirds along it; angles are clockwise from upwards, in degrees."""
    (x, y), (x2, y2) = start, end
    angle = math.degrees(math.atan2(x2 - x, y2 - y))
    head_x, head_y = x + (x2 - x) * _HEAD, y + (y2 - y) * _HEAD
    return {"x": x, "y": y, "x2": x2, "y2": y2, "head_x": head_x, "head_y": head_y, "angle": angle, "flow": flow}
