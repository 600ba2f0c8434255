"""HTTP with patience and limits: time-outs, repeated requests, bounded answers, and streams of server-sent events.

A request is sent again, after a growing pause, if the server could not be reached, the connection broke before an
answer began, or the answer was 429 or a temporary server error (500, 502, 503, 504). An answer that has begun is not
asked for again, because it may have been paid for. Redirects are not followed, so the API key reaches no other server.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import sleep
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests

from lmzoo.errors import RemoteError
from lmzoo.interchange.remote.address import KEY_VARIABLES, Address, api_key, without_key
from lmzoo.system.json_files import parse_json
from lmzoo.system.printable import printable
from lmzoo.system.version import __version__

MAX_BYTES = 16 << 20
"""Largest answer, in bytes; a stream counts as one answer."""
LONGEST_PAUSE = 60.0
"""Longest pause between two requests, in seconds; a server that asks for a longer one is not asked again."""
_MAX_ERROR_BYTES = 1 << 16
_MAX_MESSAGE = 300
_BLOCK = 1 << 12
_TEMPORARY = frozenset({429, 500, 502, 503, 504})


class Connection:
    """A connection to one server; all its errors are RemoteErrors of one line that name the URL."""

    def __init__(self, address: Address, *, timeout: tuple[float, float], tries: int) -> None:
        """Creates a connection; nothing is sent yet.

        `timeout` are the seconds to wait for a connection, and for the next bytes of an answer. `tries` is how often a
        request is sent at most.
        """
        self.address, self.timeout, self.tries = address, timeout, tries
        self._session = requests.Session()

    def get(self, route: str) -> str:
        """Returns the body of the answer to a GET request, as text; `route` is appended to the base URL."""
        with self._answer("GET", route, None) as response:
            return self._text(route, self._blocks(route, response, _BLOCK))

    def post(self, route: str, body: dict[str, Any]) -> str:
        """Returns the body of the answer to a POST request with a JSON body, as text."""
        with self._answer("POST", route, body) as response:
            return self._text(route, self._blocks(route, response, _BLOCK))

    def events(self, route: str, body: dict[str, Any]) -> Iterator[str]:
        """Sends a POST request with a JSON body, and yields the data of each server-sent event of the answer.

        Ends at the event `[DONE]`, which is yielded as well, or at the end of the answer.
        """
        with self._answer("POST", route, body) as response:
            kind = response.headers.get("Content-Type", "")
            if not kind.lower().startswith("text/event-stream"):
                raise self.error(route, f"answered without a stream of events (its content type is {one_line(kind)!r})")
            data: list[str] = []
            for line in self._lines(route, response):
                name, _, value = line.partition(":")
                if name == "error":  # llama.cpp of 2024 and before
                    raise self.error(route, f"stopped with an error: {error_message(value)}")
                if name == "data":
                    data.append(value.removeprefix(" "))
                elif not line and data:
                    yield (event := "\n".join(data))
                    if event == "[DONE]":
                        return
                    data = []
            if data == ["[DONE]"]:  # the blank line after it may be missing
                yield data[0]

    def error(self, route: str, message: str) -> RemoteError:
        """Returns an error about this server: the URL, followed by a message."""
        return RemoteError(f"{self.address.url}{route} {message}")

    # ---- Requests -------------------------------------------------------------------------------

    @contextmanager
    def _answer(self, method: str, route: str, body: dict[str, Any] | None) -> Iterator[requests.Response]:
        """A context manager that sends a request, yields the answer, and closes it at the end of the `with` block.

        The request is sent again after temporary errors. Raises RemoteError if the last answer does not have status 200
        or is compressed, or if there is none.
        """
        response = self._send(method, route, body)
        try:
            if response.status_code != 200:
                raise self._refusal(route, response)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise self.error(route, "answered with compressed data, which was not asked for")
            yield response
        finally:
            response.close()

    def _send(self, method: str, route: str, body: dict[str, Any] | None) -> requests.Response:
        """Sends a request until an answer has no temporary error, and returns this answer; its body is not read yet.

        If all `tries` answers have a temporary error, the last one is returned. Raises RemoteError if the server cannot
        be reached, or asks to wait longer than LONGEST_PAUSE.
        """
        for n_tries in range(1, self.tries + 1):
            try:
                response = self._session.request(
                    method,
                    self.address.url + route,
                    json=body,
                    headers={"User-Agent": f"lmzoo/{__version__}", "Accept-Encoding": "identity"},
                    auth=self._authorise,
                    proxies={"no_proxy": "*"} if self.address.is_local else {},  # a proxy would see the API key
                    timeout=self.timeout,
                    allow_redirects=False,
                    stream=True,
                )
            except requests.RequestException as error:
                if n_tries == self.tries or not _is_temporary(error):
                    raise self.error(route, self._reason(error)) from error
                pause = None
            else:
                if n_tries == self.tries or response.status_code not in _TEMPORARY:
                    return response
                pause = _requested_pause(response)
                response.close()
                if pause is not None and pause > LONGEST_PAUSE:
                    raise self.error(route, f"asks to wait {pause:,.0f} s before the next request: try again later")
            sleep(_growing_pause(n_tries) if pause is None else pause)
        raise AssertionError("the last try returns or raises")

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Adds the API key to a request, and returns the request. The key is sent only to an address that may take it.

        This method is passed as `auth`, so that the library `requests` does not look for a password in ~/.netrc.
        """
        if self.address.may_take_key and (key := api_key()):
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    def _refusal(self, route: str, response: requests.Response) -> RemoteError:
        status = response.status_code
        if 300 <= status < 400:
            target = urlsplit(response.headers.get("Location", ""))
            location = urlunsplit((target.scheme, target.netloc.rpartition("@")[2], target.path, "", ""))
            return self.error(
                route, f"redirects to {one_line(location)!r}, which is not followed: give the URL of the server itself"
            )
        hint = ""
        if status in (401, 403):
            hint = f": set the environment variable {KEY_VARIABLES[0]} to a valid API key"
            if not self.address.may_take_key:
                hint = ": no API key was sent, because it is not sent to another machine over http; use https"
        elif status == 404:
            hint = ": the model may be unknown, or the URL wrong (it usually ends in /v1)"
        content = b""
        try:
            for block in response.iter_content(_BLOCK):
                content += block
                if len(content) >= _MAX_ERROR_BYTES:
                    break
        except requests.RequestException:
            pass  # the status says enough
        message = error_message(content.decode(errors="replace"))
        return self.error(route, f"answered HTTP {status}{f' ({message})' if message else ''}{hint}")

    # ---- Answers --------------------------------------------------------------------------------

    def _blocks(self, route: str, response: requests.Response, block_size: int) -> Iterator[bytes]:
        """Yields the body of an answer in blocks; raises RemoteError if it is too large or breaks off."""
        size = 0
        try:
            for block in response.iter_content(block_size):
                size += len(block)
                if size > MAX_BYTES:
                    raise self.error(route, f"answered with more than {MAX_BYTES >> 20} MiB: the rest was not read")
                yield block
        except requests.RequestException as error:
            raise self.error(route, self._reason(error)) from error

    def _text(self, route: str, blocks: Iterable[bytes]) -> str:
        try:
            return b"".join(blocks).decode()
        except UnicodeDecodeError as error:
            raise self.error(route, "answered with bytes that are not UTF-8 text") from error

    def _lines(self, route: str, response: requests.Response) -> Iterator[str]:
        """Yields the lines of an answer, without their ends."""
        # If an answer is not chunked, each block is read until it is full: larger blocks would arrive late.
        is_chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        parts: list[bytes] = []  # of the line that has begun
        for block in self._blocks(route, response, _BLOCK if is_chunked else 1):
            *ends, rest = block.split(b"\n")
            for end in ends:
                parts.append(end)
                yield self._text(route, parts).removesuffix("\r")
                parts = []
            parts.append(rest)
        yield self._text(route, parts)

    def _reason(self, error: requests.RequestException) -> str:
        """Returns a short description of an error of the network."""
        if isinstance(error, requests.exceptions.SSLError):
            return "has no valid certificate, or does not speak https"
        if isinstance(error, requests.ConnectTimeout):
            return f"cannot be reached: no connection within {self.timeout[0]:g} s"
        if isinstance(error, requests.Timeout) or "timed out" in str(error):
            return f"sent nothing for {self.timeout[1]:g} s"
        return "cannot be reached, or the connection was interrupted"


