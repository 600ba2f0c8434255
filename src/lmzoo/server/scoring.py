"""Scores of prompts, and the tokens of prompts and continuations as text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmzoo.distribution import most_likely
from lmzoo.language_model import LanguageModel
from lmzoo.streaming import PieceDecoder
from lmzoo.tokenizers import Tokenizer

LOWEST = -9999.0
"""The log-probability that is written for probability 0, because JSON has no infinity."""


class ScoredToken(NamedTuple):
    """A token with its log-probability in nats, and those of the most likely tokens at its position."""

    token_id: int
    log_prob: float
    top: list[tuple[int, float]]
    """Pairs (token id, log-probability), most likely first."""


def finite(log_prob: float) -> float:
    """Returns a log-probability as a finite number."""
    return max(float(log_prob), LOWEST)


def scored(token_id: int, log_probs: NDArray[np.floating], k: int) -> ScoredToken:
    """Returns a token with its log-probability among those of all tokens (V,), and with the `k` most likely ones."""
    return ScoredToken(token_id, finite(log_probs[token_id]), top(log_probs, k))


def top(log_probs: NDArray[np.floating], k: int) -> list[tuple[int, float]]:
    """Returns the `k` most likely tokens of log-probabilities (V,), as pairs (token id, log-probability).

    Equally likely tokens are ordered by id.
    """
    ids = most_likely(log_probs, k)
    return list(zip(ids.tolist(), map(finite, log_probs[ids].tolist()), strict=True))


def score(model: LanguageModel[Any], ids: NDArray[np.int32], k: int) -> list[ScoredToken]:
    """Returns the T token ids of a text with their scores and with the `k` most likely tokens at each position.

    The scores are those of `LanguageModel.token_stats`.
    """
    stream = model.checked_stream(ids)
    tokens: list[ScoredToken | None] = [None] * len(stream)
    for positions, block in model.stream_log_probs(stream):
        for position, row in zip(positions.tolist(), block, strict=True):
            tokens[position] = scored(int(stream.ids[position]), row, k)
    return [token for token in tokens if token is not None]


class TokenTexts:
    """The texts of the tokens of a tokenizer, as answers write them.

    A token whose bytes are no whole character is written as in OpenAI's API: `bytes:\\xe3\\x81`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.text_after = lru_cache(1 << 16)(self._text_after)

    def _text_after(self, token_id: int, before: int | None) -> str:
        """Returns the text of a token after the token `before`; None = at the start of a text."""
        data = self._tokenizer.token_bytes(token_id)
        if not data:
            return self._tokenizer.token_text(token_id)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
        if self._tokenizer.lossless:
            return text
        ids = [] if before is None else [before]
        return self._tokenizer.decode([*ids, token_id])[len(self._tokenizer.decode(ids)) :]


class Spelling:
    """Finds the text and the position of each token of a growing text.

    `before` holds ids before the first token, and `offset` the position of this token, in characters.
    """

    def __init__(self, tokenizer: Tokenizer, texts: TokenTexts, before: Sequence[int] = (), offset: int = 0) -> None:
        self._texts = texts
        self._decoder = PieceDecoder(tokenizer, before)
        self._offset = offset
        self.previous: int | None = before[-1] if len(before) else None
        """The id of the token before the next one."""

    def add(self, token_id: int) -> tuple[str, int]:
        """Returns the text of the next token and its position."""
        text, offset = self._texts.text_after(token_id, self.previous), self._offset
        piece = self._decoder.add(token_id) or ""
        if piece.endswith(text):  # before it, there may be replacement characters for earlier bytes
            offset += len(piece) - len(text)
        self._offset += len(piece)
        self.previous = token_id
        return text, offset
