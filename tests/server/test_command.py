"""The command `lmzoo serve`: what it serves and prints, how it ends, and its errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from lmzoo import Predictor
from lmzoo.cli import run
from lmzoo.cli.commands.saved import served
from lmzoo.cli.commands.serve import _announce
from lmzoo.errors import SavedModelError
from lmzoo.models.shipped import shipped_names
from lmzoo.server import serving
from lmzoo.server.models import ServedModels


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_it_serves_until_a_signal_also_with_open_streams(saved: Path) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "lmzoo", "serve", str(saved), "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        facts = json.loads(process.stdout.readline())
        assert facts["models"] == ["markov"]
        body = {"prompt": "The ", "max_tokens": 4096, "n": 64, "logit_bias": {"0": -100}, "stream": True}
        with requests.post(f"{facts['url']}/completions", json=body, stream=True, timeout=60) as stream:
            content = stream.iter_content(16)
            next(content)
            process.send_signal(signal.SIGTERM)
            errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "Serving markov at http://127.0.0.1:" in errors
    assert "base_url=http://127.0.0.1:" in errors
    assert "max_length=32769" in errors
    assert "The server has ended." in errors
    assert "Traceback" not in errors


def test_lm_eval_is_offered_only_for_a_single_model(capsys: pytest.CaptureFixture[str]) -> None:
    """With several models, the route of the tokenizer needs the name of one, which lm-eval does not send."""
    for models, expected in ((["a"], "model=a,base_url=http://x/v1/completions,"), (["a", "b"], "only one model")):
        _announce("http://x", models, 100, as_json=False)
        errors = capsys.readouterr().err
        assert expected in errors
        assert ("base_url" in errors) == (len(models) == 1)


def test_a_port_in_use_is_an_error_in_one_line(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", str(saved), "--port", str(port)]) == 1
    assert f"lmzoo: cannot use port {port} of 127.0.0.1" in capsys.readouterr().err
    assert run(["serve", str(saved), "--host", "nothing.invalid"]) == 1
    assert "cannot serve on host 'nothing.invalid'" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "own"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")])
def test_the_address_can_be_opened(host: str, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Browsers on Windows do not open 0.0.0.0; other computers need the address of this one in the network."""
    with serving.open_socket(host, 0) as opened:
        port = opened.getsockname()[1]
        address = serving.address_of(opened)
    assert address == f"http://{own}:{port}"
    monkeypatch.setattr(socket.socket, "connect", lambda self, place: None)
    monkeypatch.setattr(socket.socket, "getsockname", lambda self: ("10.1.2.3", 9))
    expected = f"http://10.1.2.3:{port}" if host == "0.0.0.0" else None
    assert serving.address_for_others(host, address) == expected
    assert serving.address_for_others("localhost", address) is None


def test_the_missing_extra_is_named(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("lmzoo.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert run(["serve", str(saved)]) == 1
    assert "pip install 'lmzoo[serve]'" in capsys.readouterr().err


def test_the_names_of_what_is_served(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        shutil.copytree(saved, tmp_path / "runs" / "quick" / "predictors" / name)
    monkeypatch.chdir(tmp_path)
    run_folder = Path("runs/quick")
    assert list(served([run_folder])) == ["a", "b"]
    assert list(served([run_folder / "predictors" / "a", saved])) == ["a", "markov"]
    assert set(served([])) == set(shipped_names())
    with pytest.raises(SavedModelError, match="no saved predictor in nothing"):
        served([Path("nothing")])


def test_models_are_loaded_once(saved: Path) -> None:
    models = ServedModels({"markov": saved})
    assert models.get("markov") is models.get("markov")
    assert isinstance(models.get("markov"), Predictor)
