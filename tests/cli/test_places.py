"""Where commands write: names and folders that do not work are told of in one line, before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmzoo.cli import run
from lmzoo.system.files import locked


def ends(command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = run(command)
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("corpus ")]
    assert len(lines) == 1, lines
    return status, lines[0]


def fit(out: Path | str) -> list[str]:
    return ["fit", "unigram", "--corpus", "no-such-file.txt", "--out", str(out)]


def test_two_fits_of_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(tmp_path / "model.checkpoint.safetensors.lock"):
        status, line = ends(fit(tmp_path / "model"), capsys)
    assert status == 2
    assert "another process holds" in line
    assert "wait until it ends, or choose another name" in line


def test_a_fit_leaves_no_lock(corpus_folder: Path, tmp_path: Path) -> None:
    command = [
        "fit",
        "unigram",
        "--corpus",
        str(corpus_folder),
        "--tokenizer",
        "byte",
        "--out",
        str(tmp_path / "model"),
    ]
    assert run(command) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_current_folder_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replacing it, or a folder that contains it, would leave the shell of the user in a folder that is deleted."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path / "sub")
    for out in (".", str(tmp_path), str(tmp_path / "sub"), "new/..", "../link"):
        status, line = ends(fit(out), capsys)
        assert (status, "cannot be replaced by a saved predictor: name a folder inside it" in line) == (2, True)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete the current folder")
@pytest.mark.parametrize("words", [["predict", "a", "-p", "markov"], ["surprisal", __file__, "-p", "markov"]])
def test_a_current_folder_that_was_deleted(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    (tmp_path / "sub").rmdir()
    assert ends(words, capsys) == (1, "lmzoo: the current folder was deleted: change to another folder")


@pytest.mark.parametrize("command", ["fit", "compare"])
def test_out_below_a_file(
    command: str, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "afile").touch()
    out = tmp_path / "afile" / "x"
    words = fit(out) if command == "fit" else ["compare", "--corpus", str(corpus_folder), "--out", str(out)]
    status, line = ends(words, capsys)
    assert status == 1
    assert f"{tmp_path / 'afile'} is a file, not a folder; choose another place" in line


@pytest.mark.parametrize("length", [250, 300])
def test_long_names_are_told_of_before_the_work(
    length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, line = ends(fit(tmp_path / ("x" * length)), capsys)
    assert status == 1
    assert line.endswith("...: File name too long; choose a shorter name")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["compare", "curves", "ladder", "prequential", "report", "convert"])
def test_names_of_300_characters(
    command: str, corpus_folder: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = str(tmp_path / ("x" * 300))
    words = {"report": ["report", long], "convert": ["convert", str(saved), long]}.get(
        command, [command, "--out", long, *([] if command == "ladder" else ["--corpus", str(corpus_folder)])]
    )
    status, line = ends(words, capsys)
    assert status == 1
    assert line.endswith(": File name too long; choose a shorter name")
    assert f"{'x' * 80}..." in line
    assert "[Errno" not in line
