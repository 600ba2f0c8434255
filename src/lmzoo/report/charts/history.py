"""Bits per byte of the models against their years."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import altair
import numpy as np

from lmzoo import zoo
from lmzoo.evaluation.records import EvalRecord
from lmzoo.report.charts.eras import ERA_COLOURS
from lmzoo.report.charts.style import GREY, INK, Chart, shown_name
from lmzoo.zoo.eras import ERAS, FIRST_YEAR, LAST_YEAR, era_name

_WIDTH, _HEIGHT = 820, 430
_FONT_SIZE, _LETTER = 11.5, 6.3
"""Font size of the names, and the mean width of a letter, in pixels."""
_YEARS, _PIXELS = [FIRST_YEAR, 1962, LAST_YEAR], [0, 150, _WIDTH]
"""The axis of years is linear between these stops: most models are from its last decades."""
_SAME_YEAR_GAP = 0.8
"""Years between two models of the same year, so that their intervals do not cover each other."""
_FAR_BEHIND = 1.45
"""A model with more than this multiple of the lowest bits per byte is drawn as an arrow at the upper edge."""


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)

    def overlap(self, other: _Box) -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


def by_year(records: Sequence[EvalRecord]) -> Chart:
    """Draws bits per byte with 95 % intervals against the year of each model, coloured by era.

    Models with a much higher loss than the best one are drawn as arrows at the upper edge, with their value as text.
    The axis then has enough room for the other models.
    """
    rows, low, high = _rows(records)
    _place_labels(rows, low, high)
    x_scale = altair.Scale(domain=_YEARS, range=_PIXELS, nice=False)
    y_scale = altair.Scale(domain=[low, high], nice=False)
    return altair.layer(*_eras(x_scale), *_models(rows, x_scale, y_scale)).properties(
        width=_WIDTH, height=_HEIGHT, title=altair.TitleParams("Bits per byte of each model, by year", offset=22)
    )


def _rows(records: Sequence[EvalRecord]) -> tuple[list[dict[str, Any]], float, float]:
    """Returns the values that the chart shows for each model, and the ends of the vertical axis, in bits per byte."""
    years = {record.name: zoo.year(record.species) for record in records}
    shown = [record for record in records if record.bits_per_byte is not None and years[record.name] is not None]
    best = min(record.bits_per_byte or 0 for record in shown)
    near = [record for record in shown if (record.bits_per_byte or 0) <= _FAR_BEHIND * best]
    ends = [
        end
        for record in near
        for end in (record.bits_per_byte, record.bits_per_byte_low, record.bits_per_byte_high)
        if end is not None
    ]
    margin = 0.06 * (max(ends) - min(ends)) or 0.1
    low, high = min(ends) - margin, max(ends) + (3 if len(near) < len(shown) else 1) * margin
    rows = []
    n_of_year = Counter(years[record.name] for record in shown)
    n_drawn: Counter[int] = Counter()
    for record in shown:
        year, n_bits = years[record.name] or 0, record.bits_per_byte or 0
        shift = _SAME_YEAR_GAP * (n_drawn[year] - (n_of_year[year] - 1) / 2)
        n_drawn[year] += 1
        far = record not in near
        rows.append(
            {
                "model": f"{shown_name(record)} {n_bits:.2f}" if far else shown_name(record),
                "year": year + shift,
                "bits": high - 0.7 * margin if far else n_bits,
                "low": None if far else record.bits_per_byte_low,
                "high": None if far else record.bits_per_byte_high,
                "far": far,
                "era": era_name(year),
            }
        )
    return rows, low, high


def _eras(x_scale: altair.Scale) -> list[altair.Chart]:
    """Draws the eras as vertical bands, with their names above them."""
    bands = [{"era": era.name, "start": era.start, "end": era.end, "title": era.name} for era in ERAS]
    band = altair.Chart(altair.Data(values=bands)).encode(
        x=altair.X("start:Q", scale=x_scale, title=None), color=altair.Color("era:N", scale=ERA_COLOURS, legend=None)
    )
    background = band.mark_rect(opacity=0.07).encode(
        x2="end:Q",
        y=altair.value(0),
        y2=altair.value(_HEIGHT),
        fill=altair.Fill("era:N", scale=ERA_COLOURS, legend=None),
    )
    titles = band.mark_text(align="left", dx=3, dy=-8, fontSize=11, fontWeight="bold").encode(
        text="title:N", y=altair.value(0)
    )
    return [background, titles]


def _models(rows: list[dict[str, Any]], x_scale: altair.Scale, y_scale: altair.Scale) -> list[altair.Chart]:
    """Draws each model, with its name, as a dot with an interval or as an arrow at the upper edge."""
    x = altair.X(
        "year:Q",
        scale=x_scale,
        axis=altair.Axis(format="d", values=[1913, 1930, 1948, *range(1960, 2021, 10)], grid=False, labelOverlap=True),
        title=None,
    )
    y = altair.Y(
        "bits:Q",
        scale=y_scale,
        axis=altair.Axis(gridDash=[1, 3], tickCount=6),
        title="bits per byte (lower is better)",
    )
    colour = altair.Color("era:N", scale=ERA_COLOURS, legend=None)
    points = altair.Chart(altair.Data(values=rows)).encode(x=x, y=y, color=colour)
    intervals = points.mark_rule(strokeWidth=2, opacity=0.45).encode(y="low:Q", y2="high:Q")
    dots = points.transform_filter("!datum.far").mark_circle(size=70, opacity=1)
    arrows = points.transform_filter("datum.far").mark_point(shape="triangle-up", filled=True, size=80, opacity=1)
    names = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X("label_x:Q", scale=x_scale), y=altair.Y("label_y:Q", scale=y_scale), text="model:N"
    )
    labels = names.mark_text(align="left", baseline="middle", fontSize=_FONT_SIZE, color=INK)
    lines = (
        points.transform_filter("datum.is_far_label")
        .mark_rule(color=GREY, strokeWidth=0.7)
        .encode(x2="line_x:Q", y2="line_y:Q", color=altair.value(GREY))
    )
    return [lines, intervals, dots, arrows, labels]


def _place_labels(rows: list[dict[str, Any]], low: float, high: float) -> None:
    """Chooses where a chart of models shows the name of each model, and adds the positions to `rows`.

    Each row is a dictionary that describes one model. The chosen position is close to the model's dot and covers as
    little as possible of other names, dots and intervals. Models in crowded regions are placed first. `low` and `high`
    are the ends of the vertical axis, in bits per byte. Positions are added as years and bits per byte.
    """
    to_pixel = _HEIGHT / (high - low)
    dots = [(_x(row["year"]), (high - row["bits"]) * to_pixel) for row in rows]
    marks = [_Box(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    bars = [
        _Box(x - 3, (high - row["high"]) * to_pixel, x + 3, (high - row["low"]) * to_pixel)
        for row, (x, _) in zip(rows, dots, strict=True)
        if row["low"] is not None and row["high"] is not None
    ]
    names: list[_Box] = []
    frame = _Box(0, 0, _WIDTH, _HEIGHT)

    def crowding(index: int) -> int:
        x, y = dots[index]
        return sum(abs(other_x - x) < 90 and abs(other_y - y) < 40 for other_x, other_y in dots)

    def cost(index: int, distance: float, box: _Box) -> float:
        others = marks[:index] + marks[index + 1 :]
        outside = box.area - box.overlap(frame)
        covered = sum(map(box.overlap, names)) + sum(map(box.overlap, others)) + sum(map(box.overlap, bars)) / 2
        return 50 * outside + 10 * covered + distance

    for index in sorted(range(len(rows)), key=lambda index: -crowding(index)):
        x, y = dots[index]
        width = _LETTER * len(rows[index]["model"])
        places = list(_places(x, y, width))
        _, box = min(places, key=lambda place: cost(index, *place))
        names.append(box)
        middle, nearest = (box.top + box.bottom) / 2, min(max(x, box.left), box.right)
        rows[index] |= {
            "label_x": _year(box.left),
            "label_y": high - middle / to_pixel,
            "line_x": _year(nearest),
            "line_y": high - middle / to_pixel,
            "is_far_label": max(abs(nearest - x), abs(middle - y)) > 20,
        }


def _places(x: float, y: float, width: float) -> Iterator[tuple[float, _Box]]:
    """Yields candidate boxes for a model's name around its dot at (x, y), each with a penalty for its distance.

    The boxes are at the sides, above, below and at the corners of the dot. All numbers are in pixels.
    """
    for distance, side, down in itertools.product((0, 12, 24, 36), (1, -1, 0), (0, 1, -1)):
        if side or down:
            left = {1: x + 9 + distance, -1: x - 9 - distance - width, 0: x - width / 2}[side]
            middle = y + down * (13 + 0.8 * distance)
            yield distance + 2 * abs(down) + (side != 1), _Box(left, middle - 7, left + width, middle + 7)


def _x(year: float) -> float:
    return float(np.interp(year, _YEARS, _PIXELS))


def _year(x: float) -> float:
    return float(np.interp(x, _PIXELS, _YEARS))
