"""The only sampling loop: N tokens in, one token out, slide the window; of one text, or of many side by side."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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
    for _, token_id in _drawn(model, [prompt_ids], [rng], decoding, max_tokens):
        yield token_id


def generate_batch(
    model: LanguageModel[Any],
    prompts: Sequence[ArrayLike],
    *,
    rng: np.random.Generator,
    decoding: Decoding | None = None,
    max_tokens: int | None = None,
) -> list[list[int]]:
    """Continues B prompts side by side, in which networks share their work; one list of ids for each.

    Text b is what `generate` draws with the generator `rng.spawn(B)[b]`, up to the rounding of probabilities.
    """
    texts: list[list[int]] = [[] for _ in prompts]
    for row, token_id in _drawn(model, prompts, rng.spawn(len(prompts)), decoding, max_tokens):
        texts[row].append(token_id)
    return texts


def _drawn(
    model: LanguageModel[Any],
    prompts: Sequence[ArrayLike],
    rngs: Sequence[np.random.Generator],
    decoding: Decoding | None,
    max_tokens: int | None,
) -> Iterator[tuple[int, int]]:
    """(row, token id) of each row that goes on, in turns; each row ends with its EOT, or after `max_tokens`."""
    if max_tokens is not None and max_tokens < 0:
        raise ConfigurationError(f"max_tokens must be at least 0, got {max_tokens}")
    decoding = decoding or Decoding()
    contexts = [model.visible(prompt) for prompt in prompts]
    read: dict[bytes, Any] = {}  # equal prompts are read once
    for context in contexts:
        if context.tobytes() not in read:
            read[context.tobytes()] = model.state_after(context)
    states: Sequence[Any] = [read[context.tobytes()] for context in contexts]
    rows, token_ids = list(range(len(prompts))), list[int]()
    for step in itertools.count() if max_tokens is None else range(max_tokens):
        if EOT in token_ids:
            going_on = [place for place, token_id in enumerate(token_ids) if token_id != EOT]
            rows, states, token_ids = ([those[place] for place in going_on] for those in (rows, states, token_ids))
        if not rows:
            return
        if step:
            states = model.advance_batch(states, token_ids)
        token_ids = []
        for row, log_probs in zip(rows, model.next_log_probs_batch(states), strict=True):
            token_ids.append(decoding(Distribution(log_probs)).sample(rngs[row]))
            yield row, token_ids[-1]
