"""The objects that all routes of a server use: its models with their workers, its limits and its metrics."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable
from functools import lru_cache, partial
from threading import Lock
from typing import TypeVar

from fastapi import Request

from lmzoo.errors import UnknownNameError
from lmzoo.predictor import Predictor
from lmzoo.server.batching import Worker
from lmzoo.server.errors import ApiError
from lmzoo.server.limits import Limits
from lmzoo.server.metrics import Metrics
from lmzoo.server.models import ServedModels
from lmzoo.server.scoring import TokenTexts
from lmzoo.tokenizers import Tokenizer

T = TypeVar("T")

SECONDS_BETWEEN_CHECKS = 0.2
"""Time between two checks whether the time for a request is over or the server is ending."""


class ClientGoneError(Exception):
    """Raised in a request whose client has closed the connection; nobody reads its answer."""


class Service:
    """The models of a server, each with a worker."""

    def __init__(self, models: ServedModels, limits: Limits) -> None:
        self.models, self.limits = models, limits
        self.workers: dict[str, Worker] = {}
        self.metrics = Metrics(self.workers)
        self.is_ending = False
        """True when the server is about to end: open requests are then given up."""
        self._lock = Lock()

    def name(self, model: str) -> str:
        """Returns the name of the model that a request names; if it names none, the name of the only model.

        Raises ApiError if no name is given although there are several models, and UnknownNameError for another name.
        """
        names = self.models.names
        if not model:
            if len(names) == 1:
                return names[0]
            raise ApiError(f"name a model in 'model': this server has {', '.join(names)}", param="model")
        if model not in names:
            raise UnknownNameError("model", model, names)
        return model

    def worker(self, model: str) -> Worker:
        """Returns the worker of a model; see `name`."""
        name = self.name(model)
        with self._lock:
            if name not in self.workers:
                self.workers[name] = Worker(name, partial(self.models.get, name), self.limits)
            return self.workers[name]

    def stop(self) -> None:
        """Ends all workers."""
        for worker in self.workers.values():
            worker.stop()


def service_of(request: Request) -> Service:
    """Returns the service of the application that received a request."""
    return request.app.state.service


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Returns the result of `work`, which is cancelled when the client goes away; see `in_time` for other reasons.

    Raises ClientGoneError if the client goes away, and what `in_time` raises.
    """
    task, gone = asyncio.ensure_future(in_time(request, work)), asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def in_time(request: Request, work: Awaitable[T]) -> T:
    """Returns the result of `work`, which is cancelled when the time for a request is over or the server ends.

    Raises ApiError with status 408 in the first case, with status 503 in the second, and what `work` raises.
    """
    service, now = service_of(request), asyncio.get_running_loop().time
    if not hasattr(request.state, "end"):  # the time counts from the first call in a request
        request.state.end = now() + service.limits.request_seconds
    task = asyncio.ensure_future(work)
    try:
        while True:
            if service.is_ending:
                raise ApiError("the server is ending", 503, code="server_ending")
            if now() > request.state.end:
                raise ApiError("the request has taken too long: ask for fewer tokens", 408, code="timeout")
            if (await asyncio.wait({task}, timeout=SECONDS_BETWEEN_CHECKS))[0]:
                return task.result()
    finally:
        task.cancel()


async def _disconnection(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@lru_cache(64)
def token_texts(tokenizer: Tokenizer) -> TokenTexts:
    """Returns the texts of the tokens of a tokenizer."""
    return TokenTexts(tokenizer)


@lru_cache(64)
def fingerprint(predictor: Predictor) -> str:
    """Returns a short hash of a predictor: of its species, settings, tokenizer and origin."""
    origin = [
        predictor.species,
        dict(predictor.settings),
        predictor.tokenizer.fingerprint,
        predictor.provenance.as_dict(),
    ]
    return "fp_" + hashlib.sha256(json.dumps(origin, default=str).encode()).hexdigest()[:12]
