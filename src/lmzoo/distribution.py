"""A probability distribution over the next token, with temperature, top-k, top-p and min-p."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.checks import check_at_least, check_count, check_share
from lmzoo.errors import ConfigurationError
from lmzoo.stream import as_id

_GROUP = 64
"""Number of tokens in a group: to find or sample tokens, the best or the sum of each group is looked at first."""


class Distribution:
    """An immutable probability distribution over the V token ids of a vocabulary.

    `np.asarray(distribution)` returns the probabilities as a (V,) array. `tempered`, `top_k`, `top_p` and `min_p`
    return new distributions and can be chained: `distribution.tempered(0.8).top_p(0.95).sample(rng)`.
    """

    __slots__ = ("log_probs", "token_text")

    log_probs: NDArray[np.float64]
    """Natural logarithms of the probabilities, a read-only array (V,)."""
    token_text: Callable[[int], str]
    """Function that returns the text of a token id for display; by default the id itself."""

    def __init__(self, log_probs: ArrayLike, token_text: Callable[[int], str] = str) -> None:
        """Creates a distribution from unnormalised log-probabilities (V,) in nats, such as logits.

        Raises ConfigurationError for an array that is empty or not one-dimensional, for NaN or +inf, and if all
        log-probabilities are -inf.
        """
        try:
            given = np.asarray(log_probs)
        except ValueError as error:  # rows of different lengths
            raise ConfigurationError("log_probs must be a one-dimensional array of numbers") from error
        if given.dtype.kind not in "fiu":
            raise ConfigurationError(f"log_probs must be numbers, got an array of type {given.dtype}")
        values = np.array(given, dtype=np.float64)
        if values.ndim != 1 or values.size == 0:
            raise ConfigurationError(
                f"log_probs must be a one-dimensional array with at least one number, got shape {values.shape}"
            )
        values -= peak_of(values)
        values -= np.log(np.exp(values).sum())
        values.flags.writeable = False
        object.__setattr__(self, "log_probs", values)
        object.__setattr__(self, "token_text", token_text)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot set '{name}': a Distribution is immutable")

    def __reduce__(self) -> tuple[type[Distribution], tuple[NDArray[np.float64]]]:
        return type(self), (self.log_probs,)

    def __len__(self) -> int:
        return self.log_probs.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.probs.astype(dtype or np.float64)

    def __repr__(self) -> str:
        best = ", ".join(f"{self.token_text(token_id)}: {prob:.3f}" for token_id, prob in self.top(3))
        return f"<Distribution over {len(self):,} tokens, entropy {self.entropy() / math.log(2):.2f} bits, top {best}>"

    def _repr_html_(self) -> str:
        """Returns an HTML table of the ten most likely tokens, with a bar for each probability."""
        best = self.top(10)
        rows = "".join(
            f'<tr><td style="text-align:right;white-space:pre">{html.escape(self.token_text(token_id))}</td>'
            f'<td style="text-align:left;width:16em"><div style="background:rgba(70,130,180,.6);height:.9em;'
            f'width:{100 * prob / best[0][1]:.1f}%"></div></td><td>{100 * prob:.2f} %</td></tr>'
            for token_id, prob in best
            if prob > 0
        )
        note = f"{len(self):,} tokens, entropy {self.entropy() / math.log(2):.2f} bits"
        return f'<table>{rows}</table><div style="opacity:.7;font-size:85%">{note}</div>'

    def with_token_text(self, token_text: Callable[[int], str]) -> Distribution:
        """Returns the same distribution with a function that gives the text of a token id for display."""
        labelled = object.__new__(Distribution)
        object.__setattr__(labelled, "log_probs", self.log_probs)
        object.__setattr__(labelled, "token_text", token_text)
        return labelled

    @property
    def probs(self) -> NDArray[np.float64]:
        """Probabilities of the V tokens, an array (V,)."""
        return np.exp(self.log_probs)

    def log_prob(self, token_id: int) -> float:
        """Returns the natural logarithm of the probability of a token; -inf for probability 0."""
        return float(self.log_probs[as_id(token_id, len(self))])

    def prob(self, token_id: int) -> float:
        """Returns the probability of a token; raises TokenIdError for an id outside the vocabulary."""
        return math.exp(self.log_prob(token_id))

    def entropy(self) -> float:
        """Returns the entropy of the distribution in nats."""
        probs = self.probs
        possible = probs > 0
        return 0.0 - float(probs[possible] @ self.log_probs[possible])  # no negative zero

    def top(self, k: int = 10) -> list[tuple[int, float]]:
        """Returns the `k` most likely tokens as pairs (token id, probability), most likely first.

        Tokens of equal probability are ordered by id.
        """
        check_count(0, k=k)
        return [(int(token_id), math.exp(self.log_probs[token_id])) for token_id in most_likely(self.log_probs, k)]

    def sample(self, rng: np.random.Generator) -> int:
        """Samples a token id, by inverting the cumulative distribution at one uniform random number.

        Raises ConfigurationError if `rng` is no random generator of NumPy.
        """
        if not isinstance(rng, np.random.Generator):
            raise ConfigurationError(f"rng must be a random generator, as in np.random.default_rng(3), got {rng!r}")
        return draw(self.probs, rng)

    def tempered(self, temperature: float) -> Distribution:
        """Returns the distribution with all log-probabilities divided by `temperature`, renormalised.

        Temperatures below 1 sharpen the distribution; temperature 0 keeps only the most likely token.
        """
        check_at_least(0, temperature=_as_number(temperature))
        if temperature == 1:
            return self
        if temperature == 0:
            return self.top_k(1)
        # The largest log-probability is shifted to 0, so that dividing by a tiny temperature cannot overflow.
        shifted = self.log_probs - self.log_probs.max()
        with np.errstate(over="ignore"):
            return Distribution(shifted / temperature, self.token_text)

    def top_k(self, k: int) -> Distribution:
        """Returns the distribution restricted to the `k` most likely tokens and renormalised."""
        check_count(1, top_k=k)
        return self._only(most_likely(self.log_probs, k)) if k < len(self) else self

    def top_p(self, p: float) -> Distribution:
        """Returns the distribution restricted to the fewest most likely tokens whose probabilities sum to at least `p`.

        This is nucleus sampling (Holtzman et al. 2020). Raises ConfigurationError unless 0 < p <= 1.
        """
        check_share(top_p=_as_number(p))
        if p == 0:
            raise ConfigurationError(f"top_p must be above 0 and at most 1, got {p}")
        return self if p == 1 else self._only(nucleus(self.log_probs, p))

    def min_p(self, p: float) -> Distribution:
        """Returns the distribution restricted to tokens with at least `p` times the largest probability."""
        check_share(min_p=_as_number(p))
        return self if p == 0 else self._only(near_peak(self.log_probs, p))

    def _only(self, token_ids: NDArray[np.intp]) -> Distribution:
        kept = np.full(len(self), -np.inf)
        kept[token_ids] = self.log_probs[token_ids]
        return Distribution(kept, self.token_text)


# ---- Functions of log-probabilities (V,), which need not be normalised ----------------------------


def peak_of(log_probs: NDArray[np.floating]) -> float:
    """Returns the largest log-probability; raises ConfigurationError for NaN or +inf, and if all are -inf."""
    peak = float(log_probs.max())
    if not math.isfinite(peak):
        raise ConfigurationError(f"log_probs must be below +inf, not NaN, and not all -inf; the largest is {peak}")
    return peak


def most_likely(log_probs: NDArray[np.floating], k: int) -> NDArray[np.intp]:
    """Returns the ids of the `k` most likely tokens, most likely first; equally likely tokens are ordered by id."""
    if k < 2:
        return np.array([log_probs.argmax()])[:k]
    candidates, n_groups = np.arange(len(log_probs)), len(log_probs) // _GROUP
    if k <= n_groups:
        # k groups of tokens have one that is as likely as the bound or more so, and so have the k most likely tokens.
        best_of_group = log_probs[: _GROUP * n_groups].reshape(_GROUP, n_groups).max(0)
        bound = np.partition(best_of_group, -k)[-k]
        candidates = np.flatnonzero(log_probs >= bound)
    return candidates[np.argsort(-log_probs[candidates], kind="stable")][:k]


def nucleus(log_probs: NDArray[np.floating], p: float) -> NDArray[np.intp]:
    """Returns the ids of the fewest most likely tokens whose probabilities sum to at least `p`, most likely first."""
    probs = np.exp(log_probs - peak_of(log_probs))
    total = probs.sum()
    # The tokens below this bound have a share of less than 1 - p together, so none of them is needed.
    candidates = np.flatnonzero(probs >= (1 - p) * total / len(probs))
    ids = candidates[np.argsort(-probs[candidates], kind="stable")]
    goal = p * total * (1 - 1e-12)  # 0.5 + 0.3 reaches 0.8, whichever way the sums are rounded
    return ids[: int(probs[ids].cumsum().searchsorted(goal)) + 1]


def near_peak(log_probs: NDArray[np.floating], p: float) -> NDArray[np.intp]:
    """Returns the ids of the tokens that have at least `p` times the largest probability."""
    return np.flatnonzero(log_probs >= log_probs.max() + math.log(p))


def rank_of(token_id: int, log_probs: NDArray[np.floating]) -> int:
    """Returns the rank of a token by probability; 1 is the most likely, and equally likely tokens are ranked by id."""
    above = int(np.count_nonzero(log_probs > log_probs[token_id]))
    return 1 + above + int(np.count_nonzero(log_probs[:token_id] == log_probs[token_id]))


def draw(weights: NDArray[np.float64], rng: np.random.Generator) -> int:
    """Samples an index of `weights` (N,) with a probability in proportion to its weight.

    The cumulative distribution is inverted at one uniform random number: first that of groups of weights, which needs
    fewer additions that wait for each other, and then that within the group.
    """
    sums = np.add.reduceat(weights, np.arange(0, len(weights), _GROUP)).cumsum()
    goal = rng.random() * sums[-1]
    group = _first_above(sums, goal)
    if group > 0:
        goal -= sums[group - 1]
    start = group * _GROUP
    return start + _first_above(weights[start : start + _GROUP].cumsum(), goal)


def _first_above(sums: NDArray[np.float64], goal: float) -> int:
    """Returns the first index of cumulative sums that exceed `goal`, which may have been rounded up to the last one."""
    return int(sums.searchsorted(min(goal, math.nextafter(sums[-1], 0)), side="right"))


def _as_number(value: object) -> object:
    """Returns a number of NumPy as Python's int or float, and any other value unchanged."""
    return value.item() if isinstance(value, np.integer | np.floating) else value
