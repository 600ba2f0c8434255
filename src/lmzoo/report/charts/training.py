"""A chart of the validation loss of networks during their training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair

from lmzoo.report.charts.style import LINE_HEIGHT, YEAR_COLOURS, Chart, apart, label_room, names_at_ends, padding

if TYPE_CHECKING:
    from lmzoo.report.training import TrainingCurve

_HEIGHT = 340


def by_training(curves: Sequence[TrainingCurve]) -> Chart:
    """Draws the validation loss of networks against the training time and, beside it, against the tokens read.

    Each dot is an evaluation. The colour of a line shows the year of the network.
    """
    levels = [point.valid_bits_per_byte or 0.0 for curve in curves for point in curve.evaluations]
    margin = 0.05 * (max(levels) - min(levels)) or 0.05
    domain = (min(levels) - margin, max(levels) + margin)
    names = [curve.name for curve in curves]
    return altair.concat(
        _against("seconds", "seconds of training (logarithmic)", curves, domain),
        _against("tokens", "tokens read (logarithmic)", curves, domain),
        columns=2,
        spacing=50 + label_room(names),
        title="Validation loss during training",
        padding=padding(right=names),
    )


def _against(field: str, title: str, curves: Sequence[TrainingCurve], domain: tuple[float, float]) -> Chart:
    ends = [curve.evaluations[-1].valid_bits_per_byte or 0.0 for curve in curves]
    rows = []
    for curve, label_y in zip(curves, apart(ends, LINE_HEIGHT * (domain[1] - domain[0]) / _HEIGHT), strict=True):
        rows += [
            {
                "network": curve.name,
                "year": curve.year,
                "read": getattr(point, field),
                "loss": point.valid_bits_per_byte,
            }
            for point in curve.evaluations
            if getattr(point, field) > 0  # a logarithmic axis has no 0
        ]
        if rows and rows[-1]["network"] == curve.name:
            rows[-1]["label_y"] = label_y
    scale = altair.Scale(domain=domain, nice=False)
    base = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "read:Q",
            scale=altair.Scale(type="log", nice=False),
            axis=altair.Axis(format="~s", tickCount=5),
            title=title,
        ),
        y=altair.Y("loss:Q", scale=scale, title="bits per byte on the validation split"),
        color=altair.Color("year:O", scale=YEAR_COLOURS, legend=None),
        detail="network:N",
    )
    lines, dots = base.mark_line(), base.mark_circle(size=25, opacity=1)
    return altair.layer(lines, dots, *names_at_ends(base, "network", scale)).properties(width=330, height=_HEIGHT)
