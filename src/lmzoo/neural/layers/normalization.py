"""Root-mean-square normalization (Zhang & Sennrich 2019)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def rms_norm(x: Tensor, epsilon: float | None = None) -> Tensor:
    """Divides the vectors on the last axis of `x` by the root mean square of their elements, without a learned gain.

    A gain is not needed where a weight matrix follows, because the matrix can scale its inputs as well. `epsilon` is
    added to the mean square; None = the smallest number that changes 1.
    """
    return F.rms_norm(x, x.shape[-1:], eps=epsilon)
