"""The routes of tokenizers and distributions, the list of models, health, metrics and the API key."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import requests
from running import RunningServer, StartServer, wait_until

from lmzoo import Predictor
from lmzoo.stream import EOT
from lmzoo.tokenizers.tokenizer import EOT_TEXT


def test_texts_become_ids_and_back(server: RunningServer, predictors: dict[str, Predictor]) -> None:
    text = 'né 日本 <|end of text|> <script>"\x1b[31m\u202e'
    for name, predictor in predictors.items():
        answer = server.post("/tokenize", {"model": name, "prompt": text, "return_token_strs": True}).json()
        assert answer["tokens"] == predictor.tokenizer.encode(text).tolist()
        assert answer["count"] == len(answer["token_strs"]) == len(answer["tokens"])
        assert EOT not in answer["tokens"]
        assert server.post("/tokenize", {"model": name, "content": text}).json()["tokens"] == answer["tokens"]
        assert server.post("/detokenize", {"model": name, "tokens": answer["tokens"]}).json() == {"prompt": text}


def test_the_end_of_text_is_one_token(server: RunningServer) -> None:
    info = server.get("/tokenizer_info", params={"model": "markov"}).json()
    assert info["bos_token"] == info["eos_token"] == EOT_TEXT
    assert info["vocab_size"] == 300
    body = {"model": "markov", "prompt": info["eos_token"], "add_special_tokens": False}
    assert server.post("/tokenize", body).json()["tokens"] == [EOT]


def test_distributions(server: RunningServer, predictors: dict[str, Predictor]) -> None:
    for name, predictor in predictors.items():
        contexts = ["", "The cat"]
        body = {"model": name, "prompt": contexts}
        entries = server.post("/v1/distribution", body).json()["data"]
        binary = server.post("/v1/distribution", body, headers={"Accept": "application/octet-stream"})
        rows = np.frombuffer(binary.content, "<f4").reshape(
            [int(size) for size in binary.headers["x-shape"].split(",")]
        )
        for entry, row, context in zip(entries, rows, contexts, strict=True):
            expected = predictor.predict_distribution(context)
            np.testing.assert_allclose(entry["logprobs"], expected.log_probs, rtol=0, atol=1e-5)
            np.testing.assert_allclose(row, expected.log_probs, rtol=0, atol=1e-5)
            assert entry["entropy"] == pytest.approx(expected.entropy(), abs=1e-5)
        top = server.post("/v1/distribution", {**body, "prompt": [[5]], "top_k": 4}).json()["data"][0]["top"]
        assert [token["id"] for token in top] == [
            token_id for token_id, _ in predictor.predict_distribution([5]).top(4)
        ]


def test_null_stands_for_the_default(uniform_predictor: Predictor) -> None:
    """Clients may write every optional parameter; those that are not set are null."""
    with closing(RunningServer({"uniform": uniform_predictor})) as server:
        for path, required, nulls in (
            ("/tokenize", {"prompt": "a"}, {"content": None, "model": None, "return_token_strs": None}),
            ("/detokenize", {"tokens": [5]}, {"model": None}),
            ("/v1/distribution", {}, {"model": None, "prompt": None, "top_k": None}),
            ("/v1/completions", {"max_tokens": 0}, {"model": None, "stream_options": {"include_usage": None}}),
        ):
            given, plain = server.post(path, {**required, **nulls}), server.post(path, required)
            assert given.status_code == 200, given.text
            varying = {"id": "", "created": 0}
            assert given.json() | varying == plain.json() | varying


def test_too_many_probabilities_are_refused(server: RunningServer) -> None:
    with_limit = server.service.limits.probabilities // 300
    assert with_limit > 256
    response = server.post("/v1/distribution", {"model": "markov", "prompt": ["a"] * 257})
    assert response.status_code == 400


def test_models_health_and_metrics(server: RunningServer, predictors: dict[str, Predictor]) -> None:
    assert server.get("/healthz").json() == {"status": "ok"}
    assert requests.head(f"{server.root}/healthz", timeout=60).status_code == 200
    for path in ("/v1/models", "/v1/models/"):
        assert [model["id"] for model in server.get(path).json()["data"]] == list(predictors)
    assert server.get("/v1/models/nothing").status_code == 404
    assert server.get("/nothing").json()["error"]["message"] == "GET /nothing: Not Found"
    assert server.get("/docs").status_code == 404, "this page of FastAPI would load scripts from another server"
    assert server.get("/v1/completions").status_code == 405
    server.post("/v1/completions", {"model": "uniform", "prompt": "abc", "max_tokens": 5, "logit_bias": {"0": -100}})
    text = server.get("/metrics").text
    assert 'lmzoo_completion_tokens_total{model="uniform"}' in text
    assert 'lmzoo_requests_total{route="/healthz",status="200"}' in text
    wait_until(lambda: 'lmzoo_running_texts{model="uniform"} 0.0' in server.get("/metrics").text)


def test_the_api_key_guards_all_but_the_health(start_server: StartServer, uniform_predictor: Predictor) -> None:
    server = start_server({"uniform": uniform_predictor}, api_key="secret", cors_origins=["https://example.org/"])
    for path in ("/v1/models", "/metrics", "/tokenizer_info", "/openapi.json", "/docs", "/nothing"):
        refused = server.get(path)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert server.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert server.get("/healthz").status_code == 200
    assert server.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200
    allowed = server.get("/healthz", headers={"Origin": "https://example.org"})
    assert allowed.headers["access-control-allow-origin"] == "https://example.org"


def test_the_key_comes_from_the_environment(
    start_server: StartServer, uniform_predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMZOO_API_KEY", "secret")
    server = start_server({"uniform": uniform_predictor}, api_key=None)
    assert server.get("/v1/models").status_code == 401


def test_other_sites_have_no_access_unless_they_are_named(server: RunningServer) -> None:
    assert "access-control-allow-origin" not in server.get("/healthz", headers={"Origin": "https://x.org"}).headers


def test_other_host_names_are_refused_on_this_machine_alone(
    start_server: StartServer, uniform_predictor: Predictor
) -> None:
    """A web site can let its name lead to this machine; its pages must not get answers."""
    server = start_server({"uniform": uniform_predictor}, local_only=True)
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "192.168.1.5"):
        assert server.get("/v1/models", headers={"Host": host}).status_code == 200
    for host in ("example.org", "localhost.example.org:80", "", "a:b:c"):
        refused = server.get("/v1/models", headers={"Host": host})
        assert refused.status_code == 403
        assert "localhost only" in refused.json()["error"]["message"]
