"""The bounds of a server, which keep its memory and its answering times limited whatever clients send."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on requests; a request outside them is refused with a sentence that names the bound."""

    body_bytes: int = 8 << 20
    """Size of a request."""
    prompts: int = 256
    """Number of prompts in a request."""
    prompt_tokens: int = 32_768
    """Number of tokens in all prompts of a request together."""
    max_tokens: int = 4096
    """Number of tokens to generate for each choice."""
    choices: int = 256
    """Number of choices in an answer: prompts times `n`."""
    logprobs: int = 100
    """Number of most likely tokens at each position."""
    stops: int = 16
    """Number of stop strings."""
    probabilities: int = 1 << 22
    """Number of probabilities in an answer to a request for distributions: prompts times size of the vocabulary."""
    running: int = 64
    """Number of texts that a model continues at a time."""
    waiting: int = 512
    """Number of requests, and of texts, that wait for a model; further ones are refused with status 429."""
    request_seconds: float = 300.0
    """Time for one request."""
