"""The figures of the report: one Vega-Lite specification each, drawn as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair
import vl_convert

from lmzoo import zoo
from lmzoo.records import EvalRecord
from lmzoo.report.leaderboard import ranked

_BLUE = "#2b6cb0"


def _name(record: EvalRecord) -> str:
    """The species, marked if its figure cannot be compared with those of static models."""
    return f"{record.species}, adapts" if record.adapts_on_test else record.species


def by_species(records: Sequence[EvalRecord]) -> altair.LayerChart | altair.FacetChart:
    """Bits per byte of each species, in the order of their years."""
    rows = [
        {"species": f"{_name(record)} ({year})", "bits per byte": record.bits_per_byte, "year": year}
        for record in records
        if record.bits_per_byte is not None
        for year in (zoo.card(record.species).year,)
    ]
    bars = altair.Chart(altair.Data(values=rows)).encode(
        y=altair.Y("species:N", sort=altair.EncodingSortField("year", order="ascending"), title=None),
        x=altair.X("bits per byte:Q", title="bits per byte (lower is better)"),
    )
    labels = bars.mark_text(align="left", dx=4).encode(text=altair.Text("bits per byte:Q", format=".3f"))
    return (bars.mark_bar(color=_BLUE) + labels).properties(width=520, title="What each era made of the test text")


def quality_and_cost(records: Sequence[EvalRecord]) -> altair.LayerChart | altair.FacetChart:
    """Bits per byte against the seconds that learning took."""
    rows = [
        {"species": _name(record), "bits per byte": record.bits_per_byte, "seconds": max(record.fit_seconds, 0.001)}
        for record in ranked(records)
        if record.bits_per_byte is not None
    ]
    points = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X("seconds:Q", scale=altair.Scale(type="log"), title="seconds to learn (logarithmic)"),
        y=altair.Y("bits per byte:Q", scale=altair.Scale(zero=False), title="bits per byte"),
    )
    labels = points.mark_text(align="left", dx=7, dy=-5).encode(text="species:N")
    return (points.mark_circle(size=60, color=_BLUE) + labels).properties(
        width=520, height=300, title="Quality against the time to learn"
    )


def as_svg(chart: altair.LayerChart | altair.FacetChart) -> str:
    """The chart as an SVG element that needs nothing from outside."""
    specification: Mapping[str, Any] = chart.configure_view(stroke=None).configure(background="white").to_dict()
    return vl_convert.vegalite_to_svg(dict(specification))
