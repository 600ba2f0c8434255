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
"""By name, the points of each: what was spent (None = leave the point out), and the record that has the loss."""


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
    places = apart([math.log(row["loss"]) for row in last], LINE_HEIGHT * (high - low) / _TALL)
    for row, place in zip(last, places, strict=True):
        row["place"] = math.exp(place)
    scale = altair.Scale(type="log", nice=False, padding=8)
    base = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "x:Q", scale=scale, axis=altair.Axis(format="~s", labelOverlap=True), title=f"{spent} (logarithmic)"
        ),
        y=altair.Y("loss:Q", scale=scale, axis=altair.Axis(format=".3~g"), title=f"test {unit} (logarithmic)"),
        color=altair.Color("year:O", scale=YEAR_COLOURS, legend=None),
    )
    curves = base.mark_line(point=altair.OverlayMarkDef(size=20)).encode(detail="name:N")
    return altair.layer(curves, *names_at_ends(base, "name", scale)).properties(
        width=560, height=_TALL, title=title, padding=padding(right=list(lines))
    )
