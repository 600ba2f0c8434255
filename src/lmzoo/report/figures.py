"""The figures of a page: drawn into it, and beside it as files for papers and slides."""

from __future__ import annotations

from pathlib import Path

import vl_convert

from lmzoo.files import atomic_folder
from lmzoo.report.charts import Chart, as_svg

_SCALE = 3
"""Pixels of a PNG for each unit of a figure: 600 units, about the width of a page, make 300 to an inch."""


class Figures:
    """Charts by name, as SVG."""

    def __init__(self) -> None:
        self._drawn: dict[str, str] = {}

    def draw(self, name: str, chart: Chart) -> str:
        """The chart as an SVG element, which is kept under the name."""
        self._drawn[name] = as_svg(chart)
        return self._drawn[name]

    def save(self, folder: Path) -> None:
        """Writes `figures/NAME.svg` and `figures/NAME.png`, and nothing else stays in there."""
        with atomic_folder(folder / "figures") as temporary:
            for name, svg in self._drawn.items():
                (temporary / f"{name}.svg").write_text(svg, encoding="utf-8", newline="\n")
                (temporary / f"{name}.png").write_bytes(vl_convert.svg_to_png(svg, scale=_SCALE))
