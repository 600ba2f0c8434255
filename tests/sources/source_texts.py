"""Helpers of the source tests: sampled text, the list of all texts, and the entropy of an event."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from lmzoo import sources
from lmzoo.sources import Source, source
from lmzoo.stream import EOT, TokenStream

every_source = pytest.mark.parametrize("name", sources.names())


@cache
def sampled(name: str) -> TokenStream:
    return source(name).sample(400, np.random.default_rng(5))


def binary(p: float) -> float:
    """Returns the entropy of an event of probability p, in nats."""
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def all_texts(made: Source[Any], least: float = 0.0) -> dict[tuple[int, ...], float]:
    """Returns every text of a source that is more likely than `least`, with its EOT and its probability."""
    found: dict[tuple[int, ...], float] = {}

    def walk(state: Any, text: tuple[int, ...], prob: float) -> None:
        for token_id, share in enumerate(np.exp(made.next_log_probs(state))):
            if prob * share > least:
                if token_id == EOT:
                    found[*text, EOT] = prob * share
                else:
                    walk(made.advance(state, token_id), (*text, token_id), prob * share)

    walk(made.initial_state(), (), 1.0)
    return found
