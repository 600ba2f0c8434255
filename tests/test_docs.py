"""The code on our pages runs, and our pages say what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmzoo.cli import app

ROOT = Path(__file__).parents[1]


def code_blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def test_the_tutorial_builds_a_species(tmp_path: Path) -> None:
    species, *rest = code_blocks("docs/add-a-species.md")
    (tmp_path / "echo_species.py").write_text(species, encoding="utf-8")
    (tmp_path / "use.py").write_text("\n".join(rest), encoding="utf-8")
    finished = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "(" in finished.stdout


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page in ("README.md", "docs/hmmlearn.md") for number in range(len(code_blocks(page)))],
)
def test_code_for_users_runs(page: str, number: int, tmp_path: Path) -> None:
    code = code_blocks(page)[number]
    finished = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_the_readme_names_real_commands() -> None:
    for command in re.findall(r"^lmzoo (\S+)", "\n".join(code_blocks("README.md", "sh")), re.M):
        assert command in list(app), command


def test_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    named = re.findall(r"^make (\w+)", "\n".join(code_blocks("README.md", "sh")), re.M)
    assert named
    assert set(named) <= set(targets)


def test_the_leaderboard_of_the_readme_is_that_of_its_records() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "leaderboard.py"), "--check"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