def error_message(text: str) -> str:
    """Returns the message in the body of an error, on one line and without the API key; "" if the body has none.

    Servers send {"error": {"message": ...}}, {"error": ...}, {"message": ...} or {"detail": ...}.
    """
    try:
        value = parse_json(text)
    except ValueError:
        value = "" if text.lstrip().startswith("<") else text
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    return one_line(value if isinstance(value, str) else str(value or ""))


def one_line(text: str) -> str:
    """Shortens a text received from a server for an error message, and returns it on one line, without the API key."""
    line = printable(" ".join(without_key(text).split()), keep="")
    return line if len(line) <= _MAX_MESSAGE else f"{line[:_MAX_MESSAGE]}..."


def _is_temporary(error: requests.RequestException) -> bool:
    """Returns True if a request that failed with this error can succeed later, and the server has not worked on it."""
    is_broken = isinstance(error, requests.ConnectionError) and not isinstance(error, requests.exceptions.SSLError)
    return is_broken or isinstance(error, requests.exceptions.ChunkedEncodingError)


def _growing_pause(n_tries: int) -> float:
    """Returns the pause after `n_tries` requests, in seconds: it doubles each time, and half of it is random."""
    return min(LONGEST_PAUSE, 0.5 * 2 ** (n_tries - 1)) * random.uniform(0.5, 1)


def _requested_pause(response: requests.Response) -> float | None:
    """Returns the seconds that an answer asks to wait in its header Retry-After; None if it does not."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):  # no date, or a date without time zone
        return None
