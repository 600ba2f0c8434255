"""The names of saved predictors in the output of commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lmzoo.cli import run
from lmzoo.cli.commands.saved import distinct_names


def test_folders_are_named_as_shortly_as_they_differ(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a/x/m", "b/x/m", "c/n")]
    assert distinct_names([*folders, folders[2]]) == ["a/x/m", "b/x/m", "n", "n"]


def test_a_link_to_itself_is_no_predictor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert run(["evaluate", str(tmp_path / "loop"), "--corpus", "kjv"]) == 1
    assert "no saved predictor in" in capsys.readouterr().err


def test_predictions_are_headed_by_folder(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    homes = [shutil.copytree(saved, tmp_path / name) for name in ("first", "second")]
    options = [option for home in homes for option in ("-p", str(home))]
    assert run(["predict", "The cat", *options]) == 0
    out = capsys.readouterr().out
    assert "first · " in out
    assert "second · " in out
    assert run(["generate", "The cat", *options, "--max-tokens", "2", "--seed", "1"]) == 0
    assert "── second" in capsys.readouterr().out
    assert run(["evaluate", *map(str, homes)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= {"first", "second"}


def test_a_folder_in_place_of_a_species_gets_a_hint(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["compare", "--species", str(saved)], ["fit", str(saved), "--out", "x"]):
        assert run(command) == 2
        error = capsys.readouterr().err
        assert "is a folder, not the name of a species" in error
        assert f"lmzoo evaluate {saved}" in error
