"""The answers of OpenAI-compatible servers: their types, and the scored tokens that they hold.

Log-probabilities come in two shapes, and both are read wherever they occur. The older one, of `/v1/completions`, has
four parallel lists: `tokens`, `token_logprobs`, `top_logprobs` and `text_offset`. The newer one, of
`/v1/chat/completions` (and of both routes in llama.cpp), has a list `content` with an object for each token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ROUNDING = 1e-3
"""Largest excess over 1 of a probability, or of a sum of probabilities, that is taken for a rounding error."""
UNKNOWN = -9999.0
"""The log-probability that some servers write for a token whose probability they do not know, or that is 0."""


@dataclass(frozen=True)
class TopToken:
    """A token with its log-probability, in nats."""

    token: str
    logprob: float


@dataclass(frozen=True)
class ContentToken:
    """A token of the text, in the newer shape, with the most likely tokens at its position."""

    token: str
    logprob: float
    top_logprobs: list[TopToken] | None = None


@dataclass(frozen=True)
class Logprobs:
    """Log-probabilities in either shape; the fields of the other shape are None."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    content: list[ContentToken] | None = None


@dataclass(frozen=True)
class Message:
    """A message of a chat, or a piece of one in a stream."""

    content: str | None = None


@dataclass(frozen=True)
class Choice:
    """One continuation of a prompt or of a chat, or a piece of one in a stream."""

    text: str | None = None
    message: Message | None = None
    delta: Message | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None

    @property
    def content(self) -> str:
        """The text of the continuation, or of this piece of it; "" if there is none."""
        message = self.message or self.delta
        return self.text or (message and message.content) or ""


@dataclass(frozen=True)
class Usage:
    """The number of tokens of a request and of its answer, as the server counts them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def __post_init__(self) -> None:
        if min(self.prompt_tokens or 0, self.completion_tokens or 0) < 0:
            raise ValueError("a number of tokens is negative")


@dataclass(frozen=True)
class Answer:
    """The answer to a request for a completion, or one event of its stream."""

    choices: list[Choice]
    usage: Usage | None = None


@dataclass(frozen=True)
class ListedModel:
    """A model in the list of a server."""

    id: str


@dataclass(frozen=True)
class ModelList:
    """The list of the models of a server."""

    data: list[ListedModel]


@dataclass(frozen=True)
class ScoredToken:
    """A token of a text with its log-probability, and the most likely tokens at its position."""

    text: str
    log_prob: float | None
    """Natural logarithm of the probability; None if the server does not give it."""
    top: list[tuple[str, float]]
    """Pairs (text, log-probability), most likely first; empty if the server does not give them."""


def scored_tokens(logprobs: Logprobs | None) -> list[ScoredToken]:
    """Returns the scored tokens of an answer, from either shape; an empty list if it has no log-probabilities.

    Raises ValueError if the lists have different lengths, or if a probability is larger than 1.
    """
    if logprobs is None:
        return []
    if logprobs.content is not None:
        return [
            ScoredToken(
                token.token,
                _checked(token.logprob),
                _best_first([(top.token, top.logprob) for top in token.top_logprobs or []]),
            )
            for token in logprobs.content
        ]
    tokens, log_probs = logprobs.tokens or [], logprobs.token_logprobs or []
    tops = logprobs.top_logprobs or [None] * len(tokens)
    if not len(tokens) == len(log_probs) == len(tops):
        raise ValueError(f"it has {len(tokens)} tokens, {len(log_probs)} log-probabilities, and {len(tops)} top lists")
    return [
        ScoredToken(token, None if log_prob is None else _checked(log_prob), _best_first(list((top or {}).items())))
        for token, log_prob, top in zip(tokens, log_probs, tops, strict=True)
    ]


def _checked(log_prob: float) -> float:
    """Returns a log-probability; one that is above 0, but by no more than a rounding error, is returned as 0.

    Raises ValueError if it is too far above 0 for a rounding error.
    """
    if log_prob > ROUNDING:
        raise ValueError(f"the log-probability {log_prob:g} is above 0")
    return min(log_prob, 0.0)


def _best_first(tokens: list[tuple[str, float]]) -> list[tuple[str, float]]:
    checked = [(text, _checked(log_prob)) for text, log_prob in tokens]
    total = math.fsum(math.exp(log_prob) for _, log_prob in checked)
    if total > 1 + ROUNDING:
        raise ValueError(f"the probabilities of the most likely tokens sum to {total:.4f}")
    return sorted(checked, key=lambda pair: -pair[1])
