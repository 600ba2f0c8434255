"""The server under load: cancelled streams, full queues, time limits, many clients, and random requests."""

from __future__ import annotations

import asyncio
import copy
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import requests
from running import RunningServer, StartServer, wait_until
from test_completions import events

from lmzoo import Decoding, Predictor
from lmzoo.server import generating
from lmzoo.server.batching import RunningText, Worker
from lmzoo.server.limits import Limits
from lmzoo.server.service import Service

ENDLESS = {"prompt": "The ", "max_tokens": 4096, "logit_bias": {"0": -100}, "stream": True}
"""Settings of a text that does not end by itself."""


def n_running(service: Service, model: str) -> int:
    return service.workers[model].n_running if model in service.workers else 0


@pytest.fixture
def slow_predictor(markov_predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """A predictor that needs a hundredth of a second for each token."""
    model = copy.copy(markov_predictor.model)
    advance = model.advance

    def slowly(state: Any, token_id: int) -> Any:
        time.sleep(0.01)
        return advance(state, token_id)

    monkeypatch.setattr(model, "advance", slowly)
    return replace(markov_predictor, model=model)


def test_a_cancelled_request_frees_its_slot(start_server: StartServer, slow_predictor: Predictor) -> None:
    server = start_server({"slow": slow_predictor})
    for stream in (True, False):
        with nullcontext() if stream else pytest.raises(requests.exceptions.RequestException):
            response = requests.post(
                f"{server.url}/completions", json={**ENDLESS, "stream": stream}, stream=True, timeout=(5, 1)
            )
            content = response.iter_content(16)
            next(content)
            assert n_running(server.service, "slow") == 1
            response.close()
        wait_until(lambda: n_running(server.service, "slow") == 0)


def test_the_last_token_of_a_stream_is_sent_without_a_pause(
    start_server: StartServer, markov_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "_SECONDS_BETWEEN_PIECES", 1000)
    server = start_server({"markov": markov_predictor})
    body = {"prompt": "The ", "max_tokens": 200, "logit_bias": {"0": -100}, "n": 2, "seed": 0}
    pieces = events(server, "/v1/completions", body)
    texts = ["".join(piece["choices"][0]["text"] for piece in pieces if piece["choices"][0]["index"] == index)
             for index in range(2)]  # fmt: skip
    assert texts == [choice["text"] for choice in server.post("/v1/completions", body).json()["choices"]]


def test_a_full_queue_is_refused_with_a_time_to_wait(start_server: StartServer, slow_predictor: Predictor) -> None:
    server = start_server({"slow": slow_predictor}, limits=Limits(running=1, waiting=2))
    with requests.post(f"{server.url}/completions", json={**ENDLESS, "n": 2}, stream=True, timeout=300) as first:
        content = first.iter_content(16)  # if this iterator ends, so does the connection
        next(content)
        refused = server.post("/v1/completions", {"prompt": "The ", "n": 2})
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert refused.json()["error"]["type"] == "rate_limit_error"
    wait_until(lambda: server.service.workers["slow"].n_waiting == 0)
    assert server.post("/v1/completions", {"prompt": "The ", "max_tokens": 1}).status_code == 200


def test_a_request_that_takes_too_long_is_ended(start_server: StartServer, slow_predictor: Predictor) -> None:
    server = start_server({"slow": slow_predictor}, limits=Limits(request_seconds=0.2))
    late = server.post("/v1/completions", {**ENDLESS, "stream": False})
    assert late.status_code == 408
    stream = server.post("/v1/completions", ENDLESS).text
    assert '"code": "timeout"' in stream
    assert stream.rstrip().endswith("[DONE]")
    wait_until(lambda: n_running(server.service, "slow") == 0)


def test_an_error_of_a_model_ends_its_texts_only(
    start_server: StartServer, markov_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.copy(markov_predictor.model)
    server = start_server({"markov": replace(markov_predictor, model=model)})

    def fail(state: Any, token_id: int) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(model, "advance", fail)
        assert server.post("/v1/completions", {**ENDLESS, "stream": False}).status_code == 500
        assert '"type": "server_error"' in server.post("/v1/completions", ENDLESS).text
    assert server.post("/v1/completions", {"prompt": "The ", "max_tokens": 2}).status_code == 200


def test_an_unexpected_error_is_logged_with_its_cause(
    markov_predictor: Predictor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(states: Any) -> Any:
        raise ValueError("no probabilities")

    model = copy.copy(markov_predictor.model)
    monkeypatch.setattr(model, "next_log_probs_batch", fail)
    for stream in (True, False):
        with closing(RunningServer({"markov": replace(markov_predictor, model=model)})) as server:
            assert "the server has failed" in server.post("/v1/completions", {**ENDLESS, "stream": stream}).text
        assert 'raise ValueError("no probabilities")' in capsys.readouterr().err


def test_a_prompt_that_cannot_be_read_leaves_the_running_texts(markov_predictor: Predictor) -> None:
    worker, failed = Worker("markov", lambda: markov_predictor), []

    def text(name: str, read_prompt: Any = None) -> RunningText:
        return RunningText(
            prompt_ids=np.array([5], np.int32),
            rng=np.random.default_rng(0),
            decoding=Decoding(),
            add_token=lambda token_id, log_probs: False,
            fail=lambda error: failed.append((name, type(error))),
            is_cancelled=lambda: False,
            read_prompt=read_prompt,
        )

    def fail() -> Any:
        raise MemoryError

    for new in (text("running"), text("unreadable", fail), text("later")):
        asyncio.run(worker.call(lambda predictor, new=new: worker.start([new])))
        wait_until(lambda: not worker.n_waiting)
    wait_until(lambda: worker.n_running == 2)
    assert failed == [("unreadable", MemoryError)]
    worker.stop()


def test_many_clients_get_the_answers_of_direct_calls(server: RunningServer, predictors: dict[str, Predictor]) -> None:
    """Valid, malformed and cancelled requests of 64 clients do not influence each other."""
    randomness = random.Random(0)
    expected = {
        (name, seed): predictors[name].complete("The ", seed=seed, max_tokens=10)
        for name in ("markov", "uniform", "transformer")
        for seed in range(5)
    }
    jobs = [randomness.choice(["valid", "valid", "streamed", "malformed", "cancelled"]) for _ in range(128)]

    def do(job: str, name: str, seed: int) -> bool:
        body = {"model": name, "prompt": "The ", "seed": seed, "max_tokens": 10}
        if job == "malformed":
            return server.post("/v1/completions", {**body, "max_tokens": "many"}).status_code == 400
        if job == "cancelled":
            with requests.post(
                f"{server.url}/completions", json={**body, **ENDLESS}, stream=True, timeout=60
            ) as answer:
                return answer.status_code == 200
        if job == "streamed":
            pieces = [piece["choices"][0]["text"] for piece in events(server, "/v1/completions", body)]
            return "".join(pieces) == expected[name, seed]
        return server.post("/v1/completions", body).json()["choices"][0]["text"] == expected[name, seed]

    with ThreadPoolExecutor(64) as pool:
        arguments = [(job, *randomness.choice(list(expected))) for job in jobs]
        assert all(pool.map(lambda one: do(*one), arguments))
    wait_until(lambda: not any(n_running(server.service, name) for name in predictors))


def test_a_text_that_joins_a_batch_does_not_change_the_others(
    server: RunningServer, predictors: dict[str, Predictor]
) -> None:
    """Texts of different lengths and settings, which join and leave the batch of a network at different steps."""
    model = predictors["transformer"]
    lengths = np.random.default_rng(0).integers(1, 40, 24).tolist()
    with ThreadPoolExecutor(24) as pool:
        answers = pool.map(
            lambda job: server.post(
                "/v1/completions",
                {"model": "transformer", "prompt": "x" * job[0], "seed": job[0], "max_tokens": job[1]},
            ).json()["choices"][0]["text"],
            enumerate(lengths),
        )
        for (seed, length), text in zip(enumerate(lengths), answers, strict=True):
            assert text == model.complete("x" * seed, seed=seed, max_tokens=length)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_random_requests_cause_no_server_error(server: RunningServer) -> None:
    """Requests that follow the OpenAPI description of the server, and requests that violate it."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis import GenerationMode
    from schemathesis.core.result import Ok

    schema = schemathesis.openapi.from_url(f"{server.root}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert {"/v1/completions", "/v1/chat/completions", "/v1/distribution"} <= {one.path for one in operations}
    for operation in operations:
        for mode in GenerationMode:

            @settings(
                max_examples=10,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck.__members__.values()),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def answers(case: Any) -> None:
                response = case.call()
                assert response.status_code < 500, response.text
                if response.status_code >= 400:
                    assert "message" in response.json()["error"]

            with suppress(Unsatisfiable):  # a request without parameters cannot violate the description
                answers()
