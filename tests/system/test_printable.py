"""Text of a corpus, a model or a file name cannot control the terminal."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo import Predictor
from lmzoo.cli import run, terminal
from lmzoo.system.printable import printable, printable_json
from lmzoo.tokenizers import visible

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J \x7f\r\u202egnp.exe"
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Returns a corpus that repeats one line with control characters, and the folder of a model fitted to it."""
    folder = tmp_path_factory.mktemp("hostile")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number in range(30):
        (corpus / f"{number}.txt").write_bytes((f"{HOSTILE}\tx\n" * 3).encode())
    return corpus, Predictor.fit("hmm", corpus, tokenizer="char", n_states=3, n_iterations=2).save(folder / "hmm")


def test_pictures_and_escapes() -> None:
    assert printable("a\x1b[1m\x00\x7f\x9b\u202eb\r\n\tö中") == "a␛[1m␀␡\\x9b\\u202eb␍\n\tö中"
    assert printable("a\nb", keep="") == "a␊b"
    assert visible(" \n\t\x1b") == "␣⏎⇥␛"
    assert visible("") == "∅"


@settings(max_examples=40)
@given(st.text())
def test_printable_leaves_no_command(text: str) -> None:
    shown = printable(text)
    assert not COMMANDS.search(shown)
    assert shown == printable(shown)
    assert shown.count("\n") == text.count("\n")
    line = printable_json(json.dumps(text, ensure_ascii=False))
    assert not COMMANDS.search(line)
    assert json.loads(line) == text


def test_commands_print_text(hostile: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    corpus, home = map(str, hostile)
    for arguments in (
        ["states", home],
        ["states", home, HOSTILE],
        ["states", home, "--sample"],
        ["predict", "\x1b", "-p", home],
        ["tokenize", HOSTILE, "-t", home],
        ["tokenize", HOSTILE, "-t", "word", "--corpus", corpus],
        ["corpus", "info", corpus],
    ):
        for json_too in ([], ["--json"]):
            assert run([*arguments, *json_too]) == 0
            captured = capsys.readouterr()
            assert not COMMANDS.search(captured.out + captured.err), arguments
            assert not json_too or [json.loads(line) for line in captured.out.splitlines()]
            if arguments[0] != "corpus":
                assert "␛" in captured.out or json_too


def test_errors_and_names_are_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "\x1b[2Jlstm"]) == 2
    assert "␛[2Jlstm" in capsys.readouterr().err
    terminal.stdout().print("[bold]a[/bold]\x1b[2J")
    assert capsys.readouterr().out == "a␛[2J\n"


def test_generate_is_raw_for_files_and_harmless_on_terminals(
    hostile: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Predictor.fit("ngram", hostile[0], tokenizer="char").save(tmp_path / "ngram")
    asked = ["generate", HOSTILE[:8], "-p", str(tmp_path / "ngram"), "--temperature", "0"]
    assert run(asked) == 0
    raw = capsys.readouterr().out
    assert raw.startswith(f"{HOSTILE}\tx\n{HOSTILE}\tx\n"), "it has learned its text by heart"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(asked) == 0
    assert capsys.readouterr().out == printable(raw)
