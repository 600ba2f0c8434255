"""Hidden states and the transitions between them as a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair
import networkx

from lmzoo.models.hidden_states import StateSummary
from lmzoo.report.charts.style import BLUE, GREY, LINE_HEIGHT, PALE, Chart

_N_TRANSITIONS = 2
"""Transitions drawn from each state."""
_ARROW_HEAD = 0.66


def state_graph(states: Sequence[StateSummary], labels: Sequence[str]) -> Chart:
    """Draws hidden states as circles, and the two most frequent transitions from each state as arrows.

    The area of a circle is the share of the text that the state emits, the width of an arrow the frequency of the
    transition. `labels` holds a few tokens of each state, one per line.
    """
    flows = {
        (one.state, other): one.mass * prob
        for one in states
        for other, prob in one.next
        if other != one.state and other in {state.state for state in states}
    }
    by_frequency = sorted(flows, key=lambda pair: -flows[pair])
    kept = [
        pair
        for rank, pair in enumerate(by_frequency)
        if sum(pair[0] == earlier[0] for earlier in by_frequency[:rank]) < _N_TRANSITIONS
    ]
    graph = networkx.DiGraph()
    graph.add_nodes_from(state.state for state in states)
    graph.add_weighted_edges_from((*pair, flows[pair]) for pair in sorted(kept))
    position = networkx.circular_layout(graph)
    circles = [
        {"x": position[state.state][0], "y": position[state.state][1], "mass": state.mass, "label": label}
        for state, label in zip(states, labels, strict=True)
    ]
    arrows = [_arrow(position[start], position[end], flows[start, end]) for start, end in graph.edges]
    plain = altair.Axis(labels=False, ticks=False, domain=False, grid=False, title=None)
    x = altair.X("x:Q", scale=altair.Scale(domain=[-1.3, 1.3]), axis=plain)
    y = altair.Y("y:Q", scale=altair.Scale(domain=[-1.3, 1.3]), axis=plain)
    width = altair.Size("flow:Q", scale=altair.Scale(range=[0.5, 6]), legend=None)
    lines = (
        altair.Chart(altair.Data(values=arrows)).mark_rule(color=GREY).encode(x=x, y=y, x2="x2", y2="y2", size=width)
    )
    heads = (
        altair.Chart(altair.Data(values=arrows))
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
    dy = -LINE_HEIGHT * max(label.count("\n") for label in labels) / 2  # text of several lines starts at its position
    texts = nodes.mark_text(
        lineBreak="\n", lineHeight=LINE_HEIGHT, dy=dy, fontSize=11, fontWeight="bold", baseline="middle"
    ).encode(text="label:N")
    return (
        (lines + heads + discs + texts)
        .resolve_scale(size="independent")
        .properties(width=620, height=620, title="Hidden states and their most frequent transitions")
    )


def _arrow(start: Any, end: Any, flow: float) -> dict[str, float]:
    """Returns the coordinates and the angle with which an arrow between two points of a figure is drawn.

    `start` and `end` are the points (x, y). The dictionary has the coordinates of both ends and of the head, which lies
    at two thirds of the length, and the angle of the head in degrees, clockwise from the upward direction. `flow`,
    which determines the width of the arrow, is included unchanged.
    """
    (x, y), (x2, y2) = start, end
    angle = math.degrees(math.atan2(x2 - x, y2 - y))
    head_x, head_y = x + (x2 - x) * _ARROW_HEAD, y + (y2 - y) * _ARROW_HEAD
    return {"x": x, "y": y, "x2": x2, "y2": y2, "head_x": head_x, "head_y": head_y, "angle": angle, "flow": flow}
