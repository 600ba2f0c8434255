"""Text generation: samples one token after the other, for one prompt or for many at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.checks import check_count, check_seed
from lmzoo.distribution import Distribution
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT


class SampledToken(NamedTuple):
    """A generated token and its log-probability under the model."""

    token_id: int
    log_prob: float
    """Log-probability of the token in nats, before temperature, top-k, top-p and min-p were applied."""


@dataclass(frozen=True)
class Decoding:
    """Settings that change a predicted distribution before a token is sampled from it.

    They are applied in this order: temperature, top-k, top-p, min-p. The defaults leave the distribution unchanged.
    Raises ConfigurationError for a value outside the allowed range.
    """

    temperature: float = 1.0
    """Divisor of the logits, at least 0; 0 always takes the most likely token."""
    top_k: int | None = None
    """Number of most likely tokens to keep; None keeps all."""
    top_p: float = 1.0
    """Probability mass to keep: the fewest most likely tokens whose probabilities sum to at least this."""
    min_p: float = 0.0
    """Smallest probability to keep, as a fraction of the largest one."""

    def __post_init__(self) -> None:
        self(Distribution([0.0, 0.0]))  # raises the error for a wrong setting here rather than at the first token

    def __call__(self, distribution: Distribution) -> Distribution:
        """Returns the distribution from which the next token is sampled."""
        distribution = distribution.tempered(self.temperature)
        if self.top_k is not None:
            distribution = distribution.top_k(self.top_k)
        return distribution.top_p(self.top_p).min_p(self.min_p)


def generate(
    model: LanguageModel[Any],
    prompt_ids: ArrayLike = (),
    *,
    rng: np.random.Generator | int | None = None,
    decoding: Decoding | None = None,
    max_tokens: int | None = None,
) -> Iterator[SampledToken]:
    """Continues a prompt with a model: yields one sampled token after the other, each with its log-probability.

    `prompt_ids` is an array of token ids; an empty one starts a new document. The last token is EOT (end of text),
    unless `max_tokens` is reached first. `rng` is a NumPy random generator or a seed. Raises ConfigurationError for a
    negative `max_tokens`, TokenIdError for ids outside the vocabulary.
    """
    contexts = _checked_prompts(model, [prompt_ids], max_tokens)
    tokens = _sample(model, contexts, [_generator(rng)], decoding, max_tokens)
    return (token for _, token in tokens)


def generate_batch(
    model: LanguageModel[Any],
    prompts: Sequence[ArrayLike],
    *,
    rng: np.random.Generator | int | None = None,
    decoding: Decoding | None = None,
    max_tokens: int | None = None,
) -> list[list[SampledToken]]:
    """Continues B prompts in parallel and returns a list of sampled tokens for each; networks read them as one batch.

    Continuation b equals the tokens of `generate` with the random generator `rng.spawn(B)[b]`, except for rounding.
    `rng` is a NumPy random generator or a seed. Each continuation ends with EOT, or after `max_tokens`.
    """
    contexts = _checked_prompts(model, prompts, max_tokens)
    continuations: list[list[SampledToken]] = [[] for _ in prompts]
    rngs = _generator(rng).spawn(len(prompts))
    for row, token in _sample(model, contexts, rngs, decoding, max_tokens):
        continuations[row].append(token)
    return continuations


def _generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """Returns a random generator: the given one, or a new one with the given seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    check_seed(none_means="for an unpredictable seed", seed=rng)
    return np.random.default_rng(rng)


def _checked_prompts(
    model: LanguageModel[Any], prompts: Sequence[ArrayLike], max_tokens: int | None
) -> list[NDArray[np.int32]]:
    check_count(0, none_means="for no limit", max_tokens=max_tokens)
    return [model.visible(prompt) for prompt in prompts]


def _sample(
    model: LanguageModel[Any],
    contexts: Sequence[NDArray[np.int32]],
    rngs: Sequence[np.random.Generator],
    decoding: Decoding | None,
    max_tokens: int | None,
) -> Iterator[tuple[int, SampledToken]]:
    """Samples one token after the other for each of several texts, and yields pairs (index of the text, sampled token).

    At each step, every text that has not ended gets its next token.
    """
    decoding = decoding or Decoding()
    state_of: dict[bytes, Any] = {}  # equal prompts are read once
    for context in contexts:
        if context.tobytes() not in state_of:
            state_of[context.tobytes()] = model.state_after(context)
    states: Sequence[Any] = [state_of[context.tobytes()] for context in contexts]
    rows, token_ids = list(range(len(contexts))), list[int]()
    for step in itertools.count() if max_tokens is None else range(max_tokens):
        if EOT in token_ids:
            unfinished = [index for index, token_id in enumerate(token_ids) if token_id != EOT]
            rows, states, token_ids = ([values[index] for index in unfinished] for values in (rows, states, token_ids))
        if not rows:
            return
        if step:
            states = model.advance_batch(states, token_ids)
        token_ids = []
        for row, log_probs in zip(rows, model.next_log_probs_batch(states), strict=True):
            distribution = Distribution(log_probs)
            token_ids.append(decoding(distribution).sample(rngs[row]))
            yield row, SampledToken(token_ids[-1], distribution.log_prob(token_ids[-1]))
