"""Bars of bits per byte."""

from __future__ import annotations

from collections.abc import Sequence

import altair

from lmzoo import zoo
from lmzoo.evaluation.records import EvalRecord
from lmzoo.report.charts.eras import ERA_COLOURS
from lmzoo.report.charts.style import INK, Chart, padding, shown_name
from lmzoo.zoo.eras import era_name


def by_species(records: Sequence[EvalRecord], width: int = 520) -> Chart:
    """Draws bits per byte with 95 % intervals as bars, one for each model, the oldest model first."""
    rows = [
        {
            "species": f"{shown_name(record)} ({year})",
            "bits per byte": record.bits_per_byte,
            "year": year,
            "era": era_name(year),
            "low": record.bits_per_byte_low,
            "high": record.bits_per_byte_high,
        }
        for record in records
        if record.bits_per_byte is not None and (year := zoo.year(record.species)) is not None
    ]
    # A list of names, because Vega-Lite drops a sort by field when layers are combined.
    names = [row["species"] for row in sorted(rows, key=lambda row: row["year"])]
    bars = altair.Chart(altair.Data(values=rows)).encode(
        y=altair.Y("species:N", sort=names, title=None),
        x=altair.X("bits per byte:Q", title="bits per byte (lower is better)"),
    )
    intervals = bars.mark_rule(color=INK, strokeWidth=2).encode(x="low:Q", x2="high:Q")
    labels = (
        bars.mark_text(align="left", dx=4)
        .encode(x="label:Q", text=altair.Text("bits per byte:Q", format=".3f"))
        .transform_calculate(label="datum.high || datum['bits per byte']")
    )
    return (
        bars.mark_bar().encode(color=altair.Color("era:N", scale=ERA_COLOURS, legend=None)) + intervals + labels
    ).properties(width=width, title="Bits per byte of each model, coloured by era", padding=padding(left=names))
