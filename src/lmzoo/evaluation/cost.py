"""What a fitted predictor costs its user: time, memory, arithmetic. Measured in two seconds, whatever the species."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lmzoo.generation import generate
from lmzoo.language_model import LanguageModel
from lmzoo.stream import TokenStream

CONTEXT_SIZE: Final = 100
"""Tokens before a prediction whose time is taken."""
_MOST_PREDICTIONS, _SECONDS_OF_PREDICTIONS = 100, 0.3
_MOST_FIRST_TOKENS, _SECONDS_OF_FIRST_TOKENS = 600, 1.0
"""Drawn before the clock starts: networks load kernels for single tokens once they have read 500."""
_MOST_TOKENS, _SECONDS_OF_TOKENS = 2000, 0.5


@dataclass(frozen=True)
class Cost:
    """Named as in `EvalRecord`, which says more."""

    predict_seconds: float
    generated_per_second: float
    model_bytes: int
    flops_per_token: float | None


def measure_cost(model: LanguageModel[Any], text: TokenStream) -> Cost:
    """The cost of a fitted model that reads the beginning of the longest document of a text.

    Times are those of this machine and of the threads that this process has.
    """
    return Cost(
        predict_seconds=_predict_seconds(model, _context(text)),
        generated_per_second=_generated_per_second(model),
        model_bytes=sum(array.nbytes for array in model.arrays().values()),
        flops_per_token=model.flops_per_token,
    )


def _context(text: TokenStream) -> NDArray[np.int32]:
    """The first ids of the longest document, without its end."""
    longest = max(text.documents(), key=len)
    return longest[: min(CONTEXT_SIZE, len(longest) - 1)]


def _predict_seconds(model: LanguageModel[Any], context: NDArray[np.int32]) -> float:
    """The median time of a prediction from nothing but the ids before it."""
    model.predict_distribution(context)  # the first one may load what the others use
    times: list[float] = []
    while not times or (len(times) < _MOST_PREDICTIONS and sum(times) < _SECONDS_OF_PREDICTIONS):
        started = time.perf_counter()
        model.predict_distribution(context)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _generated_per_second(model: LanguageModel[Any]) -> float:
    """Tokens drawn a second, of one text after the other."""
    drawn = _endless(model)
    _draw(drawn, _MOST_FIRST_TOKENS, _SECONDS_OF_FIRST_TOKENS)
    n_tokens, seconds = _draw(drawn, _MOST_TOKENS, _SECONDS_OF_TOKENS)
    return n_tokens / seconds


def _endless(model: LanguageModel[Any]) -> Iterator[int]:
    rng = np.random.default_rng(0)
    while True:
        yield from (token.token_id for token in generate(model, rng=rng))


def _draw(tokens: Iterator[int], most: int, seconds: float) -> tuple[int, float]:
    """Draws at least one token, and no more when the time is up; how many they were, and how long it took."""
    started, passed, n_tokens = time.perf_counter(), 0.0, 0
    while n_tokens < most and passed < seconds:
        next(tokens)
        n_tokens += 1
        passed = time.perf_counter() - started
    return n_tokens, passed
