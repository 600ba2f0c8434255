"""The look that all figures share, and the SVG that is drawn from them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import altair
import numpy as np
import vl_convert
from scipy.optimize import isotonic_regression

from lmzoo.evaluation.records import EvalRecord
from lmzoo.system.files import atomic_file

_CONFIG = {
    "background": "white",
    "title": {"anchor": "start", "fontSize": 14, "fontWeight": 600},
    "axis": {"titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 12, "gridColor": "#e8e4da"},
    "header": {"labelFontSize": 12},
    "view": {"stroke": None},
}

Chart = altair.LayerChart | altair.FacetChart | altair.ConcatChart

BLUE = "#2b6cb0"
PALE = "#dbe8f6"
GREY = "#8a93a3"
INK = "#1a202c"
LINE_HEIGHT = 13
"""Pixels between two lines of text."""
YEAR_COLOURS = altair.Scale(scheme=altair.SchemeParams(name="plasma", extent=[0, 0.85]))
"""Colours of years, from the oldest to the newest; the palest would not be visible on white."""


def shown_name(record: EvalRecord) -> str:
    """The species, marked if its figure cannot be compared with those of static models."""
    return f"{record.name}, adapts" if record.adapts_on_test else record.name


def names_at_ends(lines: altair.Chart, field: str, scale: altair.Scale) -> tuple[altair.Chart, altair.Chart]:
    """Beside the rows that have a "place" on the y axis, their names, each after a spot of the colour of its line."""
    ends = lines.transform_filter("isValid(datum.place)").encode(y=altair.Y("place:Q", scale=scale))
    spots = ends.mark_text(text="●", align="left", dx=6)
    return spots, ends.mark_text(align="left", dx=18).encode(text=f"{field}:N", color=altair.value(INK))


def label_room(names: Sequence[str]) -> int:
    """Units to leave beside names: letters are wider in some browsers than as they are measured here."""
    return 5 + 2 * max(map(len, names), default=0)


def padding(*, left: Sequence[str] = (), right: Sequence[str] = ()) -> dict[str, float]:
    """Around a figure that has names on a side."""
    return {"left": label_room(left), "top": 5, "bottom": 5, "right": label_room(right)}


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Places for labels, as near to these as they can be (least squares) if they are at least `gap` apart."""
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    apart = np.empty(len(places))
    apart[order] = isotonic_regression(np.asarray(places)[order] - steps).x + steps
    return apart.tolist()


def write_svg(chart: Chart, path: Path) -> None:
    """The chart as a file."""
    with atomic_file(path) as temporary:
        temporary.write_text(as_svg(chart), encoding="utf-8")


def as_svg(chart: Chart) -> str:
    """The chart as an SVG element that needs nothing from outside, and that its title names to who cannot see it."""
    svg = vl_convert.vegalite_to_svg(chart.configure(**_CONFIG).to_dict(validate=False))
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title_of(chart))}" ', 1)


def title_of(chart: Chart) -> str:
    """Without what stands below it."""
    return chart.title if isinstance(chart.title, str) else chart.title.text
