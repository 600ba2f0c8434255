"""Reliability diagrams: accuracy of the most likely token against its probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import altair

from lmzoo.report.charts.style import BLUE, GREY, Chart

if TYPE_CHECKING:
    from lmzoo.probes.breakdown import ConfidenceBin


def by_confidence(bins: Mapping[str, Sequence[ConfidenceBin]]) -> Chart:
    """Draws a reliability diagram for each model: accuracy of the most likely token against its mean probability.

    `bins` maps the name of each model to its predictions, grouped by the probability of the most likely token.
    """
    rows = [
        {"species": name, "confidence": one.confidence, "accuracy": one.accuracy, "n": one.n}
        for name, of_model in bins.items()
        for one in of_model
    ]
    scale = altair.Scale(domain=[0, 1])
    axis = altair.Axis(format="%", values=[0, 0.5, 1])
    base = altair.Chart().encode(
        x=altair.X("confidence:Q", scale=scale, axis=axis, title="confidence"),
        y=altair.Y("accuracy:Q", scale=scale, axis=axis, title="accuracy"),
    )
    diagonal = base.mark_line(color=GREY, strokeDash=[4, 4]).encode(y="confidence:Q")
    line = base.mark_line(color=BLUE)
    circles = base.mark_circle(color=BLUE, opacity=1).encode(
        size=altair.Size("n:Q", scale=altair.Scale(range=[4, 90]), title="tokens")
    )
    return (
        altair.layer(diagonal, line, circles, data=altair.Data(values=rows))
        .properties(width=110, height=110)
        .facet(facet=altair.Facet("species:N", sort=list(bins), title=None), columns=6)
        .properties(title="Accuracy of the most likely token against its probability")
    )
