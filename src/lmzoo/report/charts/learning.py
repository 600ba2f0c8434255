"""Learning curves: the loss against tokens, arithmetic and parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import altair

from lmzoo import zoo
from lmzoo.evaluation.records import EvalRecord
from lmzoo.experiments.learning_curves import Curves, loss_of
from lmzoo.report.charts.style import LINE_HEIGHT, YEAR_COLOURS, Chart, apart, names_at_ends, padding

_TALL = 460

Lines = Mapping[str, Sequence[tuple[float | None, EvalRecord]]]
"""Points of each line by its name: the value on the x axis (None = the point is left out), and the record."""


def by_train_tokens(curves: Curves) -> Chart | None:
    """Draws the test loss of each model against the number of training tokens."""
    lines = {
        name: [(record.n_train_tokens, record) for record in curves.records if record.name == name]
        for name in curves.names
    }
    return _loss_curves(lines, curves.unit, "training tokens", "Test loss against training tokens")


def by_training_flops(curves: Curves) -> Chart | None:
    """Draws the test loss of each network against its training FLOPs; returns None if no model has training FLOPs."""
    lines = {
        name: [(record.training_flops, record) for record in curves.records if record.name == name]
        for name in curves.names
    }
    return _loss_curves(lines, curves.unit, "training FLOPs", "Test loss against training FLOPs")


def by_parameters(curves: Curves) -> Chart | None:
    """Draws the test loss of models trained on the whole text against their number of parameters.

    Returns None if no species was trained in several sizes.
    """
    lines: dict[str, list[tuple[float | None, EvalRecord]]] = {}
    for record in curves.records:
        if record.train_share == 1:
            lines.setdefault(record.species, []).append((record.n_parameters, record))
    lines = {name: line for name, line in lines.items() if len({n for n, _ in line}) > 1}
    return _loss_curves(lines, curves.unit, "parameters", "Test loss against the number of parameters")


def _loss_curves(lines: Lines, unit: str, x_title: str, title: str) -> Chart | None:
    """Draws the losses of models as lines on two logarithmic axes, with a name at the end of each line.

    On these axes, a power law without irreducible loss is a straight line. `lines` maps each name to its points. `unit`
    is the unit of the losses, and `x_title` the title of the horizontal axis. Returns None if there is no point.
    """
    rows, last = [], []
    for name, line in lines.items():
        points = sorted(((x, record) for x, record in line if x), key=lambda point: point[0])
        for x, record in points:
            year = zoo.year(record.species)
            rows.append({"name": name, "x": x, "loss": loss_of(record), "year": year})
        last += rows[-1:] if points else []
    if not rows:
        return None
    low, high = (math.log(end(row["loss"] for row in rows)) for end in (min, max))
    label_ys = apart([math.log(row["loss"]) for row in last], LINE_HEIGHT * (high - low) / _TALL)
    for row, y in zip(last, label_ys, strict=True):
        row["label_y"] = math.exp(y)
    scale = altair.Scale(type="log", nice=False, padding=8)
    base = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "x:Q", scale=scale, axis=altair.Axis(format="~s", labelOverlap=True), title=f"{x_title} (logarithmic)"
        ),
        y=altair.Y("loss:Q", scale=scale, axis=altair.Axis(format=".3~g"), title=f"test {unit} (logarithmic)"),
        color=altair.Color("year:O", scale=YEAR_COLOURS, legend=None),
    )
    curves = base.mark_line(point=altair.OverlayMarkDef(size=20)).encode(detail="name:N")
    return altair.layer(curves, *names_at_ends(base, "name", scale)).properties(
        width=560, height=_TALL, title=title, padding=padding(right=list(lines))
    )
