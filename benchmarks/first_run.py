"""Measures the first run of a newcomer: `lmzoo compare` with its default settings, in an empty folder.

    python benchmarks/first_run.py [--rounds 3] [--all] [--budget quick]

Every round runs the whole command with a new seed in a temporary folder. The last line is a JSON object with medians
over the rounds. `seconds` is the time from the start of the command to its end, including the report.
`first_leaderboard_seconds` is the time until the first leaderboard is printed, which has four models.
`bits_per_byte` has the loss of each model on the test split. Under the name `together` it has that of the ensemble of
all models that do not adapt to the test text, with gated weights; `together_adaptive` has the others as members, too.
`--all` trains all species. Run nothing else at the same time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmzoo.evaluation.records import EvalRecord, read_lines

_FIRST = "Before the other models are trained"


def measured(options: Sequence[str]) -> dict[str, Any]:
    """Runs `lmzoo compare` with some options in an empty folder, and returns its times and losses."""
    with tempfile.TemporaryDirectory() as folder:
        out, first = Path(folder) / "run", None
        command = [sys.executable, "-m", "lmzoo", "compare", "--out", str(out), *options]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        for line in process.stderr:
            print(line, end="", flush=True)
            if first is None and line.startswith(_FIRST):
                first = time.perf_counter() - started
        if process.wait():
            raise SystemExit(f"{' '.join(command)} failed with exit status {process.returncode}")
        seconds = time.perf_counter() - started
        records = read_lines(out / "results.jsonl", EvalRecord)
        losses = {record.name: record.bits_per_byte for record in records}
        ensemble = json.loads((out / "ensemble.json").read_text(encoding="utf-8"))
        losses["together"] = ensemble["bits_per_byte"]
        losses["together_adaptive"] = ensemble["adaptive_bits_per_byte"]
    return {"seconds": seconds, "first_leaderboard_seconds": first, "bits_per_byte": losses}


def medians(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the median of each value over several rounds, which have the same keys; nested mappings stay nested."""
    return {
        name: medians([one[name] for one in rounds])
        if isinstance(value, Mapping)
        else round(statistics.median(one[name] for one in rounds), 4)
        for name, value in rounds[0].items()
    }


def main() -> None:
    """Runs all rounds and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="train all species")
    parser.add_argument("--budget", default="quick")
    arguments = parser.parse_args()
    options = ["--budget", arguments.budget, *(["--species", "all"] if arguments.all else [])]
    rounds = [measured([*options, "--seed", str(seed)]) for seed in range(arguments.rounds)]
    print(json.dumps(medians(rounds)))


if __name__ == "__main__":
    main()
