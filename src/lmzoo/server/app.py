"""The web application: creates it, and gives its errors the form of OpenAI's API."""

from __future__ import annotations

from fastapi import FastAPI

from lmzoo.server.models import ServedModels
from lmzoo.system.version import __version__


def create_app(models: ServedModels) -> FastAPI:
    """Returns the application that serves `models`."""
    app = FastAPI(title="lmzoo", version=__version__)
    app.state.models = models

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Answers that the server is running."""
        return {"status": "ok"}

    return app
