"""The figures of a page, as SVG in the page and as files beside it for papers and slides."""

from __future__ import annotations

import html
import warnings
from pathlib import Path
from typing import NamedTuple

import vl_convert

from lmzoo.report.charts import Chart, DrawingError, as_svg, title_of
from lmzoo.system.files import atomic_folder
from lmzoo.system.json_files import check_name

_SCALE = 3
"""Pixels of a PNG per unit of a figure: at 3, a figure 600 units wide prints at 300 dpi on 6 inches."""


class Figure(NamedTuple):
    """A chart that was drawn as an SVG element; its files are `figures/NAME.svg` and `figures/NAME.png`."""

    name: str
    title: str
    svg: str
    is_drawn: bool = True
    """False if figures cannot be drawn; `svg` is then a caption that says why."""


class Figures:
    """Draws and keeps the figures of one page."""

    def __init__(self) -> None:
        self._drawn: list[Figure] = []
        self._error = ""

    def draw(self, name: str, chart: Chart) -> Figure:
        """Draws a chart as a figure of the page and returns the figure.

        If the chart cannot be drawn, the figure consists of a caption with the reason. `name` becomes the name of the
        figure's files, so ValueError is raised if it cannot be a file name.
        """
        check_name(name)
        title = title_of(chart)
        try:
            self._drawn.append(Figure(name, title, as_svg(chart)))
        except DrawingError as error:
            self._error = str(error)
            return Figure(name, title, f"<figcaption>{html.escape(f'{title}: {error}')}</figcaption>", is_drawn=False)
        return self._drawn[-1]

    def save(self, folder: Path) -> None:
        """Writes `figures/NAME.svg` and `figures/NAME.png` of every figure; older files in that folder are deleted.

        Warns if figures cannot be drawn, and then leaves the folder as it is.
        """
        if self._error:
            warnings.warn(f"{self._error} and repeat the command", stacklevel=2)
            return
        with atomic_folder(folder / "figures") as temporary:
            for figure in self._drawn:
                (temporary / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8", newline="\n")
                (temporary / f"{figure.name}.png").write_bytes(vl_convert.svg_to_png(figure.svg, scale=_SCALE))
