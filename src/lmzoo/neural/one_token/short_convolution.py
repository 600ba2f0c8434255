"""The short convolution for one token: mirrors `lmzoo.neural.layers.short_convolution.ShortConvolution.forward`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmzoo.neural.one_token.operations import Array, Weights, shift_in


def short_convolution(
    weights: Weights, x: Array, previous: Array, is_convolved: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Adds to `x` (B, D) the weighted vectors of the tokens before it, `previous` (B, k - 1, D).

    `is_convolved` (B, k - 1) is True for those in the current document, newest first. Returns the sum, and the vectors
    of the last k - 1 tokens, `x` included.
    """
    weighted = previous[:, ::-1] * weights.weight * is_convolved[:, :, None]
    return x + weighted.sum(1), shift_in(previous, x)
