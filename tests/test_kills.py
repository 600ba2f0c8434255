"""A short run of the campaign in benchmarks/faults_kills.py: killed commands lose nothing and leave nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "faults_kills.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_commands_lose_nothing_and_leave_nothing() -> None:
    options = ["--kills", "4", "--seed", "5", "--workers", "2", "--commands", "fit", "compare"]
    ended = subprocess.run([sys.executable, str(PROGRAM), *options], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
