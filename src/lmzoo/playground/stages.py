"""The way of one token from a prediction to a draw: temperature, softmax, cuts, and a random number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lmzoo.distribution import Distribution
from lmzoo.generation import Decoding


class Draw(NamedTuple):
    """The random number of a draw, and the token on which it falls."""

    number: float
    token_id: int


class Stages:
    """The distributions through which a prediction passes until a token is drawn from it.

    `names` are the settings that can cut tokens, in the order of their application, and `distributions` those after
    each of them. The last one equals `decoding(distribution)`.
    """

    names = ("temperature", "top_k", "top_p", "min_p")

    def __init__(self, distribution: Distribution, decoding: Decoding) -> None:
        self._possible = np.isfinite(distribution.log_probs)
        tempered = distribution.tempered(decoding.temperature)
        top_k = tempered if decoding.top_k is None else tempered.top_k(decoding.top_k)
        top_p = top_k.top_p(decoding.top_p)
        self.distributions = (tempered, top_k, top_p, top_p.min_p(decoding.min_p))
        self.tempered, self.final = tempered, self.distributions[-1]
        self._sums = self.final.probs.cumsum()

    @property
    def n_kept(self) -> int:
        """Number of tokens that can be drawn."""
        return int(np.count_nonzero(np.isfinite(self.final.log_probs)))

    def cut_by(self, token_id: int) -> str | None:
        """Returns the name of the setting that excludes a token; None if it can be drawn, or was impossible before."""
        if not self._possible[token_id]:
            return None
        for name, distribution in zip(self.names, self.distributions, strict=True):
            if distribution.log_probs[token_id] == -np.inf:
                return name
        return None

    def interval(self, token_id: int) -> tuple[float, float]:
        """Returns the bounds between which a random number from 0 to 1 must fall to draw a token.

        The tokens share the numbers from 0 to 1 in the order of their ids, as in `Distribution.sample`.
        """
        total = float(self._sums[-1])
        return float(self._sums[token_id - 1]) / total if token_id else 0.0, float(self._sums[token_id]) / total

    def draw(self, seed: int, index: int) -> Draw:
        """Draws a token with the random number at `index` of those that a generation with `seed` uses."""
        rng = np.random.default_rng(seed)
        number = float(rng.random(index + 1)[index])
        rng = np.random.default_rng(seed)
        rng.random(index)
        return Draw(number, self.final.sample(rng))
