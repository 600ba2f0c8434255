"""Tests lmzoo with the oldest version of each dependency that pyproject.toml allows.

    python benchmarks/oldest_versions.py                                   # the tests below
    python benchmarks/oldest_versions.py tests/models -x                   # other tests, as pytest takes them

The dependencies and most extras are installed from the package index, in a temporary environment: the first number of
each requirement is the version. It ends with the exit status of pytest. On Linux, the package index has PyTorch with
CUDA only, a download of 3 GB; an index of CPU builds that pip is told of, as in the workflow, is preferred.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = [
    "tests/test_conformance.py",
    "tests/test_predictor.py",
    "tests/test_distribution.py",
    "tests/test_generation.py",
    "tests/test_stream.py",
    "tests/tokenizers",
    "tests/evaluation",
    "tests/corpora",
    "tests/neural",
    "tests/experiments/test_compressors.py",
    "tests/experiments/test_result.py",
    "tests/report/test_drawing.py",
    "tests/cli/test_cli.py",
    "tests/cli/test_settings.py",
    "tests/cli/test_tokenize_command.py",
]
"""Tests that reach every dependency and every extra of `EXTRAS`, and need no other program."""
EXTRAS = ("arrow", "data", "pandas", "compressors", "tiktoken", "tensorboard")
"""Extras that are tested. FastAPI and transformers, of other extras, need newer versions of pydantic and tokenizers."""
TOOLS = ("pytest", "pytest-xdist", "hypothesis")


def oldest_versions() -> list[str]:
    """Returns a requirement for the oldest allowed version of each dependency, such as "numpy==1.26"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [requirement for extra in EXTRAS for requirement in project["optional-dependencies"][extra]]
    pinned = set()
    for requirement in [*project["dependencies"], *extras]:
        if requirement.startswith("lmzoo["):
            continue  # an extra of its own
        match = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
        if match is None:
            sys.exit(f"pyproject.toml: expected NAME>=VERSION, got '{requirement}'")
        pinned.add(f"{match[1]}=={match[2]}")
    return sorted(pinned)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *oldest_versions(), *TOOLS], check=True)
        subprocess.run([*install, "--no-deps", "--editable", str(ROOT)], check=True)
        # Old versions warn about what newer ones have changed.
        test = [str(python), "-m", "pytest", "-m", "not slow", "-o", "filterwarnings=", *(sys.argv[1:] or TESTS)]
        sys.exit(subprocess.run(test, cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
