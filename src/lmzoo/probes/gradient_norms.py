"""The result of `lmzoo.probes.gradient_flow`, in a separate module because reading the result needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """The norms of the gradients of N predictions' losses with respect to the embeddings of the tokens before.

    The tokens are the last token read (distance 0) and those up to D tokens before it (distances 1 to D).
    """

    positions: NDArray[np.int64]
    """(N,): indices in the stream of the predicted tokens."""
    norms: NDArray[np.float64]
    """(N, D + 1): norm of the gradient of each prediction's loss with respect to the embedding 0 .. D steps back."""

    @property
    def max_distance(self) -> int:
        """The largest number of tokens back for which gradients were measured, counted from the last token read."""
        return self.norms.shape[1] - 1

    def quantile(self, q: float) -> NDArray[np.float64]:
        """Returns the quantile `q` of the gradient norms over the predictions at each distance 0 .. D, (D + 1,).

        q = 0.5 is the median. Unlike the mean of the logarithms, the median is defined even if some norms are exactly
        0.
        """
        return np.quantile(self.norms, q, axis=0)

    def reached(self) -> NDArray[np.float64]:
        """Returns the share of predictions whose loss has a gradient other than 0 at each distance 0 .. D, (D + 1,).

        The gradient is taken with respect to the embedding of the token that is d tokens before the last token read.
        """
        return (self.norms > 0).mean(axis=0)

    def left(self) -> NDArray[np.float64]:
        """Returns the median gradient norm at each distance 0 .. D, divided by the median at distance 0, (D + 1,).

        The gradient of a prediction's loss is taken with respect to the embedding of the token that is d tokens before
        the last token read. The result is 0 at every distance if the median at distance 0 is 0.
        """
        median = self.quantile(0.5)
        return median / median[0] if median[0] > 0 else np.zeros_like(median)

    def last_distance_with(self, share: float) -> int | None:
        """Returns how many tokens back the gradient of the loss reaches: the largest distance with a considerable norm.

        The gradient is that of the loss of the next token, with respect to the embedding of an earlier token. At the
        returned distance its median norm is at least `share` of the median norm at the last token read (distance 0).
        Returns None if there is no such distance.
        """
        distances = np.flatnonzero(self.left() >= share)
        return int(distances[-1]) if distances.size else None
