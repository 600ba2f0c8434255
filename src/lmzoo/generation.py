"""Text generation: samples one token after the other, for one prompt or for many at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.checks import check_count, check_seed
from lmzoo.distribution import Distribution, draw, most_likely, near_peak, nucleus, peak_of
from lmzoo.errors import ConfigurationError, UsageError
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT, as_id


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

    def sample(self, log_probs: NDArray[np.float64], rng: np.random.Generator) -> int:
        """Samples a token id, given the log-probabilities (V,) of a model; they need not be normalised.

        The same as `self(Distribution(log_probs)).sample(rng)`, but it computes with the tokens that are kept only.
        Raises ConfigurationError for NaN or +inf, and if all log-probabilities are -inf.
        """
        tempered = log_probs - peak_of(log_probs)
        if self.temperature not in (0, 1):
            with np.errstate(over="ignore"):
                tempered /= self.temperature
        ids = None
        for rule in self._rules:
            chosen = rule(tempered if ids is None else tempered[ids])
            ids = chosen if ids is None else ids[chosen]
        if ids is None:
            return draw(np.exp(tempered), rng)
        ids.sort()
        return int(ids[draw(np.exp(tempered[ids]), rng)])

    @cached_property
    def _rules(self) -> list[Callable[[NDArray[np.float64]], NDArray[np.intp]]]:
        """Functions of tempered log-probabilities (V,), to be applied in turn; each returns the indices to keep."""
        rules: list[Callable[[NDArray[np.float64]], NDArray[np.intp]]] = []
        if self.temperature == 0:
            rules.append(partial(most_likely, k=1))
        if self.top_k is not None:
            rules.append(partial(most_likely, k=self.top_k))
        if self.top_p < 1:
            rules.append(partial(nucleus, p=self.top_p))
        if self.min_p > 0:
            rules.append(partial(near_peak, p=self.min_p))
        return rules


_UNCHANGED = Decoding()


def generate(
    model: LanguageModel[Any],
    prompt_ids: ArrayLike = (),
    *,
    rng: np.random.Generator | int | None = None,
    decoding: Decoding | None = None,
    max_tokens: int | None = None,
    end_ids: Collection[int] = (EOT,),
) -> Iterator[SampledToken]:
    """Continues a prompt with a model: yields one sampled token after the other, each with its log-probability.

    `prompt_ids` is an array of token ids; an empty one starts a new document. The text ends with the first token whose
    id is in `end_ids`, by default EOT (end of text), unless `max_tokens` is reached first. This token is yielded too.
    `rng` is a NumPy random generator or a seed. Raises ConfigurationError for a negative `max_tokens`, TokenIdError for
    ids outside the vocabulary.
    """
    contexts = _checked_prompts(model, [prompt_ids], decoding, max_tokens, end_ids)
    tokens = _sample(model, contexts, [_generator(rng)], decoding, max_tokens, frozenset(end_ids))
    return (token for _, token in tokens)


def generate_batch(
    model: LanguageModel[Any],
    prompts: Iterable[ArrayLike],
    *,
    rng: np.random.Generator | int | None = None,
    decoding: Decoding | None = None,
    max_tokens: int | None = None,
    end_ids: Collection[int] = (EOT,),
) -> list[list[SampledToken]]:
    """Continues B prompts with a model, in parallel, and returns a list of sampled tokens for each prompt.

    Networks read the prompts as one batch.

    Continuation b equals the tokens of `generate` with the random generator `rng.spawn(B)[b]`, except for rounding.
    `rng` is a NumPy random generator or a seed. Each continuation ends with the first token whose id is in `end_ids`,
    by default EOT (end of text), or after `max_tokens`.
    """
    contexts = _checked_prompts(model, prompts, decoding, max_tokens, end_ids)
    continuations: list[list[SampledToken]] = [[] for _ in contexts]
    rngs = _generator(rng).spawn(len(contexts))
    for row, token in _sample(model, contexts, rngs, decoding, max_tokens, frozenset(end_ids)):
        continuations[row].append(token)
    return continuations


def _generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """Returns a random generator: the given one, or a new one with the given seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    check_seed(none_means="for an unpredictable seed", seed=rng)
    return np.random.default_rng(rng)


def _checked_prompts(
    model: LanguageModel[Any],
    prompts: Iterable[ArrayLike],
    decoding: Decoding | None,
    max_tokens: int | None,
    end_ids: Collection[int],
) -> list[NDArray[np.int32]]:
    if not isinstance(model, LanguageModel):
        raise UsageError(f"text is generated with a LanguageModel, such as predictor.model; got {model!r}")
    if not isinstance(decoding, Decoding | None):
        raise ConfigurationError(f"decoding must be a Decoding, as in Decoding(temperature=0.8), got {decoding!r}")
    check_count(0, none_means="for no limit", max_tokens=max_tokens)
    if not isinstance(end_ids, Collection):
        raise ConfigurationError(f"end_ids must be a collection of token ids, such as [{EOT}], got {end_ids!r}")
    for end_id in end_ids:
        as_id(end_id, model.vocab_size)
    return [model.visible(prompt) for prompt in prompts]


def _sample(
    model: LanguageModel[Any],
    contexts: Sequence[NDArray[np.int32]],
    rngs: Sequence[np.random.Generator],
    decoding: Decoding | None,
    max_tokens: int | None,
    end_ids: frozenset[int],
) -> Iterator[tuple[int, SampledToken]]:
    """Samples one token after the other for each of several texts, and yields pairs (index of the text, sampled token).

    At each step, every text that has not ended gets its next token. A text ends with a token in `end_ids`.
    """
    decoding = decoding or _UNCHANGED
    different = {context.tobytes(): context for context in contexts}  # equal prompts are read once
    state_of = dict(zip(different, model.states_after(list(different.values())), strict=True))
    states: Sequence[Any] = [state_of[context.tobytes()] for context in contexts]
    rows, token_ids = list(range(len(contexts))), list[int]()
    for step in itertools.count() if max_tokens is None else range(max_tokens):
        if not end_ids.isdisjoint(token_ids):
            unfinished = [index for index, token_id in enumerate(token_ids) if token_id not in end_ids]
            rows, states, token_ids = ([values[index] for index in unfinished] for values in (rows, states, token_ids))
        if not rows:
            return
        if step:
            states = model.advance_batch(states, token_ids)
        log_probs = model.next_log_probs_batch(states)
        token_ids = []
        for row, row_log_probs in zip(rows, log_probs, strict=True):
            token_id = decoding.sample(row_log_probs, rngs[row])
            token_ids.append(token_id)
            yield row, SampledToken(token_id, float(row_log_probs[token_id]))
