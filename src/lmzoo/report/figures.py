"""The figures of a page, as SVG in the page and as files beside it for papers and slides."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import vl_convert

from lmzoo.report.charts import Chart, as_svg, title_of
from lmzoo.system.files import atomic_folder
from lmzoo.system.json_files import check_name

_SCALE = 3
"""Pixels of a PNG per unit of a figure: at 3, a figure 600 units wide prints at 300 dpi on 6 inches."""


class Figure(NamedTuple):
    """A chart that was drawn as an SVG element; its files are `figures/NAME.svg` and `figures/NAME.png`."""

    name: str
    title: str
    svg: str


class Figures:
    """Draws and keeps the figures of one page."""

    def __init__(self) -> None:
        self._drawn: list[Figure] = []

    def draw(self, name: str, chart: Chart) -> Figure:
        """Draws a chart, keeps it under the name and returns it.

        Raises ValueError for a name that cannot be a file name, because files have the names of their figures.
        """
        check_name(name)
        self._drawn.append(Figure(name, title_of(chart), as_svg(chart)))
        return self._drawn[-1]

    def save(self, folder: Path) -> None:
        """Writes `figures/NAME.svg` and `figures/NAME.png` of every figure; older files in that folder are deleted."""
        with atomic_folder(folder / "figures") as temporary:
            for name, _, svg in self._drawn:
                (temporary / f"{name}.svg").write_text(svg, encoding="utf-8", newline="\n")
                (temporary / f"{name}.png").write_bytes(vl_convert.svg_to_png(svg, scale=_SCALE))
