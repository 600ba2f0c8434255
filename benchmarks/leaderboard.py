"""The leaderboard in the README, from the records of a real run of `make compare`.

    make compare && python benchmarks/leaderboard.py --run runs/quick    # takes its records, and writes the table
    python benchmarks/leaderboard.py --check                             # whether the table is that of the records

The records lie beside this file, so that every figure of the table has its versions, machine, seed and command.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lmzoo.evaluation.records import read_records, write_records
from lmzoo.report.leaderboard import COLUMNS, rows, static_and_adaptive

ROOT = Path(__file__).parents[1]
README, RECORDS = ROOT / "README.md", ROOT / "benchmarks" / "leaderboard.jsonl"
BEGIN, END = "<!-- leaderboard: benchmarks/leaderboard.py writes it -->\n", "<!-- end of leaderboard -->\n"


def table() -> str:
    """The static species of the records, the best first, in Markdown."""
    static, _ = static_and_adaptive(read_records(RECORDS))
    head = [column.title for column in COLUMNS]
    lines = [head, ["--:" if column.is_number else "---" for column in COLUMNS], *rows(static)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def readme_with_table() -> str:
    """The README with this table between its marks."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description="The leaderboard in the README.")
    parser.add_argument("--run", type=Path, help="a folder of lmzoo compare, whose records are taken first")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the table is another one")
    asked = parser.parse_args()
    if asked.check:
        sys.exit(
            README.read_text(encoding="utf-8") != readme_with_table() and "README: another table than the records'"
        )
    if asked.run:
        write_records(RECORDS, read_records(asked.run / "results.jsonl"))
    README.write_text(readme_with_table(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
