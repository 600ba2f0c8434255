"""Windows over the ids or vectors of a sequence, for networks that look a few tokens back within a document."""

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


def shift_in(previous_ids: Tensor, ids: Tensor) -> Tensor:
    """Returns the last M ids (B, M) of B sequences after T more ids (B, T), given the last M ids before these."""
    return torch.cat([previous_ids, ids], dim=1)[:, ids.shape[1] :]


def earlier_vectors(x: Tensor, previous: Tensor, in_document: Tensor) -> tuple[list[Tensor], Tensor]:
    """Returns the vectors of the k - 1 tokens before each token, and those of the last k - 1 tokens of all.

    - `x` (B, T, D): T tokens of B sequences as vectors of width D.
    - `previous` (B, k - 1, D): the vectors of the k - 1 tokens before them.
    - `in_document` (B, T, k - 1): for each token, 1 if the token at distance 1, ..., k - 1 before it belongs to the
      same document, else 0; see `lags_in_document`.

    The first result has an array (B, T, D) for each distance 1, ..., k - 1, with 0 for tokens of earlier documents. The
    second one, (B, k - 1, D), is `previous` for the tokens that follow.
    """
    n_previous, n_new = previous.shape[1], x.shape[1]
    history = torch.cat([previous.to(x.dtype), x], dim=1)  # (B, k - 1 + T, D)
    vectors = [
        history[:, n_previous - lag :][:, :n_new] * in_document[:, :, lag - 1, None] for lag in range(1, n_previous + 1)
    ]
    return vectors, history[:, n_new:]


def positions_in_document(ids: Tensor, n_read: Tensor) -> Tensor:
    """Returns the position of each token in its document (B, T) int64, counted from 0 at EOT (end of text).

    `ids` (B, T) are T ids of B sequences, in which EOT starts a document. `n_read` (B,) is the number of tokens of the
    current document that were read before them.
    """
    index = torch.arange(ids.shape[1], device=ids.device)
    start = index.where(ids == EOT, -1).cummax(dim=1).values  # (B, T), -1 = before the chunk
    return index + n_read[:, None].where(start < 0, -start)


def lags_in_document(positions: Tensor, size: int) -> Tensor:
    """Returns which of the `size` - 1 tokens before each token belong to the same document (B, T, size - 1) bool.

    `positions` (B, T) are the positions of the tokens in their documents. The nearest token comes first.
    """
    return positions[..., None] >= torch.arange(1, size, device=positions.device)
