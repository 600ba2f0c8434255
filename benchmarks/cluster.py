"""Compares `lmzoo compare` on a Ray cluster with the same command on this computer: its results, and its time.

    python benchmarks/cluster.py [--rounds 3]

Twelve models that are trained quickly are compared with the King James Bible, first by two local processes and then on
a cluster of two nodes with one core each, which both run on this computer. The last line is a JSON object:

    same_records        every model has the same record, except for its times, its memory, its date and its command
    overhead_seconds    time of a node for each of its six models, beyond that of a local process: a median over rounds

Run nothing else at the same time. The first comparison, which compiles code, is not measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from faults_partitions import TwoNodes
from lmzoo.evaluation.records import EvalRecord, read_lines

SPECIES = ("markov", "unigram", "trigram", "ngram")
SEEDS = 3
N_NODES = 2


def compare(out: Path, *options: str) -> float:
    """Runs `lmzoo compare` with some options, and returns its time in seconds."""
    models = ["--species", *SPECIES, "--seeds", str(SEEDS), "--corpus", "kjv"]
    command = [sys.executable, "-m", "lmzoo", "compare", *models, "--out", str(out), *options]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def records(out: Path) -> list[dict[str, Any]]:
    """Returns what the records of a comparison say about the models, sorted by model and seed."""
    found = read_lines(out / "results.jsonl", EvalRecord)
    return [
        {
            name: value
            for name, value in vars(record).items()
            if not name.endswith(("seconds", "per_second", "memory_bytes")) and name not in ("created", "command")
        }
        for record in sorted(found, key=lambda record: (record.name, record.seed))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    overheads, same = [], True
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder) / "first", "--jobs", str(N_NODES))
        nodes = TwoNodes(None)
        try:
            for number in range(rounds):
                here, there = Path(folder) / f"local-{number}", Path(folder) / f"cluster-{number}"
                local = compare(here, "--jobs", str(N_NODES))
                cluster = compare(there, "--cluster", str(nodes.cluster.address))
                overheads.append((cluster - local) * N_NODES / (len(SPECIES) * SEEDS))
                same &= records(here) == records(there)
                print(f"local {local:.1f} s, on the cluster {cluster:.1f} s, {overheads[-1]:.2f} s more for each model")
        finally:
            nodes.cluster.shutdown()
    print(json.dumps({"same_records": same, "overhead_seconds": round(statistics.median(overheads), 2)}))


if __name__ == "__main__":
    main()
