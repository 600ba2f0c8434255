"""The result of `lmzoo.probes.gradient_flow`, in a module of its own because reading it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Norms of gradients, by position and distance."""

    positions: NDArray[np.int64]
    """(N,) the places in the stream whose predictions were followed back."""
    norms: NDArray[np.float64]
    """(N, D + 1) of the gradient of each prediction's loss by the token vector read 0 .. D steps before the last."""

    @property
    def max_distance(self) -> int:
        """D."""
        return self.norms.shape[1] - 1

    def quantile(self, q: float) -> NDArray[np.float64]:
        """(D + 1,) over the positions; 0.5 = the median, which unlike a mean of logarithms bears exact zeros."""
        return np.quantile(self.norms, q, axis=0)

    def reached(self) -> NDArray[np.float64]:
        """(D + 1,) the share of the positions that have any gradient at a distance."""
        return (self.norms > 0).mean(axis=0)

    def left(self) -> NDArray[np.float64]:
        """(D + 1,) the median as a share of that at distance 0; all 0 if nothing flows."""
        median = self.quantile(0.5)
        return median / median[0] if median[0] > 0 else np.zeros_like(median)

    def last_distance_with(self, share: float) -> int | None:
        """The farthest distance at which at least this share of the gradient is left; None if nothing flows."""
        found = np.flatnonzero(self.left() >= share)
        return int(found[-1]) if found.size else None
