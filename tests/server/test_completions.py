"""The route /v1/completions: continuations, scores, errors."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import numpy as np
import pytest
from running import RunningServer, StartServer

from lmzoo import Predictor
from lmzoo.server.limits import Limits
from lmzoo.stream import EOT
from lmzoo.tokenizers.tokenizer import EOT_TEXT

JSON = {"Content-Type": "application/json"}
NAMES = ("markov", "uniform", "transformer", "chat")


def complete(server: RunningServer, model: str, prompt: Any = "The ", **settings: Any) -> dict[str, Any]:
    response = server.post("/v1/completions", {"model": model, "prompt": prompt, **settings})
    assert response.status_code == 200, response.text
    return response.json()


def events(server: RunningServer, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    text = server.post(path, {**body, "stream": True}).content.decode()
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_text_of_the_predictor(
    server: RunningServer, predictors: dict[str, Predictor], name: str
) -> None:
    predictor = predictors[name]
    for settings in ({}, {"temperature": 0.0}, {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.01}):
        answer = complete(server, name, seed=3, max_tokens=30, **settings)
        assert answer["choices"][0]["text"] == predictor.complete("The ", seed=3, max_tokens=30, **settings)
    several = complete(server, name, ["The ", "A"], seed=4, n=3, max_tokens=20, stop="e")
    texts = [choice["text"] for choice in several["choices"]]
    assert texts == [
        text
        for prompt in ("The ", "A")
        for text in predictor.completions(prompt, n=3, seed=4, max_tokens=20, stop=["e"])
    ]
    assert [choice["index"] for choice in several["choices"]] == list(range(6))


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_model(server: RunningServer, predictors: dict[str, Predictor], name: str) -> None:
    """An echoed prompt has one entry per token, whose first is null, and one more for each generated token."""
    predictor = predictors[name]
    ids = predictor.tokenizer.encode("The cat that I saw.").tolist()
    answer = complete(server, name, [ids, [EOT, *ids]], echo=True, logprobs=2, max_tokens=1, temperature=0)
    for choice, prompt in zip(answer["choices"], ([*ids], [EOT, *ids]), strict=True):
        logprobs = choice["logprobs"]
        stats = predictor.model.token_stats(np.array(prompt))
        assert len(logprobs["tokens"]) == len(prompt) + 1
        assert logprobs["token_logprobs"][0] is logprobs["top_logprobs"][0] is None
        np.testing.assert_allclose(logprobs["token_logprobs"][1:-1], stats.log_probs[1:], rtol=0, atol=1e-5)
        tops = [max(top.values()) for top in logprobs["top_logprobs"][1:-1]]
        np.testing.assert_allclose(tops, stats.top_log_probs[1:], rtol=0, atol=1e-5)
        greedy = [value == top for value, top in zip(logprobs["token_logprobs"][1:], tops, strict=False)]
        assert greedy == (stats.ranks[1:] == 1).tolist() or name == "uniform"
        assert all(2 <= len(top) <= 3 for top in logprobs["top_logprobs"][1:])
        assert choice["text"].startswith("The cat that I saw.")


def test_a_uniform_model_gives_exactly_the_size_of_its_vocabulary(server: RunningServer) -> None:
    choice = complete(server, "uniform", "any", echo=True, logprobs=1, max_tokens=0)["choices"][0]
    assert choice["logprobs"]["token_logprobs"] == [None, *[pytest.approx(-math.log(257), abs=1e-12)] * 2]
    assert choice["text"] == "any"


def test_log_probs_of_generated_tokens_do_not_depend_on_the_settings(
    server: RunningServer, predictors: dict[str, Predictor]
) -> None:
    model = predictors["markov"].model
    answer = complete(server, "markov", [[5]], logprobs=0, seed=1, temperature=0.5, top_p=0.9, max_tokens=12)
    logprobs = answer["choices"][0]["logprobs"]
    ids = complete(
        server, "markov", [[5]], logprobs=0, seed=1, temperature=0.5, top_p=0.9, max_tokens=12,
        return_tokens_as_token_ids=True,
    )["choices"][0]["logprobs"]["tokens"]  # fmt: skip
    ids = [int(token.removeprefix("token_id:")) for token in ids]
    np.testing.assert_allclose(logprobs["token_logprobs"], model.log_probs([5, *ids])[1:], rtol=0, atol=1e-5)
    assert answer["usage"]["completion_tokens"] == len(ids)


def test_echo_logprobs_and_stream_together(server: RunningServer) -> None:
    body = {"model": "markov", "prompt": ["The cat", "A"], "echo": True, "logprobs": 1, "max_tokens": 12, "seed": 5}
    whole = server.post("/v1/completions", body).json()
    pieces = events(server, "/v1/completions", {**body, "stream_options": {"include_usage": True}})
    assert pieces[-1]["choices"] == []
    assert pieces[-1]["usage"] == whole["usage"]
    for choice in whole["choices"]:
        mine = [piece["choices"][0] for piece in pieces[:-1] if piece["choices"][0]["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in mine) == choice["text"]
        for key, values in choice["logprobs"].items():
            assert [value for piece in mine for value in piece["logprobs"][key]] == values
        assert [piece["finish_reason"] for piece in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        tokens, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
        for token, offset in zip(tokens, offsets, strict=True):
            assert token in (EOT_TEXT, choice["text"][offset : offset + len(token)])


def test_characters_of_several_tokens(server: RunningServer) -> None:
    """Parts of characters are written as bytes, and the text is exact."""
    choice = complete(server, "uniform", "né日", echo=True, logprobs=0, max_tokens=0)["choices"][0]
    assert choice["text"] == "né日"
    assert choice["logprobs"]["tokens"] == ["n", *(f"bytes:\\x{byte:02x}" for byte in "é日".encode())]
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 2, 2, 2]
    broken = complete(server, "uniform", [byte + 1 for byte in b"\xe3\xe3ab"], echo=True, logprobs=0, max_tokens=0)
    assert broken["choices"][0]["text"] == "\ufffd\ufffdab"
    assert broken["choices"][0]["logprobs"]["text_offset"] == [0, 0, 2, 3]
    bias = {str(byte + 1): 100 for byte in b"\xe3"}  # the beginning of a character, and never its end
    text = complete(server, "uniform", "", logit_bias=bias, temperature=0, max_tokens=3)["choices"][0]["text"]
    assert text == "\ufffd" * 3


def test_a_bias_changes_the_choice_but_not_the_log_probs(server: RunningServer) -> None:
    plain = complete(server, "markov", temperature=0, logprobs=0, max_tokens=1, return_tokens_as_token_ids=True)
    token = plain["choices"][0]["logprobs"]["tokens"][0].removeprefix("token_id:")
    answer = complete(
        server, "markov", temperature=0, logprobs=0, max_tokens=1, logit_bias={token: -100}
    )["choices"][0]["logprobs"]  # fmt: skip
    assert answer["token_logprobs"][0] < plain["choices"][0]["logprobs"]["token_logprobs"][0]


def test_an_end_of_text_ends_the_choice_and_is_scored(server: RunningServer) -> None:
    choice = complete(server, "markov", logit_bias={str(EOT): 100}, logprobs=1)["choices"][0]
    assert (choice["text"], choice["finish_reason"], choice["logprobs"]["tokens"]) == ("", "stop", [EOT_TEXT])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "markow"}, 404, "did you mean 'markov'"),
        ({}, 400, "name a model in 'model'"),
        ({"model": "markov", "prompt": 5}, 400, "prompt must be a string, a list of"),
        ({"model": "markov", "prompt": [True]}, 400, "prompt must be a string, a list of"),
        ({"model": "markov", "prompt": [300]}, 400, "outside the vocabulary of 300"),
        ({"model": "markov", "prompt": "\ud800"}, 400, "half of a surrogate pair"),
        ({"model": "markov", "prompt": [0] * 40_000}, 400, "40,000 tokens"),
        ({"model": "markov", "prompt": ["a"] * 257}, 400, "at most 256 prompts, got 257"),
        ({"model": "markov", "prompt": ["a"] * 2, "n": 200}, 400, "at most 256 choices are allowed, got 400"),
        ({"model": "markov", "max_tokens": -1}, 400, "max_tokens: input should be greater than or equal to 0"),
        ({"model": "markov", "max_tokens": 10**9}, 400, "max_tokens: at most 4,096"),
        ({"model": "markov", "n": 10**9}, 400, "n: at most 256"),
        ({"model": "markov", "logprobs": 10**9}, 400, "logprobs: at most 100"),
        ({"model": "markov", "temperature": -1}, 400, "temperature"),
        ({"model": "markov", "top_p": 0}, 400, "top_p"),
        ({"model": "markov", "stop": [""]}, 400, "stop"),
        ({"model": "markov", "logit_bias": {"300": 1}}, 400, "'300' is not a token id from 0 to 299"),
        ({"model": "markov", "best_of": 2}, 400, "'best_of' is not supported by this server unless it is equal to 'n'"),
        ({"model": "markov", "best_of": 1, "n": 2}, 400, "unless it is equal to 'n'"),
        ({"model": "markov", "suffix": "x"}, 400, "'suffix' is not supported"),
        ([], 400, "JSON object"),
    ],
)
def test_refused_requests(server: RunningServer, body: Any, status: int, message: str) -> None:
    response = server.post("/v1/completions", body)
    assert response.status_code == status
    error = response.json()["error"]
    assert message in error["message"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


def test_a_refused_parameter_is_named(server: RunningServer) -> None:
    error = server.post("/v1/completions", {"model": "markov", "best_of": 2}).json()["error"]
    assert (error["param"], error["code"]) == ("best_of", "unsupported_parameter")


def test_requests_must_say_that_they_are_json_and_be_uncompressed(server: RunningServer) -> None:
    body = json.dumps({"model": "markov", "max_tokens": 1}).encode()
    gzipped = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    for data, headers, message in (
        (body, {"Content-Type": "text/plain"}, "with the header 'Content-Type: application/json'"),
        (gzip.compress(body), gzipped, "without compression"),
    ):
        response = server.post("/v1/completions", data=data, headers=headers)
        assert response.status_code == 415
        assert message in response.json()["error"]["message"]
    accepted = {"Content-Type": "application/json; charset=utf-8", "Content-Encoding": "identity"}
    assert server.post("/v1/completions", data=body, headers=accepted).status_code == 200


def test_broken_json_and_large_requests(server: RunningServer) -> None:
    for data, status, message in (
        (b"{", 400, "the request is not valid JSON"),
        (b"[" * 100_000, 400, "without deep nesting"),
        (b'{"seed": ' + b"1" * 5000 + b"}", 400, "numbers of thousands of digits"),
        (b'{"prompt": "\xff"}', 400, "send UTF-8 text"),
        (b" " * 9_000_000, 413, "the request has more than 8,388,608 bytes"),
    ):
        response = server.post("/v1/completions", data=data, headers=JSON)
        assert response.status_code == status
        assert message in response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p", "logit_bias"])
def test_numbers_must_be_finite(server: RunningServer, name: str) -> None:
    value = {"5": math.nan} if name == "logit_bias" else math.nan
    data = json.dumps({"model": "markov", name: value})
    error = server.post("/v1/completions", data=data, headers=JSON).json()["error"]
    assert error["param"] == name
    assert error["message"].endswith("input should be a finite number")


def test_large_requests_get_the_same_error_with_and_without_their_size(
    start_server: StartServer, predictors: dict[str, Predictor]
) -> None:
    server = start_server({"markov": predictors["markov"]}, limits=Limits(body_bytes=1000))
    for data in (b" " * 2000, iter([b" " * 2000])):  # an iterator is sent in chunks
        response = server.post("/v1/completions", data=data, headers=JSON)
        assert response.status_code == 413
        assert response.json()["error"]["message"].startswith("the request has more than 1,000 bytes: split it")


def test_settings_that_ask_for_nothing_are_accepted(server: RunningServer) -> None:
    neutral = {
        "best_of": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "suffix": None,
        "user": "me",
        "stop": None,
        "logprobs": False,
    }
    for off in (0, -1):
        choice = complete(server, "markov", seed=1, top_k=off, **neutral)["choices"][0]
        assert choice["text"] == complete(server, "markov", seed=1)["choices"][0]["text"]
        assert choice["logprobs"] is None
    assert len(complete(server, "markov", n=2, best_of=2)["choices"]) == 2
    response = server.post("/v1/completions", {"model": "markov", **neutral, "unknown_field": [1]})
    assert response.status_code == 200
    assert response.headers["x-ignored-fields"] == "unknown_field"
    assert response.headers["x-request-id"]
