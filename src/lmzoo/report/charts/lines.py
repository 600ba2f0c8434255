"""Lines against distance, context and the text read so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair

from lmzoo.evaluation.records import CodeRecord
from lmzoo.report.charts.style import LINE_HEIGHT, YEAR_COLOURS, Chart, apart, label_room, names_at_ends, padding

if TYPE_CHECKING:
    from lmzoo.probes.context_use import Kind
    from lmzoo.report.context_use import Use
    from lmzoo.report.gradients import Flow


_HEIGHT = 340
_LEAST_LEFT = 1e-6
"""Shares of a gradient below this are not drawn, so that a network in which it vanishes leaves room for the others."""


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
    return altair.layer(lines).properties(
        width=520, height=340, title="How far gradients flow back", padding=padding(right=[flow.name for flow in flows])
    )


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
        width=520, height=380, title="What each block costs", padding=padding(right=[one.name for one in records])
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
        for use, place in zip(looking, apart(ends, LINE_HEIGHT * (domain[1] - domain[0]) / _HEIGHT), strict=True):
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
        color=altair.Color("year:O", scale=YEAR_COLOURS, legend=None),
    )
    lines = base.mark_line().encode(detail="species:N")
    dots = base.mark_circle(size=45, opacity=1).transform_filter("datum.dot")
    names = [use.name for use in looking]
    return (
        altair.layer(lines, dots, *names_at_ends(base, "species", scale), data=altair.Data(values=rows))
        .properties(width=330, height=_HEIGHT)
        .facet(column=altair.Column("panel:N", sort=list(panels.values()), title=None), spacing=50 + label_room(names))
        .properties(title="How far back each one looks", padding=padding(right=names))
    )
