"""Servers that fail, answer nonsense or misbehave; addresses, and the API key."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from toy_server import Reply, ToyServer, events_reply, json_reply, reply, stream_reply

from lmzoo.errors import ConfigurationError, RemoteError
from lmzoo.interchange.remote import RemoteModel, connection
from lmzoo.interchange.remote.address import Address

KEY = "sk-secret-0123456789"


def model_at(server: ToyServer, **arguments: Any) -> RemoteModel:
    return RemoteModel(f"{server.url}#toy", **arguments)


def error_of(server: ToyServer, *script: Reply, **arguments: Any) -> str:
    """Returns the error of a request that is answered as scripted; it is one line that begins with the URL."""
    server.script = list(script)
    with pytest.raises(RemoteError) as caught:
        model_at(server, **arguments).complete("One")
    return _message(server, caught.value)


def stream_error_of(server: ToyServer, *script: Reply, **arguments: Any) -> tuple[list[str], str]:
    """Returns the pieces of a stream before its error, and the error."""
    server.script = list(script)
    pieces: list[str] = []
    stream = model_at(server, **arguments).stream("One")
    with pytest.raises(RemoteError) as caught:
        pieces.extend(stream)
    return pieces, _message(server, caught.value)


def _message(server: ToyServer, error: RemoteError) -> str:
    message = str(error)
    assert message.startswith(f"{server.url}/completions ")
    assert "\n" not in message
    assert len(message) < 600
    return message.removeprefix(f"{server.url}/completions ")


def silent(handler: BaseHTTPRequestHandler) -> None:
    """Sends nothing for a while."""
    time.sleep(0.5)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection without an answer."""
    handler.close_connection = True


# ---- Temporary errors -------------------------------------------------------------------------------


def test_requests_are_repeated_after_temporary_errors(server: ToyServer, pauses: list[float]) -> None:
    server.script = [json_reply({}, 500), json_reply({}, 503), hang_up, json_reply({}, 429)]
    assert model_at(server).complete("One", max_tokens=1) == ","
    assert len(server.received) == 5
    for pause, longest in zip(pauses, (0.5, 1, 2, 4), strict=True):
        assert longest / 2 <= pause <= longest


def test_the_server_says_how_long_to_wait(server: ToyServer, pauses: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=30), usegmt=True)
    server.script = [reply(429, b"", Retry_After=value) for value in ("7", soon, past, "soon")]
    assert model_at(server).complete("One", max_tokens=1) == ","
    assert pauses[0] == 7
    assert 25 < pauses[1] <= 30
    assert pauses[2] == 0
    assert 2 <= pauses[3] <= 4, "as if it said nothing"


def test_a_server_that_asks_for_too_long_a_pause_is_not_asked_again(server: ToyServer, pauses: list[float]) -> None:
    message = error_of(server, reply(429, b"", Retry_After="3600"))
    assert message == "asks to wait 3,600 s before the next request: try again later"
    assert not pauses


def test_the_number_of_tries_is_limited(server: ToyServer, pauses: list[float]) -> None:
    failure = json_reply({"error": {"message": "out of\nmemory \x1b[31m"}}, 500)
    assert error_of(server, failure, failure, failure, tries=3) == "answered HTTP 500 (out of memory ␛[31m)"
    assert (len(server.received), len(pauses)) == (3, 2)
    assert error_of(server, hang_up, hang_up, tries=2) == "cannot be reached, or the connection was interrupted"


def test_a_server_that_is_not_there(pauses: list[float]) -> None:
    gone = ToyServer()
    gone.close()
    assert error_of(gone, tries=2) == "cannot be reached, or the connection was interrupted"
    assert len(pauses) == 1


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, {"error": {"message": "logprobs must be at most 5"}}, "HTTP 400 (logprobs must be at most 5)"),
        (400, {"object": "error", "message": "too long"}, "HTTP 400 (too long)"),
        (422, {"detail": [{"msg": "no"}]}, "HTTP 422 ([{'msg': 'no'}])"),
        (404, {"error": "no such model"}, "HTTP 404 (no such model): the model may be unknown, or the URL wrong"),
        (401, {}, "HTTP 401: set the environment variable LMZOO_API_KEY to a valid API key"),
        (403, "x" * 100_000, 'HTTP 403 ("xxx'),
    ],
)
def test_refusals_are_final(server: ToyServer, pauses: list[float], status: int, body: Any, message: str) -> None:
    assert message in error_of(server, json_reply(body, status))
    assert (len(server.received), len(pauses)) == (1, 0)


def test_slow_servers(server: ToyServer, pauses: list[float]) -> None:
    def begins(handler: BaseHTTPRequestHandler) -> None:
        events_reply({"choices": [{"text": "a"}]}, chunked=False)(handler)
        handler.wfile.flush()
        time.sleep(0.5)

    assert error_of(server, silent, timeout=(5, 0.1)) == "sent nothing for 0.1 s"
    assert stream_error_of(server, begins, timeout=(5, 0.1)) == (["a"], "sent nothing for 0.1 s")
    assert not pauses, "the server may be working on the answer"


