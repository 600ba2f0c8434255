"""The ladder's tasks as a table of colours."""

from __future__ import annotations

from collections.abc import Sequence

import altair

from lmzoo import zoo
from lmzoo.experiments.ladder import TaskResult
from lmzoo.report.charts.style import Chart, padding

_LEAST_EXCESS, _DARK, _MOST_EXCESS = 0.001, 0.1, 2.0
"""Excess in nats per token: of the lightest cell, above which the text is white, and of the darkest cell."""
_EXCESS_UNIT = "nats/token"


def ladder(task_results: Sequence[TaskResult]) -> Chart:
    """Draws a heat map of excess cross-entropy, the loss above the entropy of the text, for each model and task.

    A darker cell has a larger excess; ✓ marks a task that the model passed. `task_results` has one result for each
    model and task.
    """
    rows = [
        {
            "species": result.species,
            "year": zoo.year(result.species) or 0,
            "task": result.task,
            "excess": min(max(result.excess_nats, _LEAST_EXCESS), _MOST_EXCESS),
            "figure": result.excess_nats,
            "mark": "✓" if result.passed else "",
        }
        for result in task_results
        if result.excess_nats is not None
    ]
    names = [row["species"] for row in sorted(rows, key=lambda row: row["year"])]
    tasks = list(dict.fromkeys(result.task for result in reversed(task_results)))
    cells = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "species:N",
            sort=list(dict.fromkeys(names)),
            axis=altair.Axis(orient="top", labelAngle=-35, title=None, ticks=False, domain=False),
        ),
        y=altair.Y(
            "task:N",
            sort=tasks,
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
        title="Excess cross-entropy",
        padding=padding(left=tasks, right=[_EXCESS_UNIT]),
    )
