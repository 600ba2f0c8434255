"""The figures of the report: one Vega-Lite specification each, drawn as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair
import networkx
import numpy as np
import vl_convert
from scipy.optimize import isotonic_regression

from lmzoo import zoo
from lmzoo.evaluation.records import CodeRecord, EvalRecord
from lmzoo.experiments.curves import Curves, loss_of
from lmzoo.experiments.ladder import Climb
from lmzoo.models.hidden_states import StateSummary
from lmzoo.report.context import Use
from lmzoo.report.costs import Cost, comparable, front, measured
from lmzoo.report.gradients import Flow
from lmzoo.system.files import atomic_file

if TYPE_CHECKING:
    from lmzoo.probes.breakdown import ConfidenceBin
    from lmzoo.probes.context_use import Kind

Chart = altair.LayerChart | altair.FacetChart | altair.ConcatChart

_BLUE = "#2b6cb0"
_PALE = "#dbe8f6"
_GREY = "#8a93a3"
_INK = "#1a202c"
_WAYS_OUT = 2
"""Ways drawn from each state."""
_HEAD = 0.66
_LINE = 13
_LOW = 190
_HEIGHT = 340
_TALL = 460
_ERAS = altair.Scale(scheme=altair.SchemeParams(name="plasma", extent=[0, 0.85]))
"""Colours of years, from the oldest to the newest; the palest would not be seen on white."""
_FAR_BEHIND = 1.3
"""Times as many bits as the best has."""
_LEAST_LEFT = 1e-6
"""Shares of a gradient below this are not drawn, so that a network in which it vanishes leaves room for the others."""

_LEAST_EXCESS, _DARK, _MOST_EXCESS = 0.001, 0.1, 2.0
"""Nats per token of the lightest and the darkest cell of a ladder, and above which its text is white."""
_EXCESS_UNIT = "nats/token"


def _name(record: EvalRecord) -> str:
    """The species, marked if its figure cannot be compared with those of static models."""
    return f"{record.name}, adapts" if record.adapts_on_test else record.name


def by_species(records: Sequence[EvalRecord]) -> Chart:
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
        if record.bits_per_byte is not None and (year := zoo.year(record.species)) is not None
    ]
    # By name, as the field of a sort is lost where layers are put together.
    names = [row["species"] for row in sorted(rows, key=lambda row: row["year"])]
    bars = altair.Chart(altair.Data(values=rows)).encode(
        y=altair.Y("species:N", sort=names, title=None),
        x=altair.X("bits per byte:Q", title="bits per byte (lower is better)"),
    )
    intervals = bars.mark_rule(color=_INK, strokeWidth=2).encode(x="low:Q", x2="high:Q")
    labels = (
        bars.mark_text(align="left", dx=4)
        .encode(x="label:Q", text=altair.Text("bits per byte:Q", format=".3f"))
        .transform_calculate(label="datum.high || datum['bits per byte']")
    )
    return (bars.mark_bar(color=_BLUE) + intervals + labels).properties(
        width=520, title="What each era made of the test text", padding=_padding(left=names)
    )


def quality_and_cost(records: Sequence[EvalRecord]) -> Chart:
    """Bits per byte against each cost, the cheaper the farther left; a line along those that nothing undercuts.

    Those that are far behind the best are left out, so that the others can be told apart.
    """
    return altair.concat(
        *(_against(cost, records) for cost in measured(records)),
        columns=3,
        title=altair.TitleParams(
            "Quality against cost",
            subtitle=[
                "The farther left, the cheaper; the lower, the better. The named ones: nothing better is as cheap.",
                f"Not drawn: what needs over {_FAR_BEHIND} times as many bits as the best, and what costs nothing.",
            ],
        ),
    )


def _against(cost: Cost, records: Sequence[EvalRecord]) -> Chart:
    best = front(records, cost)
    priced = [
        {"species": record.name, "bits per byte": record.bits_per_byte, "cost": value, "best": record in best}
        for record, value in comparable(records, cost)
        if value  # 0 has no place on a logarithmic axis
    ]
    least = min((row["bits per byte"] for row in priced), default=0)
    rows = [row for row in priced if row["bits per byte"] <= _FAR_BEHIND * least]
    most = max((row["bits per byte"] for row in rows), default=0)
    named = [row for row in rows if row["best"]]
    places = _apart([row["bits per byte"] for row in named], _LINE * (most - least) / _LOW)
    for row, place in zip(named, places, strict=True):
        row["place"] = place
    points = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "cost:Q",
            scale=altair.Scale(type="log", reverse=cost.is_rate, padding=12),
            axis=altair.Axis(title=cost.axis, format="~s", tickCount=4, grid=False),
        ),
        y=altair.Y("bits per byte:Q", scale=altair.Scale(zero=False), title="bits per byte"),
    )
    on_front = points.transform_filter("datum.best")
    return (
        points.mark_circle(size=30, color=_GREY)
        + on_front.mark_line(interpolate="step-after", color=_BLUE, strokeWidth=1)
        + on_front.mark_circle(size=40, color=_BLUE, opacity=1)
        + on_front.mark_text(align="left", dx=6, dy=-3, angle=325, fontSize=10).encode(y="place:Q", text="species:N")
    ).properties(width=230, height=_LOW)


def by_setting(setting: str, tried: Sequence[tuple[float, EvalRecord]], reference: EvalRecord | None) -> Chart:
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


def by_train_tokens(curves: Curves) -> Chart:
    """The loss of each entry against the tokens of its text."""
    lines = {
        name: [(record.n_train_tokens, record) for record in curves.records if record.name == name]
        for name in curves.names
    }
    return _falling(lines, curves.unit, "training tokens", "What more text is worth")


def by_training_flops(curves: Curves) -> Chart | None:
    """The loss of each network against what it computed to learn; None if there are none."""
    lines = {
        name: [(record.training_flops, record) for record in curves.records if record.name == name]
        for name in curves.names
    }
    return _falling(lines, curves.unit, "FLOPs to learn", "What more arithmetic is worth") if _any(lines) else None


def by_parameters(curves: Curves) -> Chart | None:
    """The loss on all of the text against the size of a species; None if there is none of several sizes."""
    lines: dict[str, list[tuple[float | None, EvalRecord]]] = {}
    for record in curves.records:
        if record.train_share == 1:
            lines.setdefault(record.species, []).append((record.n_parameters, record))
    lines = {name: line for name, line in lines.items() if len({n for n, _ in line}) > 1}
    return _falling(lines, curves.unit, "parameters", "What a larger model is worth") if _any(lines) else None


Lines = Mapping[str, Sequence[tuple[float | None, EvalRecord]]]
"""By name, the points of each: what was spent (None = leave the point out), and the record that has the loss."""


def _any(lines: Lines) -> bool:
    return any(spent for line in lines.values() for spent, _ in line)


def _falling(lines: Lines, unit: str, spent: str, title: str) -> Chart:
    """Losses against what was spent, both logarithmic: power laws are straight. Names stand at the ends of lines."""
    rows, last = [], []
    for name, line in lines.items():
        points = sorted(((x, record) for x, record in line if x), key=lambda point: point[0])
        for x, record in points:
            year = zoo.year(record.species)
            rows.append({"name": name, "x": x, "loss": loss_of(record), "year": year})
        last += rows[-1:] if points else []
    low, high = (math.log(end(row["loss"] for row in rows)) for end in (min, max))
    places = _apart([math.log(row["loss"]) for row in last], _LINE * (high - low) / _TALL)
    for row, place in zip(last, places, strict=True):
        row["place"] = math.exp(place)
    scale = altair.Scale(type="log", nice=False, padding=8)
    base = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "x:Q", scale=scale, axis=altair.Axis(format="~s", labelOverlap=True), title=f"{spent} (logarithmic)"
        ),
        y=altair.Y("loss:Q", scale=scale, axis=altair.Axis(format=".3~g"), title=f"test {unit} (logarithmic)"),
        color=altair.Color("year:O", scale=_ERAS, legend=None),
    )
    curves = base.mark_line(point=altair.OverlayMarkDef(size=20)).encode(detail="name:N")
    return altair.layer(curves, *_names_at_ends(base, "name", scale)).properties(
        width=560, height=_TALL, title=title, padding=_padding(right=list(lines))
    )


def by_distance(flows: Sequence[Flow]) -> Chart:
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
    padding = _padding(right=[flow.name for flow in flows])
    return altair.layer(lines).properties(width=520, height=340, title="How far gradients flow back", padding=padding)


def by_text_read(records: Sequence[CodeRecord]) -> Chart:
    """Bits per byte of each block against how much of the text was read before it, dashes for compressors of it all.

    Not of the first block, before which nothing was read, and not for those that found something impossible.
    """
    rows = []
    for record in records:
        if record.bits_per_byte is None:
            continue
        ends = [sum(record.block_bytes[:number]) for number in range(1, len(record.block_bytes))]
        costs = zip(ends, record.block_bits_per_byte[1:], strict=True)
        rows += [{"coder": record.name, "kind": record.kind, "read": end, "cost": cost} for end, cost in costs]
    reached = [row["read"] for row in rows] or [1]
    rows += [
        {"coder": record.name, "kind": record.kind, "read": end, "cost": record.bits_per_byte}
        for record in records
        if record.kind == "compressor"
        for end in (min(reached), max(reached))
    ]
    base = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "read:Q",
            scale=altair.Scale(type="log", nice=False),
            axis=altair.Axis(format="~s"),
            title="bytes read before (logarithmic)",
        ),
        y=altair.Y("cost:Q", scale=altair.Scale(type="log", nice=False), title="bits per byte (logarithmic)"),
        color=altair.Color(
            "coder:N",
            sort=None,
            scale=altair.Scale(scheme="category20"),
            legend=altair.Legend(title=None, symbolType="stroke"),
        ),
    )
    lines = base.mark_line().encode(
        strokeDash=altair.StrokeDash(
            "kind:N", sort=["species", "compressor"], legend=altair.Legend(title=None, symbolType="stroke")
        )
    )
    points = base.transform_filter("datum.kind == 'species'").mark_circle(size=20, opacity=1)
    return (lines + points).properties(
        width=520, height=380, title="What each block costs", padding=_padding(right=[one.name for one in records])
    )


def by_context(uses: Sequence[Use]) -> Chart:
    """Bits a token against how much of the context is left, or left in order; a line for each that looks at any.

    From a dot on, less than 1 % of perplexity is to be gained.
    """
    looking = [use for use in uses if use.context.cut.any()] or uses
    panels: dict[Kind, str] = {
        "cut": "The context is cut to so many tokens",
        "shuffled": "So many tokens are in order, the rest is shuffled",
    }
    curves = {
        (kind, use.name): {n: cost for n, cost in use.bits(kind).items() if n} for kind in panels for use in looking
    }
    levels = [cost for curve in curves.values() for cost in curve.values()]
    domain = [min(levels) - 0.05, max(levels) + 0.05]
    rows = []
    for kind, panel in panels.items():
        ends = [list(curves[kind, use.name].values())[-1] for use in looking]
        for use, place in zip(looking, _apart(ends, _LINE * (domain[1] - domain[0]) / _HEIGHT), strict=True):
            curve = curves[kind, use.name]
            about = {"panel": panel, "species": use.name, "year": use.year}
            rows += [
                {**about, "tokens": n, "bits": cost, "dot": n == use.reaches[kind].tokens} for n, cost in curve.items()
            ]
            rows[-1]["place"] = place  # of the label, at the end of the line
    scale = altair.Scale(domain=domain, nice=False)
    base = altair.Chart().encode(
        x=altair.X("tokens:Q", scale=altair.Scale(type="log", base=2, nice=False), title="tokens (logarithmic)"),
        y=altair.Y("bits:Q", scale=scale, title="bits per token"),
        color=altair.Color("year:O", scale=_ERAS, legend=None),
    )
    lines = base.mark_line().encode(detail="species:N")
    dots = base.mark_circle(size=45, opacity=1).transform_filter("datum.dot")
    names = [use.name for use in looking]
    return (
        altair.layer(lines, dots, *_names_at_ends(base, "species", scale), data=altair.Data(values=rows))
        .properties(width=330, height=_HEIGHT)
        .facet(column=altair.Column("panel:N", sort=list(panels.values()), title=None), spacing=50 + _room(names))
        .properties(title="How far back each one looks", padding=_padding(right=names))
    )


def _names_at_ends(lines: altair.Chart, field: str, scale: altair.Scale) -> tuple[altair.Chart, altair.Chart]:
    """Beside the rows that have a "place" on the y axis, their names, each after a spot of the colour of its line."""
    ends = lines.transform_filter("isValid(datum.place)").encode(y=altair.Y("place:Q", scale=scale))
    spots = ends.mark_text(text="●", align="left", dx=6)
    return spots, ends.mark_text(align="left", dx=18).encode(text=f"{field}:N", color=altair.value(_INK))


def _room(names: Sequence[str]) -> int:
    """Units to leave beside names: letters are wider in some browsers than as they are measured here."""
    return 5 + 2 * max(map(len, names), default=0)


def _padding(*, left: Sequence[str] = (), right: Sequence[str] = ()) -> dict[str, float]:
    """Around a figure that has names on a side."""
    return {"left": _room(left), "top": 5, "bottom": 5, "right": _room(right)}


def by_confidence(bins: Mapping[str, Sequence[ConfidenceBin]]) -> Chart:
    """How often the first guess of each species came, against how sure it was of it; a panel for each."""
    rows = [
        {"species": name, "sure": one.confidence, "right": one.accuracy, "n": one.n}
        for name, of_species in bins.items()
        for one in of_species
    ]
    scale = altair.Scale(domain=[0, 1])
    axis = altair.Axis(format="%", values=[0, 0.5, 1])
    base = altair.Chart().encode(
        x=altair.X("sure:Q", scale=scale, axis=axis, title="sure"),
        y=altair.Y("right:Q", scale=scale, axis=axis, title="right"),
    )
    diagonal = base.mark_line(color=_GREY, strokeDash=[4, 4]).encode(y="sure:Q")
    line = base.mark_line(color=_BLUE)
    circles = base.mark_circle(color=_BLUE, opacity=1).encode(
        size=altair.Size("n:Q", scale=altair.Scale(range=[4, 90]), title="tokens")
    )
    return (
        altair.layer(diagonal, line, circles, data=altair.Data(values=rows))
        .properties(width=110, height=110)
        .facet(facet=altair.Facet("species:N", sort=list(bins), title=None), columns=6)
        .properties(title="How often the first guess is right, against how sure the species is of it")
    )


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Places for labels, as near to these as they can be (least squares) if they are at least `gap` apart."""
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    apart = np.empty(len(places))
    apart[order] = isotonic_regression(np.asarray(places)[order] - steps).x + steps
    return apart.tolist()


