"""The command `lmzoo play`: what it serves, its errors, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from lmzoo import Predictor
from lmzoo.cli import run
from lmzoo.cli.commands import play
from lmzoo.cli.commands.saved import served
from lmzoo.models.shipped import shipped_folder, shipped_names


def test_the_shipped_predictors_are_served_by_default() -> None:
    assert served([]) == {name: shipped_folder() / name for name in shipped_names()}


def test_a_run_folder_stands_for_its_predictors(markov_predictor: Predictor, tmp_path: Path) -> None:
    folders = [markov_predictor.save(tmp_path / "run" / "predictors" / name) for name in ("own", "ngram", "markov")]
    single = markov_predictor.save(tmp_path / "single")
    sources = served([tmp_path / "run", single, Path("unigram")])
    assert list(sources) == ["markov", "ngram", "own", "single", "unigram"]
    assert set(sources.values()) == {*folders, single, shipped_folder() / "unigram"}


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(play, "find_spec", lambda name: None)
    assert run(["play", "unigram"]) == 1
    assert capsys.readouterr().err == (
        "lmzoo: the playground needs the package 'fastapi': pip install 'lmzoo[serve]'\n"
    )


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["play", "unigram", "--port", str(port), "--no-browser"]) == 1
    error = capsys.readouterr().err
    assert f"cannot use port {port} of 127.0.0.1" in error
    assert error.count("\n") == 1


def test_an_unknown_predictor_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["play", "nowhere"]) == 1
    assert "no saved predictor in nowhere" in capsys.readouterr().err


@pytest.mark.slow
def test_models_appear_and_an_interrupt_leaves_nothing_behind(corpus_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lmzoo", "play", "unigram", "--corpus", str(corpus_folder), "--tokenizer", "char"]
    options = ["--port", "0", "--no-browser"]
    environment = {**os.environ, "LMZOO_API_KEY": "secret"}
    with subprocess.Popen(
        [*command, *options], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, line
            assert b"<html" in fetched(found[0])
            with pytest.raises(urllib.error.HTTPError, match="403"):
                fetched(urllib.request.Request(found[0], headers={"Host": "example.org"}))
            while all(fit["state"] != "ready" for fit in json.loads(fetched(f"{found[0]}/playground/training"))):
                time.sleep(0.2)
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() for child in children)
    assert list((tmp_path / "runs").glob("play-*/predictors/*/predictor.json"))


def fetched(address: str | urllib.request.Request) -> bytes:
    with urllib.request.urlopen(address, timeout=120) as response:
        return response.read()