# ---- Answers that cannot be used --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<!DOCTYPE html><title>Hello</title>", "answered with HTML or XML instead of JSON: the URL may be wrong"),
        (b'{"choices": [{"text": "a"', "gave an unusable answer: "),
        (b"", "gave an unusable answer: "),
        (b"[]", "gave an unusable answer: "),
        (b"{}", "gave an unusable answer: the field 'choices' is missing"),
        (b'{"choices": []}', "answered without a choice"),
        (b'{"choices": [{"text": 5}]}', "gave an unusable answer: 'choices.0.text': input should be a valid string"),
        (b'{"choices": [{"text": "a"}], "usage": {"prompt_tokens": -1}}', "a number of tokens is negative"),
        (b'{"choices": [{"text": "a"}], "usage": {"prompt_tokens": 1e99}}', "'usage.prompt_tokens': input should be"),
        (b'{"choices": [{"text": "\xff"}]}', "answered with bytes that are not UTF-8 text"),
        (b"[" * 100_000, "nested more than 64 deep"),
        (b'{"error": {"message": "overloaded"}}', "reported an error: overloaded"),
    ],
)
def test_unusable_answers(server: ToyServer, body: bytes, message: str) -> None:
    assert message in error_of(server, reply(200, body))


def test_answers_have_a_largest_size(server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BYTES", 1 << 20)
    large = b'{"choices": [{"text": "' + b"a" * (1 << 20) + b'"}]}'
    assert error_of(server, reply(200, large)) == "answered with more than 1 MiB: the rest was not read"
    pieces, message = stream_error_of(server, events_reply(*[{"choices": [{"text": "a" * 60_000}]}] * 20))
    assert message == "answered with more than 1 MiB: the rest was not read"
    assert len(pieces) == 17
    compressed = reply(200, large, Content_Encoding="gzip")
    assert error_of(server, compressed) == "answered with compressed data, which was not asked for"


def test_an_answer_that_is_cut_off(server: ToyServer) -> None:
    body = b'{"choices": [{"text": "abc"}]}'
    message = error_of(server, reply(200, body[:20], Content_Length=str(len(body))))
    assert message == "cannot be reached, or the connection was interrupted"
    assert "unusable answer" in error_of(server, reply(200, body[:20]))


# ---- Streams ----------------------------------------------------------------------------------------


def test_a_stream_that_is_cut_off(server: ToyServer) -> None:
    piece = {"choices": [{"text": "a", "finish_reason": None}]}
    incomplete = "ended the stream in the middle of the text: the text is incomplete"
    assert stream_error_of(server, events_reply(piece, piece)) == (["a", "a"], incomplete)
    cut = b'data: {"choices": [{"text": "a"}]}\n\ndata: {"choices": [{"te'
    assert stream_error_of(server, stream_reply(cut)) == (["a"], incomplete)
    assert stream_error_of(server, stream_reply(cut, chunked=False)) == (["a"], incomplete)

    def cut_chunk(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\nfff\r\n%s" % (len(cut), cut, b"rest"))

    assert stream_error_of(server, cut_chunk) == (["a"], "cannot be reached, or the connection was interrupted")


def test_errors_in_a_stream(server: ToyServer) -> None:
    piece = {"choices": [{"text": "a"}]}
    failure = {"error": {"message": "out of memory", "code": 500}}
    assert stream_error_of(server, events_reply(piece, failure)) == (["a"], "reported an error: out of memory")
    older = stream_reply(b'data: {"choices": [{"text": "a"}]}\n\nerror: {"code": 500, "message": "no slot"}\n\n')
    assert stream_error_of(server, older) == (["a"], "stopped with an error: no slot")
    assert "unusable answer" in stream_error_of(server, events_reply(piece, "{nonsense"))[1]
    assert "answered without a stream of events" in stream_error_of(server, json_reply(piece))[1]
    assert "HTTP 400 (no)" in stream_error_of(server, json_reply({"error": "no"}, 400))[1]


def test_all_forms_of_events_are_read(server: ToyServer) -> None:
    body = (
        ": a comment\r\nevent: message\r\nid: 1\r\n"
        'data: {"choices":\r\ndata:[{"text": "Zoë "}]}\r\n\r\n'
        'data: {"choices": []}\n\n\n\n'
        'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n\n'
        'data: {"choices": [{"delta": {"content": "🎉"}, "finish_reason": "stop"}]}\n\n'
    ).encode()
    for end in (b"data: [DONE]\n\n", b"data: [DONE]", b""):  # some servers end without [DONE]
        server.script = [stream_reply(body + end, chunked=not end)]
        assert list(model_at(server).stream("One")) == ["Zoë ", "🎉"]


def test_pieces_arrive_before_the_end_of_the_stream(server: ToyServer) -> None:
    def chunked(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for text in ("a", "b"):
            event = f'data: {{"choices": [{{"text": "{text}", "finish_reason": "stop"}}]}}\n\n'.encode()
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(0.3)
        handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    def unchunked(handler: BaseHTTPRequestHandler) -> None:
        events_reply({"choices": [{"text": "a"}]}, chunked=False)(handler)
        time.sleep(0.3)
        handler.wfile.write(b'data: {"choices": [{"text": "b", "finish_reason": "stop"}]}\n\n')

    for script in (chunked, unchunked):
        server.script = [script]
        stream = model_at(server).stream("One")
        started = time.monotonic()
        assert next(stream) == "a"
        assert time.monotonic() - started < 0.25
        assert list(stream) == ["b"]


# ---- Addresses and keys -----------------------------------------------------------------------------


def test_addresses() -> None:
    address = Address.parse("https://api.example.org/v1/#org/model:7b")
    assert (address.url, address.model) == ("https://api.example.org/v1", "org/model:7b")
    assert Address.parse("http://[::1]:8000").url == "http://[::1]:8000"
    assert Address.parse("http://[::1]:8000").model is None


@pytest.mark.parametrize(
    "text",
    [
        "", "toy", "ftp://host/v1", "file:///etc/passwd", "http://", "http:///v1", "http://host:99999/v1", "//host/v1",
        "http://host:/v1", "http://ho st/v1", "http://host/v1?key=1", "http://host\\x/v1", "http://host/v1\nX: 1#m",
        "http://host/v1#", "http://" + "a" * 3000, "javascript:alert(1)", "http://host/é",
    ],
)  # fmt: skip
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must look like http://127\.0\.0\.1:8000/v1#MODEL") as caught:
        RemoteModel(text)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_passwords_in_addresses_are_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="must not hold a user name or a password") as caught:
        RemoteModel(f"https://user:{KEY}@host/v1#m")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org/v1", True),
        ("HTTPS://example.org/v1", True),
        ("http://127.0.0.1:1/v1", True),
        ("http://127.9.9.9/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]/v1", True),
        ("http://example.org/v1", False),
        ("http://192.168.0.7/v1", False),
        ("http://localhost.example.org/v1", False),
        ("http://127.0.0.1.example.org/v1", False),
        ("http://0.0.0.0/v1", False),
    ],
)
def test_keys_are_sent_encrypted_or_to_this_machine(url: str, expected: bool) -> None:
    assert Address.parse(url).may_take_key is expected


