"""The application with pages: headers of all answers, and streams that end when nobody reads them any more."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Semaphore
from typing import Any

import pytest
import requests
from starlette.testclient import TestClient

from lmzoo import Predictor
from lmzoo.playground.pages import add_playground
from lmzoo.server.app import create_app
from lmzoo.server.models import ServedModels
from lmzoo.server.serving import in_background


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("path", ["/", "/healthz", "/playground/tokenizers", "/nothing"])
def test_all_answers_have_the_policy_of_the_pages(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_pages_do_not_change_the_answers_of_the_server(client: TestClient, predictors: dict[str, Predictor]) -> None:
    """Slashes at the end, wrong methods and unknown routes get the same answers with pages as without."""
    body = {"model": "markov", "prompt": "a", "max_tokens": 1, "seed": 1}
    with TestClient(create_app(ServedModels(predictors))) as plain:
        for method, path in (
            ("POST", "/v1/completions/"),
            ("POST", "/tokenize/"),
            ("GET", "/v1/completions"),
            ("POST", "/v1/models"),
            ("POST", "/v1/embeddings"),
            ("POST", "/"),
            ("GET", "/v1/nothing"),
        ):
            answer, expected = (one.request(method, path, json=body) for one in (client, plain))
            varying = {"id": "", "created": 0}
            assert answer.status_code == expected.status_code
            assert answer.json() | varying == expected.json() | varying
    assert client.head("/").status_code == client.get("/views/predict.js").status_code == 200


def test_a_cancelled_stream_frees_its_slot_within_one_token(
    predictors: dict[str, Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model reads a token only when the test lets it, so the server cannot notice the end by sending one."""
    model, permits, asked, read = copy.copy(predictors["markov"].model), Semaphore(0), [], []
    advance = model.advance

    def wait_and_advance(state: Any, token_id: int) -> Any:
        asked.append(token_id)
        permits.acquire()
        read.append(token_id)
        return advance(state, token_id)

    monkeypatch.setattr(model, "advance", wait_and_advance)
    app = create_app(ServedModels({"markov": replace(predictors["markov"], model=model)}), api_key="")
    add_playground(app)
    with in_background(app) as address:
        body = {"prompt": "", "max_tokens": 1000, "logit_bias": {"0": -100}, "stream": True}
        stream = requests.post(f"{address}/v1/completions", json=body, stream=True, timeout=60)
        assert stream.headers["content-security-policy"]
        permits.release()
        pieces = stream.iter_content(16)  # while it is referenced, the connection stays open
        next(pieces)
        wait_until(lambda: len(asked) == 2)  # the model now holds the second token, so the cancellation comes during it
        worker = app.state.service.workers["markov"]
        (text,) = worker._running
        assert not text.is_cancelled()
        stream.close()
        wait_until(text.is_cancelled)
        permits.release()
        wait_until(lambda: worker.n_running == 0)
        assert len(read) == 2
