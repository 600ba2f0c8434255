"""Prompts of requests as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmzoo.predictor import Predictor
from lmzoo.server.errors import ApiError
from lmzoo.server.limits import Limits
from lmzoo.server.schemas import Prompt
from lmzoo.stream import check_ids


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """A prompt as text and as token ids (T,)."""

    text: str
    ids: NDArray[np.int32]


def read_prompts(prompt: Prompt, predictor: Predictor, limits: Limits) -> list[EncodedPrompt]:
    """Returns the prompts of a request, encoded with the tokenizer of the predictor.

    Raises ApiError if there are too many prompts or tokens, and TokenIdError for ids outside the vocabulary.
    """
    encoded = [_encoded(part, predictor) for part in as_several(prompt, limits)]
    check_size(sum(len(one.ids) for one in encoded), limits)
    return encoded


def check_size(n_tokens: int, limits: Limits, param: str = "prompt") -> None:
    """Raises ApiError if a request has more tokens, in its parameter `param`, than allowed."""
    if n_tokens > limits.prompt_tokens:
        raise ApiError(
            f"{param}: at most {limits.prompt_tokens:,} tokens are allowed, got {n_tokens:,} tokens",
            param=param,
            code="context_length_exceeded",
        )


def as_several(prompt: Prompt, limits: Limits) -> Sequence[str | Sequence[int]]:
    """Returns the prompts of a request, each as it was given: as a text or as token ids.

    Raises ApiError if there are too many.
    """
    if isinstance(prompt, str):
        return [prompt]
    if not prompt or isinstance(prompt[0], int):
        return [prompt]  # pyright: ignore[reportReturnType]
    if len(prompt) > limits.prompts:
        raise ApiError(f"a request can have at most {limits.prompts} prompts, got {len(prompt)}", param="prompt")
    return prompt  # pyright: ignore[reportReturnType]


def _encoded(part: str | Sequence[int], predictor: Predictor) -> EncodedPrompt:
    if isinstance(part, str):
        return EncodedPrompt(part, predictor.tokenizer.encode(part))
    ids = np.array(part, np.int32)
    check_ids(ids, predictor.tokenizer.vocab_size)
    return EncodedPrompt(predictor.tokenizer.decode(ids), ids)
