"""The gated delta rule (Yang, Kautz & Hatamizadeh 2024): a matrix that maps keys to values, corrected at every token.

For a key k of length 1, a value v and a query q, with shares a (what is kept) and b (what is written) from 0 to 1:

    S_t = a S_{t-1} (I - b k k') + b v k'                                        eq. 10
    o_t = S_t q

Before v is written under k, what was stored there is erased. Without erasing, S_t = a S_{t-1} + b v k' is the gated
linear attention of Mamba-2 (Dao & Gu 2024). Both are computed in chunks: with u_t the correction b (v - a S_{t-1} k),
S_t = a S_{t-1} + u_t k' has a closed form in the states before the chunk and the u of the chunk, which solve a
triangular system of equations (the WY representation). So a chunk takes a few matrix products instead of a loop.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK_SIZE = 32
"""Number of tokens that are computed at once."""


def delta_rule(
    q: Tensor, k: Tensor, v: Tensor, log_keep: Tensor, write: Tensor, starts: Tensor, state: Tensor, *, erase: bool
) -> tuple[Tensor, Tensor]:
    """Runs the recurrence over T tokens of B sequences: returns the outputs (B, H, T, E) and the last state.

    - `q`, `k` (B, H, T, D): queries and keys of H heads; `v` (B, H, T, E): values.
    - `log_keep`, `write` (B, H, T): log a, at most 0, and b, from 0 to 1.
    - `starts` (B, T): True where a document starts, before which the state is set to 0.
    - `state` (B, H, D, E): the transpose of S for each head.

    With `erase` False nothing is erased before a value is written. Everything is computed in the type of the state,
    also under autocast, which would round the state of long documents.
    """
    chunks = zip(
        *(part.to(state.dtype).split(CHUNK_SIZE, dim=2) for part in (q, k, v, log_keep, write)),
        starts.split(CHUNK_SIZE, dim=1),
        strict=True,
    )
    outputs: list[Tensor] = []
    with torch.autocast(q.device.type, enabled=False):
        for q, k, v, log_keep, write, starts in chunks:
            output, state = _chunk(q, k, v, log_keep, write, starts, state, erase=erase)
            outputs.append(output)
    return torch.cat(outputs, dim=2), state


def _chunk(
    q: Tensor, k: Tensor, v: Tensor, log_keep: Tensor, write: Tensor, starts: Tensor, state: Tensor, *, erase: bool
) -> tuple[Tensor, Tensor]:
    """Computes `delta_rule` for the C tokens of one chunk, where C may be any number."""
    n_tokens = q.shape[2]
    document = starts.cumsum(1)[:, None]  # (B, 1, C): 0 is the document of the state
    log_kept = log_keep.cumsum(2)  # (B, H, C): of the state
    # Only differences of tokens in the same document are used, from a later to an earlier token: they are at most 0.
    visible = (document[..., :, None] == document[..., None, :]).tril()  # (B, 1, C, C)
    between = (log_kept[..., :, None] - log_kept[..., None, :]).masked_fill(~visible, -math.inf)
    kept = between.exp()  # (B, H, C, C): of what an earlier token wrote, at a later token
    of_state = (log_kept.exp() * (document == 0))[..., None]  # (B, H, C, 1)

    queries_and_keys = torch.cat([q, k], dim=2)  # (B, H, 2 C, D)
    from_q, from_k = (queries_and_keys @ state).split(n_tokens, dim=2)  # (B, H, C, E) each
    q_k, k_k = (queries_and_keys @ k.mT).split(n_tokens, dim=2)  # (B, H, C, C) each
    write = write[..., None]
    if erase:
        u = write * (v - of_state * from_k)
        u = torch.linalg.solve_triangular(write * k_k * kept, u, upper=False, unitriangular=True)
    else:
        u = write * v
    output = of_state * from_q + (q_k * kept) @ u
    new_state = of_state[:, :, -1:] * state + (k * kept[:, :, -1, :, None]).mT @ u
    return output, new_state
