"""The only sampling loop: N tokens in, one token out, slide the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lmzoo.distribution import Distribution
from lmzoo.errors import ConfigurationError
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT


@dataclass(frozen=True)
class Decoding:
    """How a predicted distribution is reshaped before a token is drawn; the default draws from it as it is.

    Applied in this order: temperature, top_k, top_p, min_p.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        self(Distribution([0.0, 0.0]))  # a wrong setting shows now, not at the first token

    def __call__(self, distribution: Distribution) -> Distribution:
        distribution = distribution.tempered(self.temperature)
        if self.top_k is not None:
            distribution = distribution.top_k(self.top_k)
        return distribution.top_p(self.top_p).min_p(self.min_p)


def generate(
    model: LanguageModel[Any],
    prompt_ids: ArrayLike = (),
    *,
    rng: np.random.Generator,
    decoding: Decoding | None = None,
    max_tokens: int | None = None,
) -> Iterator[int]:
    """Draws ids one after the other; the last one is EOT unless `max_tokens` ends it first."""
    if max_tokens is not None and max_tokens < 0:
        raise ConfigurationError(f"max_tokens must be at least 0, got {max_tokens}")
    decoding = decoding or Decoding()
    state = model.state_after(model.visible(prompt_ids))
    drawn = 0
    while max_tokens is None or drawn < max_tokens:
        token_id = decoding(Distribution(model.next_log_probs(state))).sample(rng)
        yield token_id
        if token_id == EOT:
            return
        state = model.advance(state, token_id)
        drawn += 1
