"""Lines against distance, context and the text read so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair

from lmzoo.evaluation.code_records import CodeRecord
from lmzoo.report.charts.style import LINE_HEIGHT, YEAR_COLOURS, Chart, apart, label_room, names_at_ends, padding

if TYPE_CHECKING:
    from lmzoo.probes.context_use import Kind
    from lmzoo.report.context_use import Use
    from lmzoo.report.gradients import Flow


_HEIGHT = 340
_LOWEST_NORM = 1e-6
"""Relative gradient norms below this are not drawn: a network with vanishing gradients would compress the others."""


def by_distance(flows: Sequence[Flow]) -> Chart:
    """Draws the relative gradient norm of each network against the distance of a token from the last token read.

    The gradient is that of the loss of a prediction with respect to the embedding of the token. Its norm is relative to
    the norm at distance 0. Lines of untrained networks are dashed.
    """
    rows = [
        {"network": flow.name, "kind": "untrained" if flow.untrained else "trained", "distance": distance, "left": left}
        for flow in flows
        for distance, left in enumerate(flow.gradients.left().tolist())
        if left > 0
    ]
    most = max([1.0, *(row["left"] for row in rows)])
    powers = range(round(math.log10(_LOWEST_NORM)), math.ceil(math.log10(most)) + 1)
    lines = (
        altair.Chart(altair.Data(values=rows))
        .mark_line(clip=True)
        .encode(
            x=altair.X(
                "distance:Q", title="distance from the last token read, in tokens", scale=altair.Scale(nice=False)
            ),
            y=altair.Y(
                "left:Q",
                scale=altair.Scale(type="log", domain=[_LOWEST_NORM, most]),
                axis=altair.Axis(values=[10.0**power for power in powers], format="~%"),
                title="relative gradient norm (logarithmic)",
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
    """Draws, for each model, the bits per byte of each block of a text against the bytes of text before the block.

    A compressor is a dashed line at its bits per byte for the whole text. The first block is left out, since there is
    no text before it. Models that gave a token probability 0 are left out too.
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
            title="bytes of text before the block (logarithmic)",
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
        width=520, height=380, title="Bits per byte of each block", padding=padding(right=[one.name for one in records])
    )


def by_context(uses: Sequence[Use]) -> Chart:
    """Draws the bits per token of each model against the number N of context tokens, in two panels.

    In the first panel only the last N tokens are given; in the second, all older tokens are given in shuffled order. A
    dot marks the length from which more context lowers the perplexity by less than 1 %. Models without context are left
    out.
    """
    drawn = [use for use in uses if use.context.cut.any()] or uses
    panels: dict[Kind, str] = {
        "cut": "Truncated context: only the last N tokens",
        "shuffled": "Shuffled context: only the last N tokens in order",
    }
    curves = {
        (kind, use.name): {n: cost for n, cost in use.bits(kind).items() if n} for kind in panels for use in drawn
    }
    levels = [cost for curve in curves.values() for cost in curve.values()]
    domain = [min(levels) - 0.05, max(levels) + 0.05]
    rows = []
    for kind, panel in panels.items():
        ends = [list(curves[kind, use.name].values())[-1] for use in drawn]
        for use, label_y in zip(drawn, apart(ends, LINE_HEIGHT * (domain[1] - domain[0]) / _HEIGHT), strict=True):
            curve = curves[kind, use.name]
            about = {"panel": panel, "species": use.name, "year": use.year}
            rows += [
                {**about, "tokens": n, "bits": cost, "dot": n == use.reaches[kind].tokens} for n, cost in curve.items()
            ]
            rows[-1]["label_y"] = label_y
    scale = altair.Scale(domain=domain, nice=False)
    base = altair.Chart().encode(
        x=altair.X("tokens:Q", scale=altair.Scale(type="log", base=2, nice=False), title="N, in tokens (logarithmic)"),
        y=altair.Y("bits:Q", scale=scale, title="bits per token"),
        color=altair.Color("year:O", scale=YEAR_COLOURS, legend=None),
    )
    lines = base.mark_line().encode(detail="species:N")
    dots = base.mark_circle(size=45, opacity=1).transform_filter("datum.dot")
    names = [use.name for use in drawn]
    return (
        altair.layer(lines, dots, *names_at_ends(base, "species", scale), data=altair.Data(values=rows))
        .properties(width=330, height=_HEIGHT)
        .facet(column=altair.Column("panel:N", sort=list(panels.values()), title=None), spacing=50 + label_room(names))
        .properties(title="Loss against the length of the context", padding=padding(right=names))
    )
