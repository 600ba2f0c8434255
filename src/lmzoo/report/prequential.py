"""Code lengths of species that learn as they go, and of compressors: one definition for terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmzoo.evaluation.records import CodeRecord, read_code_records, write_csv
from lmzoo.experiments.prequential import RECORDS
from lmzoo.report.pages import write_pages

if TYPE_CHECKING:
    from rich.table import Table

HEADER = {
    "coder": "a species that learns the text as it goes, or a compressor",
    "bytes": "length of the code",
    "bits/byte": "the same in bits for each byte of the original; lower is better",
    "of the original": "the same as a share of its size",
    "last block": "bits for each byte of the last block, which is coded with what all others taught",
    "time": "to learn and to code",
}


def ranked(records: Sequence[CodeRecord]) -> list[CodeRecord]:
    """The shortest first; then what has no code, as it found something impossible."""
    return sorted(records, key=lambda record: float("inf") if record.total_bits is None else record.total_bits)


def rows(records: Sequence[CodeRecord]) -> list[list[str]]:
    """The cells under `HEADER`, in this order."""
    return [_row(record) for record in ranked(records)]


def _row(record: CodeRecord) -> list[str]:
    last = record.block_bits_per_byte[-1] if record.kind == "species" else None
    seconds = f"{record.seconds:,.1f} s"
    if record.total_bits is None or record.bits_per_byte is None:
        return [record.name, "–", "–", "–", "–", seconds]
    return [
        record.name,
        f"{record.total_bits / 8:,.0f}",
        f"{record.bits_per_byte:.3f}",
        f"{record.bits_per_byte / 8:.1%}",
        "" if last is None else f"{last:.3f}",
        seconds,
    ]


def as_rich_table(records: Sequence[CodeRecord]) -> Table:
    """The table for a terminal; compressors stand out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in HEADER:
        table.add_column(title, justify="left" if title == "coder" else "right", no_wrap=True)
    for record in ranked(records):
        style = "bold" if record.kind == "compressor" else ""
        table.add_row(*(Text(cell, style=style) for cell in _row(record)))
    return table


def write_report(folder: str | Path, left_out: Sequence[tuple[str, str]] = ()) -> list[Path]:
    """Writes `prequential.md` and `prequential.html` into a run folder and returns their paths.

    `left_out` names what was wanted and has no record, with the reason.
    """
    from lmzoo.report import charts  # here, because whoever wants the table needs no figures
    from lmzoo.report.figures import Figures

    folder, figures = Path(folder), Figures()
    records = ranked(read_code_records(folder / RECORDS))
    species = [record for record in records if record.kind == "species"]
    context = {
        "header": HEADER,
        "records": records,
        "rows": rows(records),
        "first": records[0],
        "example": (species or records)[0],
        "best_species": next((record for record in species if record.bits_per_byte is not None), None),
        "best_compressor": next((record for record in records if record.kind == "compressor"), None),
        "left_out": left_out,
        "figure": figures.draw("prequential", charts.by_text_read(records)),
        "commands": sorted({record.command for record in records if record.command}),
        "versions": ", ".join(f"{name} {version}" for name, version in _versions(records).items()),
    }
    figures.save(folder)
    write_csv(folder / "prequential.csv", records)
    return write_pages(folder, ["prequential.md", "prequential.html"], context)


def _versions(records: Sequence[CodeRecord]) -> dict[str, str]:
    return {name: version for record in records for name, version in record.versions.items()}
