"""Figures of bits per byte against cost, and of perplexity against a setting that was varied."""

from __future__ import annotations

from collections.abc import Sequence

import altair

from lmzoo.evaluation.records import EvalRecord
from lmzoo.report.charts.style import BLUE, GREY, LINE_HEIGHT, Chart, apart, shown_name
from lmzoo.report.costs import CostColumn, measured_costs, pareto_front, priced_records

_LOW = 190
_FAR_BEHIND = 1.3
"""A model with more than this multiple of the lowest bits per byte is not drawn."""


def quality_and_cost(records: Sequence[EvalRecord]) -> Chart:
    """Draws the bits per byte of models against each kind of cost, with a line along the Pareto-optimal models.

    Cheaper models are farther left. Models with a much higher loss than the best one are left out.
    """
    return altair.concat(
        *(_against(cost, records) for cost in measured_costs(records)),
        columns=3,
        title=altair.TitleParams(
            "Quality against cost",
            subtitle=[
                "Left is cheaper, lower is better. Named models are Pareto-optimal: no other is as good and as cheap.",
                f"Not drawn: models with over {_FAR_BEHIND} times the bits of the best, or without cost.",
            ],
        ),
    )


def _against(cost: CostColumn, records: Sequence[EvalRecord]) -> Chart:
    best = pareto_front(records, cost)
    priced = [
        {"species": record.name, "bits per byte": record.bits_per_byte, "cost": value, "best": record in best}
        for record, value in priced_records(records, cost)
        if value  # a logarithmic axis has no 0
    ]
    least = min((row["bits per byte"] for row in priced), default=0)
    rows = [row for row in priced if row["bits per byte"] <= _FAR_BEHIND * least]
    most = max((row["bits per byte"] for row in rows), default=0)
    named = [row for row in rows if row["best"]]
    label_ys = apart([row["bits per byte"] for row in named], LINE_HEIGHT * (most - least) / _LOW)
    for row, label_y in zip(named, label_ys, strict=True):
        row["label_y"] = label_y
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
        points.mark_circle(size=30, color=GREY)
        + on_front.mark_line(interpolate="step-after", color=BLUE, strokeWidth=1)
        + on_front.mark_circle(size=40, color=BLUE, opacity=1)
        + on_front.mark_text(align="left", dx=6, dy=-3, angle=325, fontSize=10).encode(y="label_y:Q", text="species:N")
    ).properties(width=230, height=_LOW)


def by_setting(setting: str, tried: Sequence[tuple[float, EvalRecord]], reference: EvalRecord | None) -> Chart:
    """Draws the test perplexity of models against the value of a setting in which they differ, a line for each species.

    `tried`: pairs of a value and the evaluation record of the model with this value. A dashed line marks the perplexity
    of another model, whose record is `reference`. The axis of the setting is logarithmic if its values are positive and
    span a factor of ten or more.
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
            "label": f"{shown_name(reference)}: {reference.perplexity_per_token:,.1f}",
        }
        across = altair.Chart(altair.Data(values=[level])).encode(y=y)
        figure += across.mark_rule(color=GREY, strokeDash=[4, 4])
        figure += across.mark_text(color=GREY, align="left", dy=-7).encode(text="label:N", x=altair.value(4))
    return figure.properties(width=520, height=300, title=f"Test perplexity against {setting}")
