"""Answers to requests for generated texts, as one object or as a stream of events."""

from __future__ import annotations

import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from fastapi import Request, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel

from lmzoo.errors import LmzooError
from lmzoo.predictor import Predictor
from lmzoo.server.errors import as_api_error
from lmzoo.server.generating import Delta, Outputs
from lmzoo.server.metrics import Metrics
from lmzoo.server.schemas import SamplingRequest, Usage
from lmzoo.server.service import fingerprint, in_time, while_connected

_logger = logging.getLogger("uvicorn.error")
"""The logger to which the web server writes the unexpected exceptions of all other requests, with their tracebacks."""


class Answer(ABC):
    """The answer to a request for generated texts, whose deltas arrive in `outputs`."""

    def __init__(
        self,
        body: SamplingRequest,
        predictor: Predictor,
        outputs: Outputs,
        metrics: Metrics,
        *,
        model: str,
        id_prefix: str,
        n_prompt_tokens: int,
    ) -> None:
        self._include_usage = body.stream_options.include_usage
        self._outputs, self._metrics, self._n_prompt_tokens = outputs, metrics, n_prompt_tokens
        self.head: dict[str, Any] = {
            "id": f"{id_prefix}-{uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint(predictor),
        }
        """The fields that the whole answer and all events of a stream share."""

    @abstractmethod
    def add(self, delta: Delta) -> None:
        """Adds a delta to the texts."""

    @abstractmethod
    def whole(self, usage: Usage) -> BaseModel:
        """Returns the complete answer, after all deltas have been added."""

    @abstractmethod
    def first_events(self) -> Iterable[BaseModel]:
        """Returns the events that come before the first token."""

    @abstractmethod
    def next_event(self, choice: int) -> BaseModel:
        """Returns the event with what has been added to a choice since its last event."""

    @abstractmethod
    def usage_event(self, usage: Usage) -> BaseModel:
        """Returns the event that ends a stream with the number of tokens."""

    async def body(self) -> str:
        """Returns the complete answer as JSON."""
        async for deltas in self._outputs.batches():
            self._add(deltas)
        return self.whole(self._usage()).model_dump_json()

    async def events(self, request: Request) -> AsyncIterator[bytes]:
        """Yields the answer as server-sent events; an error becomes the last of them.

        The web framework gives up the iteration when the client goes away, which cancels the texts.
        """
        batches = self._outputs.batches()
        try:
            for event in self.first_events():
                yield _event(event.model_dump_json())
            while (deltas := await in_time(request, anext(batches, None))) is not None:
                self._add(deltas)
                for choice in sorted({delta.choice for delta in deltas}):
                    yield _event(self.next_event(choice).model_dump_json())
            usage = self._usage()
            if self._include_usage:
                yield _event(self.usage_event(usage).model_dump_json())
        except Exception as error:
            if not isinstance(error, LmzooError):
                _logger.exception("Exception in a stream of %s", request.url.path)
            yield _event(json.dumps(as_api_error(error).body))
        finally:
            self._outputs.close()
        yield _event("[DONE]")

    def _add(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            self.add(delta)

    def _usage(self) -> Usage:
        """Returns the number of tokens, and adds it to the metrics of the server."""
        n_read, n_generated = self._n_prompt_tokens, self._outputs.n_tokens
        self._metrics.prompt_tokens.labels(self.head["model"]).inc(n_read)
        self._metrics.completion_tokens.labels(self.head["model"]).inc(n_generated)
        return Usage(prompt_tokens=n_read, completion_tokens=n_generated, total_tokens=n_read + n_generated)


def _event(data: str) -> bytes:
    return format_sse_event(data_str=data)


async def respond(
    request: Request, outputs: Outputs, starting: Awaitable[Answer], *, stream: bool, headers: Mapping[str, str]
) -> Response:
    """Returns the response with the answer that `starting` gives; after an error, its texts are cancelled."""
    try:
        answer = await while_connected(request, starting)
        if stream:
            return EventSourceResponse(answer.events(request), headers=headers)
        return Response(await while_connected(request, answer.body()), media_type="application/json", headers=headers)
    except BaseException:
        outputs.close()
        raise
