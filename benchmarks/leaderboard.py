"""Writes the tables and the picture of the README and of docs/explanation/results.md.

    make compare && python benchmarks/leaderboard.py --run runs/quick    # copies the records of the run, then writes
    python benchmarks/leaderboard.py                                     # writes from the records in this folder
    python benchmarks/leaderboard.py --check                             # fails if a table is out of date

The records are in `leaderboard.jsonl`, next to this file. Each record holds the versions, machine, seed and command of
its model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lmzoo import zoo
from lmzoo.evaluation.ranking import entries
from lmzoo.evaluation.records import EvalRecord, read_records, write_records
from lmzoo.report import charts
from lmzoo.report.leaderboard import columns, duration, formatted, rows
from lmzoo.system.counts import short_number

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks" / "leaderboard.jsonl"
PICTURE = ROOT / "docs" / "leaderboard.svg"
BEGIN, END = "<!-- {}: benchmarks/leaderboard.py writes this table -->\n", "<!-- end of {} -->\n"

SHOWN = ("hybrid", "transformer", "ngram", "lstm", "gpt2", "markov")
"""The species in the short table of the README."""


def markdown(header: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table whose first column is aligned to the left, the others to the right."""
    alignment = ["--:" if column else "---" for column in range(len(header))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [header, alignment, *table])


def short_leaderboard(records: Sequence[EvalRecord]) -> str:
    """Returns the table of the README: six species, six columns."""
    header = ["model", "year", "bits per byte", "95 % interval", "parameters", "training time"]
    table = [
        [
            f"`{record.species}`",
            str(zoo.card(record.species).year),
            formatted(record.bits_per_byte, ".3f"),
            f"{formatted(record.bits_per_byte_low, '.3f')} to {formatted(record.bits_per_byte_high, '.3f')}",
            short_number(record.n_parameters),
            duration(record.fit_seconds),
        ]
        for record in records
        if record.species in SHOWN
    ]
    return markdown(header, table)


def leaderboard(records: Sequence[EvalRecord]) -> str:
    """Returns the full leaderboard, as the report of `lmzoo compare` has it."""
    shown = columns(records)
    return markdown([column.title for column in shown], rows(records, shown))


def updated(path: Path, tables: dict[str, str]) -> str:
    """Returns the text of a page in which the tables between the marks are replaced; `tables` maps names to tables."""
    page = path.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            sys.exit(f"{path.name}: there are no marks for the table '{name}'")
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the tables of the README and the results page.")
    parser.add_argument("--run", type=Path, help="folder that lmzoo compare wrote, whose records are copied first")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table is out of date")
    arguments = parser.parse_args()
    if arguments.run:
        write_records(RECORDS, read_records(arguments.run / "results.jsonl"))
    ranked = [record for record in entries(read_records(RECORDS)) if not record.adapts_on_test]
    pages = {
        path: updated(path, tables)
        for path, tables in {
            ROOT / "README.md": {"result": short_leaderboard(ranked)},
            ROOT / "docs" / "explanation" / "results.md": {"leaderboard": leaderboard(ranked)},
        }.items()
    }
    if arguments.check:
        old = [path.name for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
        sys.exit(f"out of date, run benchmarks/leaderboard.py: {', '.join(old)}" if old else 0)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8", newline="\n")
    charts.write_svg(charts.by_year(ranked), PICTURE)


if __name__ == "__main__":
    main()