def ladder(climbs: Sequence[Climb]) -> Chart:
    """The excess of every species on every rung: the darker, the more was not learned; ✓ where a rung is climbed.

    Of each species on each rung there is one.
    """
    rows = [
        {
            "species": climb.species,
            "year": zoo.year(climb.species) or 0,
            "rung": climb.rung,
            "excess": min(max(climb.excess_nats, _LEAST_EXCESS), _MOST_EXCESS),
            "figure": climb.excess_nats,
            "mark": "✓" if climb.climbed else "",
        }
        for climb in climbs
        if climb.excess_nats is not None
    ]
    names = [row["species"] for row in sorted(rows, key=lambda row: row["year"])]
    rungs = list(dict.fromkeys(climb.rung for climb in reversed(climbs)))
    cells = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "species:N",
            sort=list(dict.fromkeys(names)),
            axis=altair.Axis(orient="top", labelAngle=-35, title=None, ticks=False, domain=False),
        ),
        y=altair.Y(
            "rung:N",
            sort=rungs,
            axis=altair.Axis(title=None, ticks=False, domain=False),
        ),
    )
    colour = altair.Color(
        "excess:Q",
        scale=altair.Scale(type="log", domain=[_LEAST_EXCESS, _MOST_EXCESS], scheme="blues"),
        legend=altair.Legend(title=_EXCESS_UNIT, values=[0.001, 0.01, 0.1, 1]),
    )
    dark = altair.condition(f"datum.excess > {_DARK}", altair.value("white"), altair.value("black"))
    figure = cells.mark_rect(stroke="white").encode(color=colour)
    figure += cells.mark_text(fontSize=11).encode(text=altair.Text("figure:Q", format=".3f"), color=dark)
    figure += cells.mark_text(fontSize=11, dx=-22).encode(text="mark:N", color=dark)
    return figure.properties(
        width=altair.Step(62),
        height=altair.Step(28),
        title="Nats per token above the entropy of the source",
        padding=_padding(left=rungs, right=[_EXCESS_UNIT]),
    )


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


def write_svg(chart: Chart, path: Path) -> None:
    """The chart as a file."""
    with atomic_file(path) as temporary:
        temporary.write_text(as_svg(chart), encoding="utf-8")


def as_svg(chart: Chart) -> str:
    """The chart as an SVG element that needs nothing from outside, and that its title names to who cannot see it."""
    svg = vl_convert.vegalite_to_svg(chart.configure(background="white").to_dict())
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title_of(chart))}" ', 1)


def title_of(chart: Chart) -> str:
    """Without what stands below it."""
    return chart.title if isinstance(chart.title, str) else chart.title.text
