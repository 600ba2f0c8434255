"""The route /v1/chat/completions: replies, streams, log-probabilities, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import RunningServer, StartServer
from test_completions import events

from lmzoo import Predictor
from lmzoo.chat.session import ChatPredictor, ChatSession, chat_model
from lmzoo.interchange.huggingface import predictor_to_huggingface

MESSAGES = [{"role": "user", "content": "last word of: light upon waters"}]


def reply(server: RunningServer, messages: Any = MESSAGES, **settings: Any) -> dict[str, Any]:
    response = server.post("/v1/chat/completions", {"model": "chat", "messages": messages, **settings})
    assert response.status_code == 200, response.text
    return response.json()


def test_a_seed_gives_the_reply_of_a_session(server: RunningServer, predictors: dict[str, Predictor]) -> None:
    session = ChatSession(
        ChatPredictor(predictors["chat"]), system="be kind", temperature=0.9, top_p=0.95, max_tokens=20, seed=7
    )
    expected = "".join(session.reply_to(MESSAGES[0]["content"]))
    for role in ("system", "developer"):
        parts = [{"type": "text", "text": "be "}, {"type": "text", "text": "kind"}]
        answer = reply(
            server, [{"role": role, "content": parts}, *MESSAGES], temperature=0.9, top_p=0.95, seed=7,
            max_completion_tokens=20,
        )  # fmt: skip
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": expected, "refusal": None}


def test_a_stream_joins_to_the_whole_reply(server: RunningServer) -> None:
    body = {
        "model": "chat",
        "messages": MESSAGES,
        "seed": 1,
        "n": 2,
        "max_tokens": 15,
        "logprobs": True,
        "top_logprobs": 3,
    }
    whole = server.post("/v1/chat/completions", body).json()
    pieces = events(server, "/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
    assert pieces[-1]["usage"] == whole["usage"]
    assert {piece["object"] for piece in pieces} == {"chat.completion.chunk"}
    for choice in whole["choices"]:
        mine = [piece["choices"][0] for piece in pieces[:-1] if piece["choices"][0]["index"] == choice["index"]]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(piece["delta"]["content"] for piece in mine) == choice["message"]["content"]
        tokens = [token for piece in mine if piece["logprobs"] for token in piece["logprobs"]["content"]]
        assert tokens == choice["logprobs"]["content"]
        assert all(len(token["top_logprobs"]) == 3 for token in tokens)
        assert (
            b"".join(bytes(token["bytes"]) for token in tokens).decode(errors="replace").strip()
            == choice["message"]["content"].strip()
        )
        assert mine[-1]["finish_reason"] == choice["finish_reason"]


def test_log_probs_without_top_log_probs(server: RunningServer) -> None:
    content = reply(server, logprobs=True, max_tokens=3, seed=0)["choices"][0]["logprobs"]["content"]
    assert [token["top_logprobs"] for token in content] == [[]] * len(content)
    assert reply(server, max_tokens=3)["choices"][0]["logprobs"] is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"top_logprobs": 2}, "top_logprobs needs 'logprobs': true"),
        ({"model": "markov"}, "was not trained on conversations"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content"),
        ({"messages": [*MESSAGES, {"role": "system", "content": "x"}]}, "message 2 is by the system"),
        ({"tools": [{"type": "function"}]}, "'tools' is not supported"),
        ({"response_format": {"type": "json_object"}}, "'response_format' is not supported"),
        ({"top_logprobs": 1000}, "top_logprobs: at most 100"),
        ({"max_completion_tokens": 10**6}, "max_completion_tokens: at most 4,096"),
    ],
)
def test_refused_requests(server: RunningServer, body: dict[str, Any], message: str) -> None:
    response = server.post("/v1/chat/completions", {"model": "chat", "messages": MESSAGES, **body})
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_the_parameter_with_too_many_tokens_is_named(server: RunningServer) -> None:
    long = [{"role": "user", "content": "a " * 40_000}]
    for path, body, param in (
        ("/v1/chat/completions", {"messages": long}, "messages"),
        ("/v1/completions", {"prompt": [5] * 40_000}, "prompt"),
        ("/detokenize", {"tokens": [5] * 40_000}, "tokens"),
    ):
        error = server.post(path, {"model": "chat", **body}).json()["error"]
        assert error["param"] == param
        assert error["message"].startswith(f"{param}: at most 32,768 tokens are allowed")
        assert error["code"] == "context_length_exceeded"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_pretrained_chat_model_replies_with_its_own_template(
    start_server: StartServer, corpus_folder: Path, tmp_path: Path
) -> None:
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "window": 64, "training": {"tokens": 2000}}
    fitted = Predictor.fit("gpt2", corpus_folder, tokenizer="bpe:300", device="cpu", **sizes)
    home = predictor_to_huggingface(fitted, tmp_path / "small")
    template = "{% for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}"
    (home / "chat_template.jinja").write_text(template, encoding="utf-8")
    session = ChatSession(chat_model(Predictor.load(home)), max_tokens=8, seed=3)
    expected = "".join(session.reply_to("The cat?"))
    server = start_server({"small": home})
    body = {"messages": [{"role": "user", "content": "The cat?"}], "seed": 3, "max_tokens": 8}
    assert server.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"] == expected
    body["messages"] = [{"role": "user", "content": "The cat? " * 100}]
    refused = server.post("/v1/chat/completions", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "shorten it" in refused.json()["error"]["message"], "a single message cannot be left out"
