"""Figures about a model that learns to chat; they are small enough for a phone.

They show the accuracy, the wins, and the rollouts of PPO (proximal policy optimization).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import altair
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.report.charts.style import BLUE, GREY, Chart, padding
from lmzoo.system.printable import printable

if TYPE_CHECKING:
    from lmzoo.experiments.align.records import WinRate

_WIDTH = 250
_ORANGE = "#c05621"
_MEAN = "mean"
_DARK_SHARE = 0.55
"""Share above which the text of a cell is white."""


def by_task(accuracies: Mapping[str, Mapping[str, float]]) -> Chart:
    """Draws the shares of correct replies as a coloured table, with a column per stage, a row per task, and their mean.

    `accuracies` maps the name of each stage to its accuracy by task.
    """
    rows = [
        {"stage": stage, "task": printable(task, keep=""), "share": share, "text": f"{100 * share:.0f}"}
        for stage, by_task in accuracies.items()
        for task, share in {**by_task, _MEAN: float(np.mean(list(by_task.values())))}.items()
    ]
    tasks = [task for task in dict.fromkeys(row["task"] for row in rows) if task != _MEAN]
    cells = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "stage:N",
            sort=list(accuracies),
            axis=altair.Axis(orient="top", labelAngle=0, title=None, ticks=False, domain=False),
        ),
        y=altair.Y("task:N", sort=[*tasks, _MEAN], axis=altair.Axis(title=None, ticks=False, domain=False)),
    )
    colour = altair.Color("share:Q", scale=altair.Scale(domain=[0, 1], scheme="blues"), legend=None)
    dark = altair.condition(f"datum.share > {_DARK_SHARE}", altair.value("white"), altair.value("black"))
    figure = cells.mark_rect(stroke="white").encode(color=colour)
    figure += cells.mark_text(fontSize=12).encode(text="text:N", color=dark)
    return figure.properties(
        width=altair.Step(56), height=altair.Step(26), title="Correct replies, in percent", padding=padding(left=tasks)
    )


def wins(rates: Mapping[str, WinRate], baseline: str) -> Chart:
    """Draws how often models win against the fine-tuned model (SFT), with 95 % intervals.

    A dashed line marks half of the prompts. `rates` maps the name of each model to its wins, and `baseline` is the name
    of the model that is drawn in grey.
    """
    rows = [
        {"model": name, "rate": one.rate, "low": one.low, "high": one.high, "text": f"{100 * one.rate:.0f} %"}
        for name, one in rates.items()
    ]
    base = altair.Chart(altair.Data(values=rows)).encode(
        y=altair.Y("model:N", sort=list(rates), axis=altair.Axis(title=None, ticks=False, domain=False)),
        color=altair.condition(altair.datum.model == baseline, altair.value(GREY), altair.value(BLUE)),
    )
    half = altair.Chart(altair.Data(values=[{"half": 0.5}])).mark_rule(color=GREY, strokeDash=[4, 4])
    x = altair.X(
        "low:Q",
        scale=altair.Scale(domain=[0, 1]),
        axis=altair.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1], title="wins; a tie counts as half"),
    )
    figure = half.encode(x="half:Q")
    figure += base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q")
    figure += base.mark_circle(size=80, opacity=1).encode(x="rate:Q")
    figure += base.mark_text(dy=-12, fontSize=12).encode(x="rate:Q", text="text:N")
    return figure.properties(
        width=_WIDTH, height=altair.Step(44), title="Wins against SFT", padding=padding(left=list(rates))
    )


def by_rollout(title: str, numbers: ArrayLike, values: ArrayLike) -> Chart:
    """Draws the `values` (R,) of a measure against the numbers (R,) of R rollouts of PPO."""
    rows = _rows(rollout=numbers, value=values)
    lines = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X("rollout:Q", scale=altair.Scale(nice=False), axis=altair.Axis(tickCount=5, format="~s")),
        y=altair.Y("value:Q", scale=altair.Scale(zero=False), axis=altair.Axis(tickCount=5), title=None),
    )
    mark = lines.mark_line(color=BLUE, strokeWidth=1.5) if len(rows) > 1 else lines.mark_circle(color=BLUE)
    return altair.layer(mark).properties(width=_WIDTH, height=150, title=f"{title[0].upper()}{title[1:]}")


def by_divergence(
    title: str,
    points: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    curves: Mapping[str, Callable[[ArrayLike], NDArray[np.float64]]],
) -> Chart:
    """Draws rewards or grades against the square root of the KL divergence, as points, and fitted curves as lines.

    `points` maps the name of each method to the square roots of the divergences and to the rewards or grades. `curves`
    maps it to the fitted function of the square root. `title` names what is drawn.
    """
    measured, fitted = [], []
    for name, (roots, values) in points.items():
        measured += [{"method": name} | row for row in _rows(root=roots, value=values)]
        if name in curves:
            steps = np.linspace(roots.min(), roots.max(), 60)
            fitted += [{"method": name} | row for row in _rows(root=steps, value=curves[name](steps))]
    legend = altair.Legend(orient="top", title=None) if len(points) > 1 else None
    colours = altair.Scale(domain=list(points), range=[BLUE, _ORANGE][: len(points)])
    x = altair.X("root:Q", scale=altair.Scale(nice=False), axis=altair.Axis(tickCount=5), title="√KL, in √nats")
    encoding = {
        "x": x,
        "y": altair.Y("value:Q", scale=altair.Scale(zero=False), axis=altair.Axis(tickCount=5), title=None),
        "color": altair.Color("method:N", scale=colours, legend=legend),
    }
    figure = altair.Chart(altair.Data(values=measured)).mark_circle(size=22, opacity=0.5).encode(**encoding)
    figure += altair.Chart(altair.Data(values=fitted)).mark_line(strokeWidth=2).encode(**encoding)
    return figure.properties(width=_WIDTH + 40, height=210, title=f"{title[0].upper()}{title[1:]} against √KL")


def _rows(**columns: ArrayLike) -> list[dict[str, float]]:
    """Returns columns of numbers as rows for a chart."""
    lists: Sequence[list[float]] = [np.asarray(column, np.float64).tolist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
