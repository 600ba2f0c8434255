"""The last few ids at every position, for networks that read them side by side."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmzoo.stream import EOT


def windows(ids: Tensor, earlier: Tensor) -> Tensor:
    """ids (B, T) and the n - 1 before them (B, n - 1) -> (B, T, n): each id and those before it, newest first.

    Before a document start there is nothing: ids before an EOT become EOT.
    """
    history = torch.cat([earlier, ids], dim=1)  # (B, n - 1 + T)
    n_earlier = earlier.shape[1]
    window, in_document = [], torch.ones_like(ids, dtype=torch.bool)
    for lag in range(n_earlier + 1):
        lagged = history[:, n_earlier - lag : history.shape[1] - lag]  # (B, T)
        window.append(lagged.where(in_document, EOT))
        in_document = in_document & (lagged != EOT)
    return torch.stack(window, dim=2)


def window_of_one(token_id: int, earlier: NDArray[np.int64]) -> list[int]:
    """The same for one id in one row, and the n - 1 before it (1, n - 1): n ids, newest first."""
    window = [token_id, *earlier[0, ::-1].tolist()]
    if EOT in window:
        n_here = window.index(EOT)
        window[n_here:] = [EOT] * (len(window) - n_here)
    return window
