"""One probability distribution over the next token, and the only home of decoding transforms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.errors import ConfigurationError, TokenIdError


class Distribution:
    """A probability distribution over V token ids; immutable.

    `np.asarray(distribution)` gives the (V,) probabilities. The transforms (`tempered`, `top_k`, `top_p`,
    `min_p`) return new distributions, so they chain: `d.tempered(0.8).top_p(0.95).sample(rng)`.
    """

    __slots__ = ("log_probs",)

    log_probs: NDArray[np.float64]
    """(V,) natural logarithms of the probabilities; read-only."""

    def __init__(self, log_probs: ArrayLike) -> None:
        """Takes (V,) log-probabilities in nats up to a constant, which is normalised away.

        Raises ConfigurationError for an empty or not one-dimensional array, NaN, +inf, or no possible token.
        """
        values = np.array(log_probs, dtype=np.float64)
        if values.ndim != 1 or values.size == 0:
            raise ConfigurationError(
                f"a distribution needs a (V,) array of log-probabilities, got shape {values.shape}"
            )
        peak = values.max()
        if not math.isfinite(peak):
            raise ConfigurationError("a distribution needs log-probabilities that are not NaN, +inf or all -inf")
        values -= peak + np.log(np.exp(values - peak).sum())
        values.flags.writeable = False
        object.__setattr__(self, "log_probs", values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Distribution is immutable: cannot set '{name}'")

    def __reduce__(self) -> tuple[type[Distribution], tuple[NDArray[np.float64]]]:
        return type(self), (self.log_probs,)

    def __len__(self) -> int:
        return self.log_probs.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.probs.astype(dtype or np.float64)

    def __repr__(self) -> str:
        best = ", ".join(f"{token_id}: {prob:.3f}" for token_id, prob in self.top(3))
        return f"Distribution(V={len(self)}, entropy={self.entropy() / math.log(2):.2f} bits, top={{{best}}})"

    @property
    def probs(self) -> NDArray[np.float64]:
        """(V,) probabilities."""
        return np.exp(self.log_probs)

    def log_prob(self, token_id: int) -> float:
        """Natural logarithm of the probability of `token_id`; -inf if it is impossible."""
        return float(self.log_probs[self._checked(token_id)])

    def prob(self, token_id: int) -> float:
        """Probability of `token_id`."""
        return math.exp(self.log_prob(token_id))

    def entropy(self) -> float:
        """Entropy in nats."""
        probs = self.probs
        possible = probs > 0
        return float(-(probs[possible] @ self.log_probs[possible]))

    def top(self, k: int = 10) -> list[tuple[int, float]]:
        """The `k` most likely (token id, probability), best first; among equals the lower id comes first."""
        order = self._best(k)
        return [(int(token_id), math.exp(self.log_probs[token_id])) for token_id in order]

    def argmax(self) -> int:
        """The most likely token id; among equals the lowest."""
        return int(np.argmax(self.log_probs))

    def sample(self, rng: np.random.Generator) -> int:
        """Draws a token id by inverting the cumulative distribution at one uniform number."""
        cumulative = self.probs.cumsum()
        drawn = int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right"))
        if drawn == len(self):  # the product was rounded up to the sum of all
            drawn = int(np.flatnonzero(np.isfinite(self.log_probs))[-1])
        return drawn

    def tempered(self, temperature: float) -> Distribution:
        """Probabilities to the power 1 / temperature, renormalised; temperature 0 leaves only the argmax."""
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ConfigurationError(f"temperature must be a finite number of at least 0, got {temperature}")
        if temperature == 1:
            return self
        if temperature == 0:
            return self.top_k(1)
        # Shifted so that the best is 0: dividing by a tiny temperature then cannot overflow.
        shifted = self.log_probs - self.log_probs.max()
        with np.errstate(over="ignore"):
            return Distribution(shifted / temperature)

    def top_k(self, k: int) -> Distribution:
        """Only the `k` most likely tokens; `k` above V keeps all."""
        if k < 1:
            raise ConfigurationError(f"top_k must be at least 1, got {k}")
        return self._only(self._best(k)) if k < len(self) else self

    def top_p(self, p: float) -> Distribution:
        """The nucleus: the fewest most likely tokens whose probabilities reach `p` (Holtzman et al. 2020)."""
        if not 0 < p <= 1:
            raise ConfigurationError(f"top_p must be above 0 and at most 1, got {p}")
        if p == 1:
            return self
        order = self._best(len(self))
        reached = np.cumsum(np.exp(self.log_probs[order]))
        return self._only(order[: int(np.searchsorted(reached, p)) + 1])

    def min_p(self, p: float) -> Distribution:
        """Only tokens with at least `p` times the probability of the most likely one."""
        if not 0 <= p <= 1:
            raise ConfigurationError(f"min_p must be between 0 and 1, got {p}")
        if p == 0:
            return self
        return self._only(np.flatnonzero(self.log_probs >= self.log_probs.max() + math.log(p)))

    def _best(self, k: int) -> NDArray[np.intp]:
        """Ids of the k most likely tokens, best first, lower id first among equals."""
        if k < len(self) // 8:
            threshold = -np.partition(-self.log_probs, k - 1)[k - 1] if k > 0 else np.inf
            candidates = np.flatnonzero(self.log_probs >= threshold)
        else:
            candidates = np.arange(len(self))
        return candidates[np.argsort(-self.log_probs[candidates], kind="stable")][: max(k, 0)]

    def _only(self, token_ids: NDArray[np.intp]) -> Distribution:
        kept = np.full(len(self), -np.inf)
        kept[token_ids] = self.log_probs[token_ids]
        return Distribution(kept)

    def _checked(self, token_id: int) -> int:
        if not 0 <= token_id < len(self):
            raise TokenIdError(f"token id {token_id} is outside the vocabulary of {len(self)} (0 to {len(self) - 1})")
        return token_id