def test_the_key_comes_from_the_environment(server: ToyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    model = model_at(server)

    def sent() -> str | None:
        model.complete("One", max_tokens=1)
        return server.received[-1].headers.get("Authorization")

    assert sent() is None
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert sent() == f"Bearer {KEY}"
    monkeypatch.setenv("LMZOO_API_KEY", "another\n")
    assert sent() == "Bearer another"
    monkeypatch.setenv("LMZOO_API_KEY", "")
    assert sent() is None, "an empty key means that none is sent"
    for wrong in (f"{KEY} and more", f"{KEY}é", f"{KEY}\r\nX-Other: 1"):
        monkeypatch.setenv("LMZOO_API_KEY", wrong)
        with pytest.raises(RemoteError, match=r"^the environment variable LMZOO_API_KEY does not hold") as caught:
            sent()
        assert KEY not in str(caught.value)


def test_redirects_are_not_followed(server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMZOO_API_KEY", KEY)
    other = ToyServer()
    try:
        for status in (301, 302, 303, 307, 308):
            target = other.url.replace("http://", "http://user:pass@") + "/completions?token=1"
            message = error_of(server, reply(status, b"", Location=target))
            assert message == (
                f"redirects to '{other.url}/completions', which is not followed: give the URL of the server itself"
            )
        assert not other.received
    finally:
        other.close()


def test_a_proxy_does_not_see_requests_to_this_machine(server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = ToyServer()
    try:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert model_at(server).complete("One", max_tokens=1) == ","
        assert not proxy.received
    finally:
        proxy.close()


def test_the_key_is_never_shown(
    server: ToyServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LMZOO_API_KEY", KEY)
    caplog.set_level(0)
    echoed = {"error": {"message": f"the key {KEY} is wrong"}}
    assert "the key *** is wrong" in error_of(server, json_reply(echoed, 401))
    assert "the key *** is wrong" in stream_error_of(server, events_reply(echoed))[1]
    assert KEY not in error_of(server, json_reply({"choices": f"{KEY}"}))
    assert KEY not in error_of(server, reply(302, b"", Location=f"http://example.org/{KEY}"))
    model = model_at(server)
    model.complete("One")
    assert KEY not in repr(model)
    assert KEY not in repr(vars(model)) + repr(vars(model._connection)) + repr(vars(model._connection._session))
    assert KEY not in caplog.text
