"""Context windows: the last n ids at each position, for networks that read a fixed number of tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from lmzoo.stream import EOT


def context_windows(ids: Tensor, previous_ids: Tensor) -> Tensor:
    """Returns the n-gram that ends at each position, newest id first: an array (B, T, n).

    `ids` (B, T) are T ids of B sequences and `previous_ids` (B, n - 1) the ids before them. An n-gram does not reach
    across the start of its document: ids before an EOT (end-of-text) id are replaced by EOT.
    """
    history = torch.cat([previous_ids, ids], dim=1)  # (B, n - 1 + T)
    n_previous = previous_ids.shape[1]
    window, in_document = [], torch.ones_like(ids, dtype=torch.bool)
    for lag in range(n_previous + 1):
        lagged = history[:, n_previous - lag : history.shape[1] - lag]  # (B, T)
        window.append(lagged.where(in_document, EOT))
        in_document = in_document & (lagged != EOT)
    return torch.stack(window, dim=2)
