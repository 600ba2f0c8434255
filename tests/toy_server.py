"""A server on this machine with the HTTP interface of OpenAI. It serves a toy model, or replies that a test scripts."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

AFTER_COMMA = {" six": 0.5, " seven": 0.25, "!": 0.125}
AFTER_OTHERS = {",": 0.5, " cat": 0.25, " sat": 0.125}
OTHER = 2**-10
"""Probability that the toy model gives to each other token, so that all surprisals are whole numbers of bits."""


def tokens_of(text: str) -> list[str]:
    return re.findall(r" ?\w+|\W", text)


def predicted(before: str) -> dict[str, float]:
    """Returns the probabilities of the most likely tokens after the token `before`."""
    return AFTER_COMMA if before == "," else AFTER_OTHERS


def bits_of(before: str, token: str) -> float:
    return -math.log2(predicted(before).get(token, OTHER))


@dataclass
class Received:
    """A request that the server received."""

    route: str
    headers: Mapping[str, str]
    body: dict[str, Any]


Reply = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class ToyServer:
    """The server. Each reply in `script` answers one request; after them, the toy model answers."""

    script: list[Reply] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    models: tuple[str, ...] = ("toy",)
    honours_echo: bool = True
    is_shifted: bool = False
    """Pairs each token of an echoed prompt with the prediction after it, as llama-cpp-python can."""
    has_newer_shape: bool = False
    has_usage: bool = True
    start_token: str = ""

    def __post_init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer({})

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def answer(self, body: dict[str, Any]) -> None:
                outer.received.append(Received(self.path, dict(self.headers), body))
                try:
                    (outer.script.pop(0) if outer.script else outer.model_reply(self.path, body))(self)
                except OSError:  # the client has closed the connection
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    # ---- The toy model ------------------------------------------------------------------------------

    def model_reply(self, path: str, body: dict[str, Any]) -> Reply:
        if path == "/v1/models":
            return json_reply({"data": [{"id": name, "object": "model"} for name in self.models]})
        prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        before = tokens_of(prompt)
        tokens = list(before)
        while len(tokens) < len(before) + body["max_tokens"]:
            tokens.append(next(iter(predicted(tokens[-1] if tokens else ""))))
        if body.get("stream"):
            pieces = [{"text": token, "delta": {"content": token}, "finish_reason": None} for token in tokens]
            return events_reply(*({"choices": [piece]} for piece in pieces[len(before) :]), "[DONE]")
        shown = tokens if body.get("echo") and self.honours_echo else tokens[len(before) :]
        first = len(tokens) - len(shown)
        answer: dict[str, Any] = {"choices": [{"text": "".join(shown), "index": 0, "finish_reason": "length"}]}
        if body.get("logprobs"):
            rows = [self.row(tokens, index, body["logprobs"]) for index in range(first, len(tokens))]
            if shown is tokens and self.start_token:
                rows = [(self.start_token, None, None), *rows]
            answer["choices"][0]["logprobs"] = newer(rows) if self.has_newer_shape else older(rows)
        if self.has_usage:
            answer["usage"] = {"prompt_tokens": len(before), "completion_tokens": body["max_tokens"]}
        return json_reply(answer)

    def row(self, tokens: list[str], index: int, k: int) -> tuple[str, float | None, dict[str, float] | None]:
        """Returns a token, its log-probability, and those of the most likely tokens; None for what is unknown."""
        token = tokens[index]
        if index == 0 and not self.start_token:
            return token, None, None
        before = tokens[index] if self.is_shifted and index + 1 < len(tokens) else tokens[index - 1] if index else ""
        top = dict(list(predicted(before).items())[:k])
        return token, math.log(predicted(before).get(token, OTHER)), {name: math.log(p) for name, p in top.items()}


def older(rows: list[tuple[str, float | None, dict[str, float] | None]]) -> dict[str, Any]:
    tokens, log_probs, tops = (list(column) for column in zip(*rows, strict=True))
    offsets = [len("".join(tokens[:index])) for index in range(len(tokens))]
    return {"tokens": tokens, "token_logprobs": log_probs, "top_logprobs": tops, "text_offset": offsets}


def newer(rows: list[tuple[str, float | None, dict[str, float] | None]]) -> dict[str, Any]:
    def entry(token: str, log_prob: float | None) -> dict[str, Any]:
        return {"token": token, "logprob": log_prob, "bytes": list(token.encode())}

    return {
        "content": [
            {**entry(token, log_prob), "top_logprobs": [entry(*pair) for pair in (top or {}).items()]}
            for token, log_prob, top in rows
        ]
    }


# ---- Replies for scripts ----------------------------------------------------------------------------


def reply(status: int, body: bytes, **headers: str) -> Reply:
    """Returns a reply with a status, a body and headers; underscores in the names of headers stand for hyphens."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return send


def json_reply(value: Any, status: int = 200) -> Reply:
    return reply(status, json.dumps(value).encode(), Content_Type="application/json")


def choice_reply(**fields: Any) -> Reply:
    """Returns an answer to a request for a completion, whose only choice has the given fields."""
    return json_reply({"choices": [{"text": "x", **fields}]})


def stream_reply(body: bytes, *, chunked: bool = True) -> Reply:
    """Returns a reply that sends a stream of events, as one chunk or until the connection is closed."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        if chunked:
            handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)
        handler.close_connection = True

    return send


def events_reply(*events: Any, chunked: bool = True) -> Reply:
    """Returns a reply that sends server-sent events; values that are not text are sent as JSON."""
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return stream_reply("".join(f"data: {line}\n\n" for line in lines).encode(), chunked=chunked)
