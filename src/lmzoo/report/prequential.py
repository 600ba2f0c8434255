"""Prequential coding: the table that the terminal, Markdown and HTML share, and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmzoo.evaluation.code_records import CodeRecord, read_code_records
from lmzoo.evaluation.records import write_csv
from lmzoo.experiments.prequential import RECORDS
from lmzoo.report.pages import origin, write_pages

HEADER = {
    "coder": "a model that learns the text while it codes it, or a compressor",
    "bytes": "compressed length",
    "bits/byte": "compressed length in bits per byte of the original; lower is better",
    "of the original": "compressed length as a share of the original length",
    "last block": "bits per byte of the last block, after the model has learned all other blocks",
    "time": "time for training and coding",
}


def ranked(records: Sequence[CodeRecord]) -> list[CodeRecord]:
    """Sorts records by compressed length, the shortest first; models that gave a token probability 0 come last."""
    return sorted(records, key=lambda record: float("inf") if record.total_bits is None else record.total_bits)


def rows(records: Sequence[CodeRecord]) -> list[list[str]]:
    """Returns the rows of the table of compressed lengths, the shortest first."""
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


def write_report(folder: str | Path, left_out: Sequence[tuple[str, str]] = ()) -> list[Path]:
    """Writes `prequential.md` and `prequential.html` into a run folder and returns their paths.

    `left_out`: models and compressors that have no compressed length, as pairs of the name and the reason.
    """
    from lmzoo.report import charts  # imported here because the table in the terminal needs no figures
    from lmzoo.report.figures import Figures

    folder, figures = Path(folder), Figures()
    records = ranked(read_code_records(folder / RECORDS))
    species = [record for record in records if record.kind == "species"]
    context = {
        "header": list(HEADER),
        "meanings": HEADER,
        "records": records,
        "rows": rows(records),
        "first": records[0],
        "example": (species or records)[0],
        "online": [record.name for record in species if record.online],
        "best_species": next((record for record in species if record.bits_per_byte is not None), None),
        "best_compressor": next((record for record in records if record.kind == "compressor"), None),
        "left_out": left_out,
        "figure": figures.draw("prequential", charts.by_text_read(records)),
        **origin(records, _versions(records)),
    }
    figures.save(folder)
    write_csv(folder / "prequential.csv", records)
    return write_pages(folder, ["prequential.md", "prequential.html"], context)


def _versions(records: Sequence[CodeRecord]) -> dict[str, str]:
    return {name: version for record in records for name, version in record.versions.items()}
