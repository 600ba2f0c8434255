"""Adds the pages of the playground and their data to the application of a server."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import vl_convert
from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import RequestResponseEndpoint

from lmzoo.playground.training import Training, training_router

_STATIC = Path(str(files("lmzoo.playground"))) / "static"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Content security policy: pages load nothing from other hosts, and run no code but that of the server's own files."""


def add_playground(app: FastAPI, training: Training | None = None) -> None:
    """Adds the pages, at /, and the routes from which they get their data, at /playground/, to `app`.

    `training` fits models while the server runs.
    """

    @app.middleware("http")
    async def protect(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        return response

    @app.get("/vega.js", include_in_schema=False)
    def vega() -> Response:
        """Returns Vega, Vega-Lite and Vega-Embed as one JavaScript file."""
        return Response(vl_convert.javascript_bundle(), media_type="text/javascript")

    app.include_router(training_router(training))

    app.mount("/", StaticFiles(directory=_STATIC, html=True), name="playground")
