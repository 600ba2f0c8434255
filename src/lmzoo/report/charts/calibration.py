"""How often the first guess is right, against its probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import altair

from lmzoo.report.charts.style import BLUE, GREY, Chart

if TYPE_CHECKING:
    from lmzoo.probes.breakdown import ConfidenceBin


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
    diagonal = base.mark_line(color=GREY, strokeDash=[4, 4]).encode(y="sure:Q")
    line = base.mark_line(color=BLUE)
    circles = base.mark_circle(color=BLUE, opacity=1).encode(
        size=altair.Size("n:Q", scale=altair.Scale(range=[4, 90]), title="tokens")
    )
    return (
        altair.layer(diagonal, line, circles, data=altair.Data(values=rows))
        .properties(width=110, height=110)
        .facet(facet=altair.Facet("species:N", sort=list(bins), title=None), columns=6)
        .properties(title="How often the first guess is right, against how sure the species is of it")
    )
