"""From nats to the figures that people compare."""

from __future__ import annotations

import math


def bits_per_byte(total_nats: float, n_bytes: int) -> float:
    """Code length of a text in bits for each UTF-8 byte of it: comparable over all lossless tokenizers."""
    return total_nats / (math.log(2) * n_bytes)


def perplexity(total_nats: float, n_units: int) -> float:
    """exp of the mean nats for each unit (token or word); comparable only within one way to count units."""
    mean = total_nats / n_units
    return math.exp(mean) if mean < 700 else math.inf


def bits(nats: float) -> float:
    """Nats as bits."""
    return nats / math.log(2)
