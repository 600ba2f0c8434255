"""The figures of a page: drawn into it, and beside it as files for papers and slides."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import vl_convert

from lmzoo.report.charts import Chart, as_svg, title_of
from lmzoo.system.files import atomic_folder

_SCALE = 3
"""Pixels of a PNG for each unit of a figure: 600 units, about the width of a page, make 300 to an inch."""


class Figure(NamedTuple):
    """A chart as an SVG element; beside the page it is `figures/NAME.svg` and `.png`."""

    name: str
    title: str
    svg: str


class Figures:
    """Those of one page."""

    def __init__(self) -> None:
        self._drawn: list[Figure] = []

    def draw(self, name: str, chart: Chart) -> Figure:
        """The chart, which is kept under the name."""
        self._drawn.append(Figure(name, title_of(chart), as_svg(chart)))
        return self._drawn[-1]

    def save(self, folder: Path) -> None:
        """Writes `figures/NAME.svg` and `figures/NAME.png`, and nothing else stays in there."""
        with atomic_folder(folder / "figures") as temporary:
            for name, _, svg in self._drawn:
                (temporary / f"{name}.svg").write_text(svg, encoding="utf-8", newline="\n")
                (temporary / f"{name}.png").write_bytes(vl_convert.svg_to_png(svg, scale=_SCALE))
