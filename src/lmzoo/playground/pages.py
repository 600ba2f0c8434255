"""Adds the pages of the playground and their data to the application of a server."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from lmzoo.playground.game import game_router
from lmzoo.playground.inside import inside_router
from lmzoo.playground.models import models_router
from lmzoo.playground.predict import predict_router
from lmzoo.playground.readings import Readings
from lmzoo.playground.surprise import surprise_router
from lmzoo.playground.timeline import timeline_router
from lmzoo.playground.tokens import Tokenizers, tokens_router
from lmzoo.playground.training import Training, training_router
from lmzoo.playground.voting import Ballot, ballot_of, voting_router
from lmzoo.server.middleware import DefaultHeaders

_STATIC = Path(str(files("lmzoo.playground"))) / "static"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Content security policy: pages load nothing from other hosts, and run no code but that of the server's own files."""
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def add_playground(
    app: FastAPI, runs: Sequence[Path] = (), training: Training | None = None, ballot: Ballot | None = None
) -> None:
    """Adds the pages, at /, and the routes from which they get their data, at /playground/, to `app`.

    `runs` are run folders, whose leaderboards and reports are shown. Visitors vote on the replies of the first one that
    has comparisons, as `lmzoo align` makes them, or else on those of `ballot`. `training` fits models while the server
    runs.
    """
    app.add_middleware(DefaultHeaders, headers=_HEADERS)
    app.include_router(models_router(app.state.models))
    app.include_router(predict_router(Readings(app.state.models)))
    app.include_router(inside_router(app.state.models))
    app.include_router(surprise_router(app.state.models))
    app.include_router(game_router(app.state.models))
    app.include_router(voting_router(ballot_of(runs) or ballot))
    app.include_router(timeline_router(runs))
    app.include_router(tokens_router(Tokenizers(app.state.models)))
    app.include_router(training_router(training))

    _serve_files(app)


def _serve_files(app: FastAPI) -> None:
    """Serves the files of the pages at all paths that are not routes.

    A mount at / would also take requests that the routes redirect or refuse, such as those with a slash at the end.
    """
    files_of_pages, not_found = StaticFiles(directory=_STATIC, html=True), app.router.default

    async def file_or_error(scope: Scope, receive: Receive, send: Send) -> None:
        asks_for_file = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        await (files_of_pages if asks_for_file else not_found)(scope, receive, send)

    app.router.default = file_or_error
