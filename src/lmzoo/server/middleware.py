"""Code that runs around every request: its id, its metrics, the API key and further headers of answers."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit
from uuid import uuid4

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmzoo.server.errors import error_body, too_large
from lmzoo.server.metrics import Metrics

_OPEN_PATHS = frozenset({"/healthz"})
"""Paths that need no API key."""


class RequestIds:
    """Gives each answer a header `x-request-id`, and counts requests and times."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid4().hex
        status = 499  # the client has gone away before an answer

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # paths chosen by clients would be endless
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)


class ApiKey:
    """Refuses requests without the right API key, `Authorization: Bearer KEY`."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._expected = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS:
            given = re.match("bearer +(.*)", Headers(scope=scope).get("authorization", ""), re.I)
            key = given[1].strip().encode("latin-1") if given else b""
            if not hmac.compare_digest(key, self._expected):
                body = error_body(
                    "wrong or missing API key: send the header 'Authorization: Bearer KEY'", 401, code="invalid_api_key"
                )
                await JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
        await self._app(scope, receive, send)


class LocalNames:
    """Refuses requests to other host names than localhost, unless they are addresses such as 127.0.0.1.

    A web page can let its own host name lead to this machine (DNS rebinding). The browser then takes the server for a
    part of that web site, whose scripts could read all answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_localhost_or_address(Headers(scope=scope).get("host", "localhost")):
            message = "this server answers at localhost only: open it there, or start it with --host 0.0.0.0"
            await JSONResponse(error_body(message, 403), 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_localhost_or_address(host: str) -> bool:
    """Returns True if the host of a request, with or without a port, is localhost or an IP address."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or bool(ip_address(name))
    except ValueError:
        return False


class BodyLimit:
    """Refuses requests whose header announces a larger body than allowed, with an error in the form of OpenAI's API.

    Bodies without such a header are limited by Starlette's middleware.
    """

    def __init__(self, app: ASGIApp, n_bytes: int) -> None:
        self._app, self._n_bytes = app, n_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        if length.isdecimal() and int(length[:20]) > self._n_bytes:
            error = too_large(self._n_bytes)
            await JSONResponse(error.body, error.status)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class DefaultHeaders:
    """Adds headers to all answers, unless an answer has a header of this name already."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app, self._headers = app, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
