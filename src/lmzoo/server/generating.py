"""Texts on their way from the worker of a model to the answer of a request."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmzoo.generation import Decoding
from lmzoo.server.batching import RunningText
from lmzoo.server.errors import ApiError
from lmzoo.server.limits import Limits
from lmzoo.server.schemas import SamplingRequest
from lmzoo.server.scoring import ScoredToken, scored
from lmzoo.streaming import PieceDecoder, StopStrings

_SECONDS_BETWEEN_PIECES = 0.02
"""Shortest time between two events of a stream: what a model generates meanwhile is sent together."""


class Delta(NamedTuple):
    """The text that one generated token adds to one choice of an answer, with the score of the token."""

    choice: int
    text: str
    token: ScoredToken | None
    """The token, if log-probabilities are asked for."""
    finish_reason: str | None
    """The reason why the choice ends with this token: "stop" or "length"; None = it goes on."""


class Outputs:
    """The deltas of all choices of a request, which a worker hands over to the event loop.

    It must be created in the event loop. With `each_token`, the event loop is woken by every token, though not more
    often than it can send events, else by the end of each choice only.
    """

    def __init__(self, n_choices: int, *, each_token: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._deltas: deque[Delta | Exception] = deque()
        self._each_token = each_token
        self._n_open = n_choices
        self._is_awake = False
        self._next_time = self._loop.time()  # of an event for tokens that end nothing
        self._closed = threading.Event()
        self.n_tokens = 0
        """The number of tokens generated so far."""

    def close(self) -> None:
        """Cancels the texts: the worker drops them before their next token."""
        self._closed.set()

    def is_closed(self) -> bool:
        """Returns True if nobody waits for the texts any more."""
        return self._closed.is_set()

    def put(self, delta: Delta | Exception) -> None:
        """Hands over a delta, or the exception that has ended a text. It may be called from any thread."""
        self._deltas.append(delta)
        try:
            if isinstance(delta, Exception) or delta.finish_reason is not None:
                self._loop.call_soon_threadsafe(self._event.set)
            elif self._each_token and not self._is_awake:
                self._is_awake = True
                self._loop.call_soon_threadsafe(self._wake_soon)
        except RuntimeError:  # the event loop has ended
            self.close()

    def _wake_soon(self) -> None:
        self._loop.call_at(self._next_time, self._event.set)

    async def batches(self) -> AsyncIterator[list[Delta]]:
        """Yields the deltas as they arrive, until all choices have ended; raises the exception of a text that failed.

        When the iteration ends or is given up, the texts are cancelled.
        """
        try:
            while self._n_open:
                await self._event.wait()
                self._event.clear()
                self._is_awake = False
                if deltas := self._arrived():
                    self._next_time = self._loop.time() + _SECONDS_BETWEEN_PIECES
                    yield deltas
        finally:
            self.close()

    def _arrived(self) -> list[Delta]:
        deltas: list[Delta] = []
        while self._deltas:
            delta = self._deltas.popleft()
            if isinstance(delta, Exception):
                raise delta
            self._n_open -= delta.finish_reason is not None
            deltas.append(delta)
        return deltas


class TextWriter:
    """Turns the sampled tokens of a choice into deltas; used in the thread of a worker.

    The text ends with a token in `end_ids`, before the first of the `stop` strings, or after `max_tokens`. With `k`,
    each delta has the token with its log-probability and those of the `k` most likely ones.
    """

    def __init__(
        self,
        choice: int,
        outputs: Outputs,
        decoder: PieceDecoder,
        *,
        stop: Sequence[str],
        end_ids: Collection[int],
        max_tokens: int,
        k: int | None,
    ) -> None:
        self._choice, self._outputs, self._decoder = choice, outputs, decoder
        self._stops = StopStrings(stop)
        self._end_ids, self._left, self._k = end_ids, max_tokens, k

    def add_token(self, token_id: int, log_probs: NDArray[np.float64]) -> bool:
        """Adds a token, sampled from the log-probabilities (V,); returns True if the text has ended."""
        token = None if self._k is None else scored(token_id, log_probs, self._k)
        self._left -= 1
        if token_id in self._end_ids:
            text, reason = self._rest(), "stop"
        else:
            piece = self._decoder.add(token_id)
            text, reason = "" if piece is None else self._stops.add(piece), None
            if not self._left and not self._stops.found:
                text, reason = text + self._rest(), "length"
            if self._stops.found:
                reason = "stop"
        self._outputs.n_tokens += 1
        self._outputs.put(Delta(self._choice, text, token, reason))
        return reason is not None

    def _rest(self) -> str:
        """Returns the text that was held back, when no further token follows."""
        rest = self._decoder.rest()
        text = self._stops.add(rest) if rest else ""
        return text if self._stops.found else text + self._stops.rest()


def continuations(
    body: SamplingRequest,
    outputs: Outputs,
    prompt_ids: NDArray[np.int32],
    new_decoder: Callable[[], PieceDecoder],
    *,
    first_choice: int,
    vocab_size: int,
    end_ids: Collection[int],
    max_tokens: int,
    k: int | None,
    read_prompt: Callable[[], Any] | None = None,
) -> list[RunningText]:
    """Returns the texts with which a request continues a prompt: as many as it asks for, unless it asks for no tokens.

    They are the choices from `first_choice` on. `new_decoder` returns the decoder of one text. `end_ids`, `max_tokens`
    and `k` are explained in `TextWriter`, and `read_prompt` in `RunningText`. Raises ApiError for wrong settings.
    """
    bias = _bias_of(body, vocab_size)
    decoding = Decoding(body.temperature, body.top_k, body.top_p, body.min_p)
    choices = range(first_choice, first_choice + body.n)
    if not max_tokens:
        for choice in choices:
            outputs.put(Delta(choice, "", None, "length"))
        return []
    writers = [
        TextWriter(choice, outputs, new_decoder(), stop=body.stop, end_ids=end_ids, max_tokens=max_tokens, k=k)
        for choice in choices
    ]
    return [
        RunningText(prompt_ids, rng, decoding, writer.add_token, outputs.put, outputs.is_closed, read_prompt, bias)
        for writer, rng in zip(writers, _generators(body.seed, body.n), strict=True)
    ]


def _generators(seed: int | None, n: int) -> list[np.random.Generator]:
    """Returns the random generators of the `n` choices for a prompt.

    The choices for a seed are those of `Predictor.complete` if `n` is 1, and else those of `Predictor.completions`.
    """
    rng = np.random.default_rng(None if seed is None else seed % (1 << 64))
    return [rng] if n == 1 else rng.spawn(n)


def _bias_of(body: SamplingRequest, vocab_size: int) -> tuple[NDArray[np.intp], NDArray[np.float64]] | None:
    """Returns the token ids of `logit_bias` and what is added to their log-probabilities; None if there are none.

    Raises ApiError for keys that are not token ids of the vocabulary.
    """
    if not body.logit_bias:
        return None
    for key in body.logit_bias:
        if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < vocab_size):
            raise ApiError(f"logit_bias: {key[:20]!r} is not a token id from 0 to {vocab_size - 1}", param="logit_bias")
    return np.array([int(key) for key in body.logit_bias]), np.array(list(body.logit_bias.values()))


def check_bounds(body: SamplingRequest, limits: Limits, **others: int) -> None:
    """Raises ApiError if a request asks for more than the limits allow.

    `others` are its values of "logprobs" or "top_logprobs", and of "max_tokens" or "max_completion_tokens".
    """
    largest = {"logprobs": limits.logprobs, "top_logprobs": limits.logprobs}
    bounds: list[tuple[str, int, int]] = [
        *((name, value, largest.get(name, limits.max_tokens)) for name, value in others.items()),
        ("n", body.n, limits.choices),
        ("stop", len(body.stop), limits.stops),
    ]
    for name, value, largest in bounds:
        if value > largest:
            given = "strings, got" if name == "stop" else "is allowed, got"
            raise ApiError(f"{name}: at most {largest:,} {given} {value:,}", param=name)
