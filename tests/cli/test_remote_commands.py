"""Commands that take a URL in place of the folder of a saved predictor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from toy_server import ToyServer, bits_of, json_reply, tokens_of

from lmzoo.cli import run


@pytest.fixture
def server() -> Iterator[ToyServer]:
    server = ToyServer()
    yield server
    server.close()


def lines(captured: str) -> list[Any]:
    return [json.loads(line) for line in captured.splitlines()]


def test_predictions_show_the_unassigned_probability(
    server: ToyServer, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", "One,", "-k", "2", "-p", f"{server.url}#toy", "-p", str(saved)]) == 0
    out = capsys.readouterr().out
    assert f"toy at {server.url.removeprefix('http://')}" in out
    assert "markov · " in out
    rows = [line.split() for line in out.splitlines()]
    assert any("␣six" in row and "50.0%" in row for row in rows)
    assert any(" ".join(row).endswith("all other tokens 25.0%") for row in rows)
    assert run(["predict", "One,", "-k", "1", "-p", server.url, "--json"]) == 0
    (record,) = lines(capsys.readouterr().out)
    assert record["predictor"] == f"{server.url}#toy"
    assert record["top"] == [{"token": " six", "probability": pytest.approx(0.5)}]
    assert record["unassigned_probability"] == pytest.approx(0.5)
    assert record["entropy_bits"] is None


def test_texts_of_remote_models(server: ToyServer, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--max-tokens", "3", "--seed", "7", "-p", f"{server.url}#toy"]
    assert run(["generate", "One", *options]) == 0
    assert capsys.readouterr().out == "One, six,\n"
    assert server.received[-1].body["seed"] == 7
    assert run(["generate", "One", *options, "--n", "2", "--temperature", "0.5", "--top-p", "0.9", "--json"]) == 0
    assert [record["completion"] for record in lines(capsys.readouterr().out)] == [", six,", ", six,"]
    bodies = [request.body for request in server.received[-2:]]
    assert [(body["seed"], body["temperature"], body["top_p"]) for body in bodies] == [(7, 0.5, 0.9), (8, 0.5, 0.9)]
    assert run(["generate", "One", *options, "-p", str(saved)]) == 0
    out = capsys.readouterr().out
    assert f"── {server.url}#toy\nOne, six,\n" in out
    assert "── markov\n" in out


def test_evaluation_prints_a_row(server: ToyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "The cat, six, seven cat sat!"
    (tmp_path / "text.txt").write_text(text)
    assert run(["evaluate", f"{server.url}#toy", "--corpus", str(tmp_path / "text.txt")]) == 0
    out, err = capsys.readouterr()
    tokens = tokens_of(text)
    bits = sum(bits_of(before, token) for before, token in pairwise(tokens))
    size = len(text) - len("The")
    header, row = out.splitlines()
    assert header.split() == ["model", "bits/byte", "scored", "tokens", "scored", "bytes"]
    figures = [f"{bits / size:.3f}", str(len(tokens) - 1), str(size), "of", str(len(text))]
    assert row.split() == [f"{server.url}#toy", *figures]
    assert "Not scored: 1 token without a log-probability (3 bytes), and the end of each text." in err
    assert "only roughly comparable" in err
    assert run(["evaluate", f"{server.url}#toy", "--corpus", str(tmp_path / "text.txt"), "--json"]) == 0
    (record,) = lines(capsys.readouterr().out)
    assert record["bits_per_byte"] == pytest.approx(bits / size)
    assert (record["model"], record["split"], record["n_bytes"]) == ("toy", "all", len(text))


def test_what_remote_models_cannot_do_is_refused(
    server: ToyServer, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{server.url}#toy"
    for arguments, message in [
        (["predict", "x", "-p", url, "--no-bos"], "--no-bos is for n-gram models only"),
        (["generate", "x", "-p", url, "--top-k", "5"], "--top-k and --min-p are not in the interface"),
        (["generate", "x", "-p", url, "--min-p", "0.5"], "--top-k and --min-p are not in the interface"),
        (["evaluate", url], "name a text with --corpus"),
        (["evaluate", url, "--corpus", "kjv", "--no-bos"], "--no-bos is for n-gram models only"),
        (["evaluate", url, str(saved), "--corpus", "kjv"], "evaluate them in a separate command"),
        (["predict", "x", "-p", "http://user:pass@host/v1#m"], "must not hold a user name or a password"),
    ]:
        assert run(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    assert not server.received


def test_errors_of_a_server_are_one_line(server: ToyServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.script = [json_reply({"error": {"message": "no\nsuch model"}}, 404)]
    assert run(["predict", "x", "-p", f"{server.url}#other"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"lmzoo: {server.url}/completions answered HTTP 404 (no such model): ")
    assert len(error.splitlines()) == 1
