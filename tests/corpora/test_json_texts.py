"""Documents in JSON: recognised by their content, one per line, in an array, or printed over several lines."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from corpora_on_disk import PROSE, json_lines, names, texts, write

from lmzoo.corpora import load_corpus
from lmzoo.errors import CorpusError
from lmzoo.system.progress import Progress

THREE = ["one", "two\nlines", "three [3]"]
LAYOUTS = {
    "lines": json_lines(*THREE),
    "lines that end in CR LF": json_lines(*THREE).replace("\n", "\r\n"),
    "lines that end in CR": json_lines(*THREE).replace("\n", "\r"),
    "lines after a mark": "\ufeff" + json_lines(*THREE),
    "array": json.dumps([{"text": text} for text in THREE]),
    "array over many lines": json.dumps([{"id": 1, "text": text} for text in THREE], indent=2),
    "objects over many lines": "\n".join(json.dumps({"text": text}, indent=2) for text in THREE) + "\n",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt", "a", "-"])
def test_every_layout_by_every_door(layout: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / name, LAYOUTS[layout])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LAYOUTS[layout].encode())))
    corpus = load_corpus("-" if name == "-" else path)
    assert texts(corpus) == THREE
    expected = "stdin" if name == "-" else name
    assert names([*corpus.train, *corpus.valid, *corpus.test]) == [f"{expected}:{number}" for number in (1, 2, 3)]


@pytest.mark.skipif(os.name == "nt", reason="no pipes with a name")
def test_a_pipe_with_a_name(tmp_path: Path) -> None:
    path = write(tmp_path / "packed", gzip.compress(json_lines(*THREE).encode()))
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        seen: list[Progress] = []
        assert texts(load_corpus(f"/dev/fd/{process.stdout.fileno()}", seen.append)) == THREE
        assert (seen[-1].done, seen[-1].total) == (path.stat().st_size, None)


@pytest.mark.skipif(os.name == "nt", reason="no pipes with a name")
def test_an_endless_pipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMZOO_MAX_BYTES", "3000000")
    with subprocess.Popen([sys.executable, "-c", "while True: print('endless')"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            with pytest.raises(CorpusError, match=r"/dev/fd/\d+ has more than 3,000,000 bytes"):
                load_corpus(f"/dev/fd/{process.stdout.fileno()}")
        finally:
            process.kill()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs an endless file")
def test_an_endless_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"/dev/zero is not a text file: it has a NUL byte at offset 0"):
        load_corpus("/dev/zero")


@pytest.mark.parametrize(
    "beginning",
    ["[Chapter 1]\n", "[1]\n", '[["a"]]\n', "{\n", "{}\n", '{"id": 1} is no document\n', '["text"]\n', "[" * 50_000],
)
def test_a_text_that_begins_like_json_is_a_text(beginning: str, tmp_path: Path) -> None:
    assert "".join(texts(load_corpus(write(tmp_path / "a.txt", beginning + PROSE)))) == beginning + PROSE


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"data": [{"text": "a"}],\n "id": 1}', r'item 1 has no field "text"; its fields are: data, id'),
        ("a.json", '[{"text": "a"},\n {"body": "b"}]', r'item 2 has no field "text"; its fields are: body'),
        ("a.json", '["a", "b"]', r'item 1 must be an object with a string in "text": a'),
        ("a.json", '[{"text": "a"},\n {"text": "b"]', r"line 2 is not JSON: Expecting ',' delimiter at column 14"),
        ("a.json", "7", r'line 1 must be an object with a string in "text": 7'),
        ("a.jsonl", '{"text": "a"', r"line 1 is not JSON"),
        ("a", '{"body": "b"}\n{"body": "c"}\n', r'line 1 has no field "text"; its fields are: body'),
        ("a", '{"text": "a"}\n{"text": "b"}\n{"text": \n', r"line 3 is not JSON"),
        ("a.jsonl", '{"text": ' + "9" * 5000 + "}", r'line 1 must be an object with a string in "text"'),
    ],
)  # fmt: skip
def test_wrong_json_is_told(name: str, content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=message) as raised:
        load_corpus(write(tmp_path / name, content))
    assert "\n" not in str(raised.value)


def test_the_text_of_null_is_empty_like_that_of_a_missing_value_in_a_table(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": null}\n{"text": "b"}\n{"text": "c"}\n')
    assert texts(load_corpus(path)) == ["a", "b", "c"]
