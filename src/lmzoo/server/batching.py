"""The worker of a model: a thread that answers calls and continues all running texts together, token by token.

Only its worker uses a model, so requests never run in the model at the same time. Networks read the next tokens of all
running texts as one batch. A text joins the batch when it arrives and leaves it when it ends or is cancelled. Its
random generator is its own, and compiled kernels compute each row of a batch as if it were alone, so a text gets the
same tokens whatever else is in the batch. Only torch, which reads prompts and the tokens before the kernels are loaded,
may round differently if other texts are in the batch.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmzoo.generation import Decoding
from lmzoo.predictor import Predictor
from lmzoo.server.errors import too_busy
from lmzoo.server.limits import Limits

T = TypeVar("T")

_SECONDS_OF_CALLS = 0.02
"""Time that a worker spends on calls before it continues the running texts by a token."""


@dataclass(eq=False)
class RunningText:
    """A text that a worker continues. Its functions are called in the thread of the worker."""

    prompt_ids: NDArray[np.int32]
    rng: np.random.Generator
    decoding: Decoding
    add_token: Callable[[int, NDArray[np.float64]], bool]
    """Takes a sampled token and the log-probabilities (V,) it was sampled from; returns True if the text ends here."""
    fail: Callable[[Exception], None]
    """Takes the exception that has ended the text."""
    is_cancelled: Callable[[], bool]
    read_prompt: Callable[[], Any] | None = None
    """Returns the state of the model after the prompt; None = that after `prompt_ids` as a document."""
    bias: tuple[NDArray[np.intp], NDArray[np.float64]] | None = None
    """Token ids, and what is added to their log-probabilities before sampling."""

    def sample(self, log_probs: NDArray[np.float64]) -> int:
        """Samples the next token from the log-probabilities (V,) of the model."""
        if self.bias is not None:
            ids, added = self.bias
            log_probs = log_probs.copy()
            log_probs[ids] += added
        return self.decoding.sample(log_probs, self.rng)


@dataclass(eq=False)
class Worker:
    """The thread that uses one model. It starts with the first call, which also loads the model."""

    name: str
    load: Callable[[], Predictor]
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self._calls = queue.SimpleQueue[tuple[Future[Any], Callable[[Predictor], Any]] | None]()
        self._waiting: deque[RunningText] = deque()
        self._running: list[RunningText] = []
        self._states: Sequence[Any] = []  # one for each running text, before `_token_ids` are read
        self._token_ids: list[int] = []
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def n_running(self) -> int:
        """The number of texts that the model is continuing."""
        return len(self._running)

    @property
    def n_waiting(self) -> int:
        """The number of calls and texts that wait for the model."""
        return self._calls.qsize() + len(self._waiting)

    async def call(self, function: Callable[[Predictor], T]) -> T:
        """Returns the result of a function of the predictor, which is called in the thread of the worker.

        Raises ApiError with status 429 if too many calls are waiting, and what loading and the function raise.
        """
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"lmzoo {self.name}", daemon=True)
                self._thread.start()
        if self._calls.qsize() >= self.limits.waiting:
            raise too_busy()
        future: Future[T] = Future()
        self._calls.put((future, function))
        return await asyncio.wrap_future(future)

    def start(self, texts: Sequence[RunningText]) -> None:
        """Adds texts to those that are continued. It must be called in the thread of the worker.

        Raises ApiError with status 429 if too many texts are waiting.
        """
        if len(self._waiting) + len(texts) > self.limits.waiting:
            raise too_busy()
        self._waiting.extend(texts)

    def stop(self, timeout: float = 1.0) -> None:
        """Ends the thread after its current step, and waits for this for at most `timeout` seconds."""
        self._stopped = True
        if self._thread is not None:
            self._calls.put(None)  # wakes a thread that waits for a call
            self._thread.join(timeout)

    # ---- In the thread --------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopped:
            self._answer_calls()
            if self._waiting or self._running:
                try:
                    self._step(self.load())
                except Exception as error:  # a model can raise anything; the thread must live on
                    for text in [*self._running, *self._waiting]:
                        text.fail(error)
                    self._running, self._states, self._token_ids = [], [], []
                    self._waiting.clear()

    def _answer_calls(self) -> None:
        """Answers the calls that are there, for a limited time; waits for one if no text is running."""
        end = None
        while not self._stopped:
            is_busy = self._waiting or self._running
            if is_busy and (self._calls.empty() or (end is not None and time.monotonic() > end)):
                return
            call = self._calls.get()
            end = end or time.monotonic() + _SECONDS_OF_CALLS
            if call is not None:
                self._answer(*call)

    def _answer(self, future: Future[Any], function: Callable[[Predictor], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function(self.load()))
        except Exception as error:
            future.set_exception(error)

    def _step(self, predictor: Predictor) -> None:
        """Continues each running text by one token, after those that are waiting have joined them."""
        model = predictor.model
        kept = [index for index, text in enumerate(self._running) if not text.is_cancelled()]
        if len(kept) < len(self._running):
            self._keep(kept)
        if self._token_ids:
            self._states = model.advance_batch(self._states, self._token_ids)
        if self._waiting and len(self._running) < self.limits.running:
            self._states = [*self._states, *self._joining(predictor)]
        if not self._running:
            self._token_ids = []
            return
        log_probs = model.next_log_probs_batch(self._states)  # (B, V)
        self._token_ids = [text.sample(row) for text, row in zip(self._running, log_probs, strict=True)]
        kept = [
            index
            for index, text in enumerate(self._running)
            if not text.add_token(self._token_ids[index], log_probs[index])
        ]  # fmt: skip
        if len(kept) < len(self._running):
            self._keep(kept)

    def _keep(self, kept: Sequence[int]) -> None:
        """Keeps the running texts with the given indices."""
        self._running = [self._running[index] for index in kept]
        self._states = [self._states[index] for index in kept]
        self._token_ids = [self._token_ids[index] for index in kept]

    def _joining(self, predictor: Predictor) -> list[Any]:
        """Moves texts from those that are waiting to those that are running, and returns their states.

        If their prompts cannot be read, these texts fail, and those that are running already go on.
        """
        texts: list[RunningText] = []
        while self._waiting and len(self._running) + len(texts) < self.limits.running:
            text = self._waiting.popleft()
            if not text.is_cancelled():
                texts.append(text)
        try:
            states = _states_after_prompts(predictor, texts)
        except Exception as error:  # for example a prompt that needs too much memory
            for text in texts:
                text.fail(error)
            return []
        self._running = [*self._running, *texts]
        return states


def _states_after_prompts(predictor: Predictor, texts: Sequence[RunningText]) -> list[Any]:
    """Returns the state of the model after the prompt of each text. Equal prompts are read once."""
    plain = {text.prompt_ids.tobytes(): text.prompt_ids for text in texts if text.read_prompt is None}
    model = predictor.model
    states = dict(zip(plain, model.states_after([model.visible(ids) for ids in plain.values()]), strict=True))
    return [states[text.prompt_ids.tobytes()] if text.read_prompt is None else text.read_prompt() for text in texts]
