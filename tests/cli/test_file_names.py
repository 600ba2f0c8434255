"""Names of files are bytes: names that are not UTF-8, or have control characters, are read, printed and saved."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmzoo.cli import run
from lmzoo.corpora import load_corpus
from lmzoo.errors import CorpusError
from lmzoo.system.printable import name_from_text, name_text, printable, printable_json

LATIN = os.fsdecode(b"caf\xe9")
NAMES = {"latin-1": LATIN, "new line": "a\nb", "escape": "\x1b[31mred", "backslash": r"a\xe9"}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")


def test_names_as_text_and_back() -> None:
    assert name_text(LATIN) == r"caf\xe9"
    assert name_from_text(name_text(LATIN)) == LATIN
    assert name_text("half \ud800") == r"half \ud800"
    assert printable(LATIN) == r"caf\xe9"
    assert json.loads(printable_json(json.dumps(LATIN, ensure_ascii=False))) == LATIN
    printable_json(json.dumps(LATIN, ensure_ascii=False)).encode()


@pytest.mark.parametrize(
    "name",
    [pytest.param(NAMES[kind], id=kind, marks=[pytest.mark.slow] if kind != "latin-1" else []) for kind in NAMES],
)
@pytest.mark.usefixtures("undrawn")
def test_a_model_of_a_folder_with_such_names(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / f"texts {name}"
    folder.mkdir()
    for number in range(12):
        (folder / f"{name} {number}.txt").write_text(f"some text with the number {number}", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["lmzoo", "compare", "--corpus", str(folder)])  # it is saved in the records
    assert run(["corpus", "info", str(folder)]) == 0
    made = f"made {name}"
    assert run(["fit", "unigram", "--corpus", f"texts {name}", "--tokenizer", "char", "--out", made]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["corpus", "corpus", "unigram:"], lines
    assert run(["evaluate", made, "--json"]) == 0, "the corpus is found again by its saved name"
    capsys.readouterr()
    assert run(["predict", "a", "-p", made, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictor"] == made
    out = f"run {name}"
    compare = ["compare", "--species", "unigram", "--corpus", str(folder), "--tokenizer", "char", "--out", out]
    assert run(compare) == 0
    assert run(["report", out]) == 0
    assert "\n  unigram:" in capsys.readouterr().err
    for page in Path(out).rglob("*.*"):
        if page.suffix in (".md", ".html", ".csv", ".jsonl", ".json"):
            page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments", [["corpus", "info"], ["fit", "unigram", "--out", "x", "--corpus"], ["tokenize", "--file"]]
)
def test_a_missing_file_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    call = [sys.executable, "-m", "lmzoo", *arguments, b"nothing\xe9.txt"]
    finished = subprocess.run(call, cwd=tmp_path, capture_output=True)
    assert finished.returncode == 1
    assert finished.stderr.startswith(b"lmzoo: ")
    assert rb"nothing\xe9.txt" in finished.stderr
    assert finished.stderr.count(b"\n") == 1


def test_an_imported_model_keeps_its_name(tmp_path: Path) -> None:
    arpa = tmp_path / f"{LATIN}.arpa"
    made = tmp_path / "ngram"
    text = tmp_path / "a.txt"
    text.write_text("some words of a text\n\n" * 40, encoding="utf-8")
    assert run(["fit", "ngram", "--corpus", str(text), "--tokenizer", "word:1", "--out", str(made)]) == 0
    assert run(["convert", str(made), str(arpa)]) == 0
    assert run(["convert", str(arpa), str(tmp_path / LATIN)]) == 0
    described = json.loads((tmp_path / LATIN / "predictor.json").read_text(encoding="utf-8"))
    assert described["provenance"]["source"] == r"caf\xe9.arpa"


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("text", encoding="utf-8")

    def scandir(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(CorpusError, match=r"cannot read .*: Permission denied"):
        load_corpus(tmp_path)


def test_standard_input_and_a_file_give_the_same_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"\xef\xbb\xbfthe cat\r\nsat"
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert run(["tokenize", "-", "-t", "byte", "--json"]) == 0
    assert run(["tokenize", "--file", str(path), "-t", "byte", "--json"]) == 0
    from_input, from_file = map(json.loads, capsys.readouterr().out.splitlines())
    assert from_input == from_file
    assert from_file["n_tokens"] == 11
