"""The web application: creates it from its routes, and gives its errors the form of OpenAI's API."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from lmzoo.server import chat, completions, distribution, tokenizing
from lmzoo.server.errors import ApiError, add_error_handlers
from lmzoo.server.limits import Limits
from lmzoo.server.middleware import ApiKey, BodyLimit, LocalNames, RequestIds
from lmzoo.server.models import ServedModels
from lmzoo.server.service import ClientGoneError, Service, service_of
from lmzoo.system.version import __version__

KEY_VARIABLE = "LMZOO_API_KEY"
"""The environment variable of the API key that clients must send; if it is empty or missing, they need none."""

_STARTED = int(time.time())
_general = APIRouter()


def create_app(
    models: ServedModels,
    *,
    limits: Limits | None = None,
    api_key: str | None = None,
    cors_origins: Sequence[str] = (),
    local_only: bool = False,
) -> FastAPI:
    """Returns the application that serves `models`.

    `limits` are the largest requests that are answered. `api_key` is the key that clients must send; None = the value
    of LMZOO_API_KEY, "" = none. Pages of the web sites `cors_origins` may use the server from a browser. With
    `local_only`, requests without a key must name localhost or an IP address as their host, so that web sites cannot
    make a browser on this machine reach the server under a name of their own.
    """
    limits = limits or Limits()
    service = Service(models, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.stop()

    # FastAPI's own pages about the routes would load scripts from another server.
    app = FastAPI(title="lmzoo", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.models, app.state.service = models, service
    add_error_handlers(app)

    @app.exception_handler(ClientGoneError)
    async def gone(request: Request, error: ClientGoneError) -> Response:
        return Response(status_code=499)  # nobody reads it

    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=limits.body_bytes)
    app.add_middleware(BodyLimit, n_bytes=limits.body_bytes)
    key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
    if key:
        app.add_middleware(ApiKey, key=key)
    elif local_only:
        app.add_middleware(LocalNames)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.rstrip("/") for origin in cors_origins],
            allow_methods=["*"],
            allow_headers=["*"],
        )
    app.add_middleware(RequestIds, metrics=service.metrics)
    for router in (_general, completions.router, chat.router, distribution.router, tokenizing.router):
        app.include_router(router)
    return app


@_general.head("/healthz", include_in_schema=False)
@_general.get("/healthz")
async def health() -> dict[str, str]:
    """Answers that the server is running."""
    return {"status": "ok"}


@_general.get("/metrics")
async def metrics(request: Request) -> Response:
    """Returns counts of requests and tokens in the text format of Prometheus."""
    return Response(service_of(request).metrics.as_text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@_general.get("/v1/models")
@_general.get("/v1/models/", include_in_schema=False)
async def list_models(request: Request) -> dict[str, Any]:
    """Returns the list of models."""
    return {"object": "list", "data": [_model(name) for name in service_of(request).models.names]}


@_general.get("/v1/models/{name:path}")
async def show_model(name: str, request: Request) -> dict[str, Any]:
    """Returns one model of the list."""
    return _model(service_of(request).name(name))


@_general.post("/v1/responses")
async def responses() -> None:
    """Answers that this part of OpenAI's API is not offered."""
    raise ApiError(
        "this server does not have /v1/responses: use /v1/completions, or /v1/chat/completions for chat models", 404
    )


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "lmzoo"}
