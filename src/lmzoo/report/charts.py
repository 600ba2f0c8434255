"""The figures of the report: one Vega-Lite specification each, drawn as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair
import networkx
import vl_convert

from lmzoo import zoo
from lmzoo.hidden_states import StateSummary
from lmzoo.ladder import Climb
from lmzoo.records import EvalRecord
from lmzoo.report.gradients import Flow
from lmzoo.report.leaderboard import ranked

_BLUE = "#2b6cb0"
_PALE = "#dbe8f6"
_GREY = "#8a93a3"
_INK = "#1a202c"
_WAYS_OUT = 2
"""Ways drawn from each state."""
_HEAD = 0.66
_LINE = 13
_LEAST_LEFT = 1e-6
"""Shares of a gradient below this are not drawn, so that a network in which it vanishes leaves room for the others."""

_LEAST_EXCESS, _DARK, _MOST_EXCESS = 0.001, 0.1, 2.0
"""Nats per token of the lightest and the darkest cell of a ladder, and above which its text is white."""


def _name(record: EvalRecord) -> str:
    """The species, marked if its figure cannot be compared with those of static models."""
    return f"{record.name}, adapts" if record.adapts_on_test else record.name


def by_species(records: Sequence[EvalRecord]) -> altair.LayerChart | altair.FacetChart:
    """Bits per byte of each species, with its interval, in the order of their years."""
    rows = [
        {
            "species": f"{_name(record)} ({year})",
            "bits per byte": record.bits_per_byte,
            "year": year,
            "low": record.bits_per_byte_low,
            "high": record.bits_per_byte_high,
        }
        for record in records
        if record.bits_per_byte is not None and record.species in zoo.names()  # a plug-in may have gone
        for year in (zoo.card(record.species).year,)
    ]
    bars = altair.Chart(altair.Data(values=rows)).encode(
        y=altair.Y("species:N", sort=altair.EncodingSortField("year", order="ascending"), title=None),
        x=altair.X("bits per byte:Q", title="bits per byte (lower is better)"),
    )
    intervals = bars.mark_rule(color=_INK, strokeWidth=2).encode(x="low:Q", x2="high:Q")
    labels = (
        bars.mark_text(align="left", dx=4)
        .encode(x="label:Q", text=altair.Text("bits per byte:Q", format=".3f"))
        .transform_calculate(label="datum.high || datum['bits per byte']")
    )
    return (bars.mark_bar(color=_BLUE) + intervals + labels).properties(
        width=520, title="What each era made of the test text"
    )


def quality_and_cost(records: Sequence[EvalRecord]) -> altair.LayerChart | altair.FacetChart:
    """Bits per byte against the seconds that learning took."""
    rows = [
        {"species": _name(record), "bits per byte": record.bits_per_byte, "seconds": max(record.fit_seconds, 0.001)}
        for record in ranked(records)
        if record.bits_per_byte is not None
    ]
    points = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X("seconds:Q", scale=altair.Scale(type="log"), title="seconds to learn (logarithmic)"),
        y=altair.Y("bits per byte:Q", scale=altair.Scale(zero=False), title="bits per byte"),
    )
    labels = points.mark_text(align="left", dx=7, dy=-5).encode(text="species:N")
    return (points.mark_circle(size=60, color=_BLUE) + labels).properties(
        width=520, height=300, title="Quality against the time to learn"
    )


def by_setting(
    setting: str, tried: Sequence[tuple[float, EvalRecord]], reference: EvalRecord | None
) -> altair.LayerChart | altair.FacetChart:
    """Perplexity against a setting that was swept, a line for each species; across it, the perplexity of `reference`.

    The setting's axis is logarithmic if the values, all above 0, span a factor of ten or more.
    """
    rows = [
        {"species": record.species, "value": value, "perplexity": record.perplexity_per_token}
        for value, record in tried
    ]
    values = sorted({value for value, _ in tried})
    logarithmic = values[0] > 0 and values[-1] >= 10 * values[0]
    x = altair.X(
        "value:Q",
        scale=altair.Scale(type="log" if logarithmic else "linear", nice=False, zero=False, padding=20),
        axis=altair.Axis(values=values, title=f"{setting} (logarithmic)" if logarithmic else setting, format=","),
    )
    y = altair.Y(
        "perplexity:Q",
        scale=altair.Scale(type="log", nice=False, padding=20),
        title="test perplexity per token (logarithmic)",
    )
    base = altair.Chart(altair.Data(values=rows)).encode(x=x, y=y, color=altair.Color("species:N", title=None))
    figure = base.mark_line(point=True) + base.mark_text(dy=-10).encode(text=altair.Text("perplexity:Q", format=",.1f"))
    if reference is not None:
        level = {
            "perplexity": reference.perplexity_per_token,
            "label": f"{_name(reference)}: {reference.perplexity_per_token:,.1f}",
        }
        across = altair.Chart(altair.Data(values=[level])).encode(y=y)
        figure += across.mark_rule(color=_GREY, strokeDash=[4, 4])
        figure += across.mark_text(color=_GREY, align="left", dy=-7).encode(text="label:N", x=altair.value(4))
    return figure.properties(width=520, height=300, title=f"Test perplexity against {setting}")


def by_distance(flows: Sequence[Flow]) -> altair.LayerChart | altair.FacetChart:
    """What is left of gradients against distance, a line for each network; dashes for those without training."""
    rows = [
        {"network": flow.name, "kind": "untrained" if flow.untrained else "trained", "distance": distance, "left": left}
        for flow in flows
        for distance, left in enumerate(flow.gradients.left().tolist())
        if left > 0
    ]
    most = max([1.0, *(row["left"] for row in rows)])
    powers = range(round(math.log10(_LEAST_LEFT)), math.ceil(math.log10(most)) + 1)
    lines = (
        altair.Chart(altair.Data(values=rows))
        .mark_line(clip=True)
        .encode(
            x=altair.X("distance:Q", title="tokens back from the one read last", scale=altair.Scale(nice=False)),
            y=altair.Y(
                "left:Q",
                scale=altair.Scale(type="log", domain=[_LEAST_LEFT, most]),
                axis=altair.Axis(values=[10.0**power for power in powers], format="~%"),
                title="gradient left (logarithmic)",
            ),
            color=altair.Color("network:N", sort=None, scale=altair.Scale(scheme="category10"), title=None),
        )
    )
    if len({flow.untrained for flow in flows}) > 1:
        lines = lines.encode(strokeDash=altair.StrokeDash("kind:N", sort=["trained", "untrained"], title=None))
    return altair.layer(lines).properties(width=520, height=340, title="How far gradients flow back")


def ladder(climbs: Sequence[Climb]) -> altair.LayerChart | altair.FacetChart:
    """The excess of every species on every rung: the darker, the more was not learned; ✓ where a rung is climbed."""
    rows = [
        {
            "species": climb.species,
            "year": zoo.card(climb.species).year if climb.species in zoo.names() else 0,  # a plug-in may have gone
            "rung": climb.rung,
            "excess": min(max(climb.excess_nats, _LEAST_EXCESS), _MOST_EXCESS),
            "figure": climb.excess_nats,
            "mark": "✓" if climb.climbed else "",
        }
        for climb in climbs
        if climb.excess_nats is not None
    ]
    cells = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "species:N",
            sort=altair.EncodingSortField("year", order="ascending"),
            axis=altair.Axis(orient="top", labelAngle=-35, title=None, ticks=False, domain=False),
        ),
        y=altair.Y(
            "rung:N",
            sort=list(dict.fromkeys(climb.rung for climb in reversed(climbs))),
            axis=altair.Axis(title=None, ticks=False, domain=False),
        ),
    )
    colour = altair.Color(
        "excess:Q",
        scale=altair.Scale(type="log", domain=[_LEAST_EXCESS, _MOST_EXCESS], scheme="blues"),
        legend=altair.Legend(title="nats/token", values=[0.001, 0.01, 0.1, 1]),
    )
    dark = altair.condition(f"datum.excess > {_DARK}", altair.value("white"), altair.value("black"))
    figure = cells.mark_rect(stroke="white").encode(color=colour)
    figure += cells.mark_text(fontSize=11).encode(text=altair.Text("figure:Q", format=".3f"), color=dark)
    figure += cells.mark_text(fontSize=11, dx=-22).encode(text="mark:N", color=dark)
    return figure.properties(
        width=altair.Step(62), height=altair.Step(28), title="Nats per token above the entropy of the source"
    )


def state_graph(states: Sequence[StateSummary], labels: Sequence[str]) -> altair.LayerChart | altair.FacetChart:
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
    lines = altair.Chart(altair.Data(values=ways)).mark_rule(color=_GREY).encode(x=x, y=y, x2="x2", y2="y2", size=width)
    heads = (
        altair.Chart(altair.Data(values=ways))
        .mark_point(shape="triangle", filled=True, color=_GREY, size=120, opacity=1)
        .encode(
            x=altair.X("head_x:Q", axis=plain),
            y=altair.Y("head_y:Q", axis=plain),
            angle=altair.Angle("angle:Q", scale=None),
        )
    )
    nodes = altair.Chart(altair.Data(values=circles)).encode(x=x, y=y)
    discs = nodes.mark_circle(color=_PALE, stroke=_BLUE, opacity=1).encode(
        size=altair.Size("mass:Q", scale=altair.Scale(range=[800, 4000]), legend=None)
    )
    up = -_LINE * max(label.count("\n") for label in labels) / 2  # a text of many lines begins at its place
    texts = nodes.mark_text(
        lineBreak="\n", lineHeight=_LINE, dy=up, fontSize=11, fontWeight="bold", baseline="middle"
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


def as_svg(chart: altair.LayerChart | altair.FacetChart) -> str:
    """The chart as an SVG element that needs nothing from outside, and that its title names to who cannot see it."""
    specification: Mapping[str, Any] = chart.configure_view(stroke=None).configure(background="white").to_dict()
    title = specification["title"]
    name = html.escape(title if isinstance(title, str) else title["text"])
    return vl_convert.vegalite_to_svg(dict(specification)).replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)
