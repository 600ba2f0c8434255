"""Tests of `lmzoo corpus`: its tables and its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmzoo import cli
from lmzoo.corpora import added, downloads, list_corpora


@pytest.fixture
def no_corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates a machine without NLTK's data, local copies, downloads, added corpora or a network."""
    import nltk.data
    import requests

    def no_network(*args: Any, **kwargs: Any) -> Any:
        raise requests.ConnectionError

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.delenv("LMZOO_DATA", raising=False)
    monkeypatch.setattr(downloads, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(added, "folder", lambda: tmp_path / "added")
    monkeypatch.setattr(requests, "get", no_network)


@pytest.mark.usefixtures("no_corpora")
def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["corpus", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [card.name for card in list_corpora()]
    assert rows["kjv"]["available"]
    assert {name for name, row in rows.items() if row["available"]} == {"kjv", "source"}
    assert rows["brown"]["specs"] == ["brown", "brown:bengio2003"]

    assert cli.run(["corpus", "list"]) == 0
    out = capsys.readouterr().out
    assert all(card.name in out for card in list_corpora())
    assert "public domain" in out
    assert ":bengio2003" in out


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["corpus", "info", "kjv", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    facts = json.loads(captured.out)
    assert facts["splits"]["test"]["documents"] == 118
    assert facts["near_duplicates"]["test"]["worst"][0]["nearest"] == "Ezra 2"
    assert len(facts["fingerprint"]) == 64
    assert facts["licence"] == "public domain"

    assert cli.run(["corpus", "info", "kjv"]) == 0
    out = capsys.readouterr().out
    for expected in ("every tenth is test", facts["fingerprint"], "398,793", "9.04%", "Nehemiah 7", "Ezra 2"):
        assert expected in out


def test_info_shows_markup_in_names_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"[red]{number}.txt").write_text("the same eight words in every text here " * 2, encoding="utf-8")
    assert cli.run(["corpus", "info", str(tmp_path)]) == 0
    assert "[red]3.txt" in capsys.readouterr().out


@pytest.mark.usefixtures("no_corpora")
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["info", "kjw"], 2, "did you mean 'kjv'"),
        (["info", "no/such/file.txt"], 1, "there is no file or folder no/such/file.txt"),
        (["info", "ptb"], 1, "run `lmzoo corpus fetch ptb`"),
        (["fetch", "ptb", "tinystoris"], 2, "did you mean 'tinystories'"),
        (["fetch", "tinyshakespeare"], 1, "cannot download tinyshakespeare.txt"),
        (["fetch"], 2, ""),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    assert cli.run(["corpus", *arguments, "--json"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.strip().count("\n") == 0


def test_fetch_of_an_available_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["corpus", "fetch", "kjv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "kjv", "size_bytes": 6_841_554, "licence": "public domain"}]
    assert cli.run(["corpus", "fetch", "kjv"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "kjv (6.8 MB) is on this machine" in captured.err
