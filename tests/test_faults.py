"""A short run of the campaign of damaged files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "faults_mutations.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured through /proc")
def test_damaged_files_are_refused_or_read() -> None:
    ended = subprocess.run([sys.executable, PROGRAM, "--cases", "40", "--seed", "1"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counted = json.loads(ended.stdout.splitlines()[-1])
    for kind in ("arpa", "predictor.json", "tokenizer.json", "safetensors", "results.jsonl", "JSONL corpus"):
        assert counted[kind]["refused"] + counted[kind]["accepted"] == 40
