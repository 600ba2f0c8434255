"""Run folders: what a killed run leaves there, and folders that hold something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock

from lmzoo.errors import LmzooError, SavedModelError, UsageError
from lmzoo.experiments.run_folder import open_run, read_request

REQUEST = {"corpus": "toy", "seed": 0}


def test_a_run_that_was_killed_at_its_first_step_starts_again(tmp_path: Path) -> None:
    """A kill before run.json was written leaves a lock file and a temporary folder, which are no other files."""
    (tmp_path / "run.lock").touch()
    (tmp_path / ".lmzoo-abc.tmp").mkdir()
    (tmp_path / ".lmzoo-abc.tmp" / "run.json").write_text("{")
    with open_run(tmp_path, REQUEST):
        assert read_request(tmp_path) == REQUEST
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "run.lock"]
    (tmp_path / "scores" / ".lmzoo-abc.tmp").mkdir(parents=True)
    with open_run(tmp_path, REQUEST):
        assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_of_others_gets_no_lock(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(UsageError, match="holds other files"), open_run(tmp_path, REQUEST):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_in_use_is_not_claimed(tmp_path: Path) -> None:
    """A second run with another request must not replace the request of a run that has just begun."""
    with FileLock(tmp_path / "run.lock"):
        with pytest.raises(UsageError, match="another process is using"), open_run(tmp_path, REQUEST):
            raise AssertionError
        assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", "[" * 100_000])
def test_a_damaged_request_is_told_of(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(SavedModelError, match="damaged"), open_run(tmp_path, REQUEST):
        raise AssertionError


def test_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = r"cannot write .*file/run: .*file is a file, not a folder"
    with pytest.raises(LmzooError, match=message), open_run(tmp_path / "file" / "run", REQUEST):
        raise AssertionError


def test_errors_of_a_run_are_not_taken_for_errors_of_its_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="elsewhere"), open_run(tmp_path, REQUEST):
        raise OSError("elsewhere")
    assert json.loads((tmp_path / "run.json").read_text()) == REQUEST
