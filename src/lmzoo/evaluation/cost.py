"""Costs of using a trained model: time, memory and arithmetic, measured within two seconds for every model."""

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
"""Number of context tokens of the predictions that are timed."""
_MAX_PREDICTIONS, _PREDICTION_SECONDS = 100, 0.15
_WARM_UP_TOKENS, _WARM_UP_SECONDS = 600, 1.0
"""Tokens generated before the clock starts: networks compile kernels for single tokens after they have read 500."""
_MAX_TOKENS, _GENERATION_SECONDS = 2000, 0.3


@dataclass(frozen=True)
class InferenceCost:
    """The costs of using a trained model: prediction time, generation speed, size and arithmetic."""

    predict_seconds: float
    """Median duration of one `predict_distribution` after 100 tokens."""
    generated_per_second: float
    """Number of tokens sampled per second, one after the other."""
    model_bytes: int
    """Size of the learned arrays in bytes."""
    flops_per_token: float | None
    """Floating-point operations of a network's matrix products per token; None for models that are not networks."""


def measure_cost(model: LanguageModel[Any], text: TokenStream) -> InferenceCost:
    """Measures what predictions of a trained model cost: time, generation speed, size and floating-point operations.

    The context of the timed predictions is the beginning of the longest document of `text`. Times depend on this
    machine and on the number of threads of this process.
    """
    return InferenceCost(
        predict_seconds=_predict_seconds(model, _context(text)),
        generated_per_second=_generated_per_second(model),
        model_bytes=sum(array.nbytes for array in model.arrays().values()),
        flops_per_token=model.flops_per_token,
    )


def _context(text: TokenStream) -> NDArray[np.int32]:
    """Returns the first token ids of the longest document of a text, at most 100, without the EOT token."""
    longest = max(text.documents(), key=len)
    return longest[: min(CONTEXT_SIZE, len(longest) - 1)]


def _predict_seconds(model: LanguageModel[Any], context: NDArray[np.int32]) -> float:
    """Returns the median duration, in seconds, of predicting the next token after a context of token ids."""
    model.predict_distribution(context)  # the first call may compile kernels
    times: list[float] = []
    while not times or (len(times) < _MAX_PREDICTIONS and sum(times) < _PREDICTION_SECONDS):
        started = time.perf_counter()
        model.predict_distribution(context)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _generated_per_second(model: LanguageModel[Any]) -> float:
    """Returns the number of tokens that the model samples per second, one document after the other."""
    tokens = _sampled_forever(model)
    _consume(tokens, _WARM_UP_TOKENS, _WARM_UP_SECONDS)
    n_tokens, seconds = _consume(tokens, _MAX_TOKENS, _GENERATION_SECONDS)
    return n_tokens / seconds


def _sampled_forever(model: LanguageModel[Any]) -> Iterator[int]:
    """Yields the token ids of sampled documents, one document after the other, without end."""
    rng = np.random.default_rng(0)
    while True:
        yield from (token.token_id for token in generate(model, rng=rng))


def _consume(tokens: Iterator[int], max_tokens: int, max_seconds: float) -> tuple[int, float]:
    """Takes tokens from an iterator until `max_tokens` tokens are taken or `max_seconds` seconds have passed.

    Takes at least one token. Returns the number of tokens and the seconds that passed.
    """
    started, passed, n_tokens = time.perf_counter(), 0.0, 0
    while n_tokens < max_tokens and passed < max_seconds:
        next(tokens)
        n_tokens += 1
        passed = time.perf_counter() - started
    return n_tokens, passed
