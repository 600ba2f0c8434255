"""The style that all figures share, and their conversion to SVG."""

from __future__ import annotations

import html
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import altair
import numpy as np
import psutil
import vl_convert

from lmzoo.errors import LmzooError
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


class DrawingError(LmzooError):
    """Raised if this process cannot draw figures."""


def shown_name(record: EvalRecord) -> str:
    """Returns the name of a record's model, marked if the model adapts to the test text and is not ranked."""
    return f"{record.name}, adapts" if record.adapts_on_test else record.name


def names_at_ends(lines: altair.Chart, field: str, scale: altair.Scale) -> tuple[altair.Chart, altair.Chart]:
    """Returns two chart layers that write names at the ends of lines: a dot in the colour of the line, and the name.

    `lines`: the chart of the lines, whose data have a "label_y", the vertical position of the name, at the end of each
    line. `field`: the column of the data that holds the names. `scale`: the scale of the vertical axis.
    """
    ends = lines.transform_filter("isValid(datum.label_y)").encode(y=altair.Y("label_y:Q", scale=scale))
    spots = ends.mark_text(text="●", align="left", dx=6)
    return spots, ends.mark_text(align="left", dx=18).encode(text=f"{field}:N", color=altair.value(INK))


def label_room(names: Sequence[str]) -> int:
    """Returns the width, in pixels, to reserve beside a figure in addition to the measured width of the names.

    The measured width is not enough because some browsers use a font with wider letters.
    """
    return 5 + 2 * max(map(len, names), default=0)


def padding(*, left: Sequence[str] = (), right: Sequence[str] = ()) -> dict[str, float]:
    """Returns the padding of a figure, in pixels, that leaves room for names that are written beside the figure.

    The keyword arguments `left` and `right` are the names that are written on each side.
    """
    return {"left": label_room(left), "top": 5, "bottom": 5, "right": label_room(right)}


def apart(positions: Sequence[float], gap: float) -> list[float]:
    """Moves labels as little as possible, in least squares, so that their positions are at least `gap` apart."""
    from scipy.optimize import isotonic_regression  # slow to import

    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(positions))
    apart = np.empty(len(positions))
    apart[order] = isotonic_regression(np.asarray(positions)[order] - steps).x + steps
    return apart.tolist()


def write_svg(chart: Chart, path: Path) -> None:
    """Draws a chart and writes it to an SVG file."""
    with atomic_file(path) as temporary:
        temporary.write_text(as_svg(chart), encoding="utf-8")


def as_svg(chart: Chart) -> str:
    """Draws a chart as an SVG element that needs no other file, with the title as its label for screen readers.

    Raises DrawingError if the limit of address space of this process is too low.
    """
    if not _has_address_space():
        raise DrawingError(
            "figures cannot be drawn, because the limit of address space (ulimit -v) is too low for the JavaScript "
            "engine that draws them: raise the limit"
        )
    svg = vl_convert.vegalite_to_svg(chart.configure(**_CONFIG).to_dict(validate=False))
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title_of(chart))}" ', 1)


@cache
def _has_address_space() -> bool:
    """Returns True if the JavaScript engine of vl-convert, which draws the charts, can start in this process.

    The engine reserves tens of gigabytes of addresses, and ends its process if it cannot have them. If this process has
    a limit of address space, a child process that may use what is left of it therefore tries first.
    """
    if sys.platform == "win32":
        return True
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return True
    rest = limit - psutil.Process().memory_info().vms
    code = (
        f"import resource, vl_convert\nresource.setrlimit(resource.RLIMIT_AS, ({rest}, {rest}))\n"
        "vl_convert.vegalite_to_svg({'mark': 'bar', 'data': {'values': []}})"
    )
    return rest > 0 and subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def title_of(chart: Chart) -> str:
    """Returns the title of a chart, without its subtitle."""
    return chart.title if isinstance(chart.title, str) else chart.title.text
