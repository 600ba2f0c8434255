"""The last few ids at every position, for networks that read them side by side."""

from __future__ import annotations

import torch
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
