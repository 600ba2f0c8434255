"""Networks with anchored windows, reading one token: mirrors `lmzoo.neural.anchored.AnchoredNetwork.forward`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmzoo.neural.one_token.operations import Array, RowState, Weights, affine, attend, shift_in
from lmzoo.stream import EOT

ReadBlock = Callable[[Weights, Array, Array], tuple[Array, Array]]
"""(weights of a block, x (D,), KV cache) -> the output of the block (D,) and the new cache."""


def read_in_window(
    network: Any, weights: Weights, token_id: int, state: RowState, *, embed: Callable[[int], Array], block: ReadBlock
) -> tuple[Array, RowState] | None:
    """Runs a transformer on one token, with the KV cache of the current context window.

    Returns the output (D,) of the last block and the new state of the network, or None if the token starts a new
    window. Keyword arguments: `embed` is a function that returns the input (D,) of the first block for a position in
    the window, and `block` is a function that runs one block.
    """
    recent, count, *caches = state
    position = int(count[0])
    if token_id == EOT or position == network.window:
        return None
    x = embed(position)
    new_caches = []
    for block_weights, cache in zip(weights.blocks, caches, strict=True):
        x, cache = block(block_weights, x, cache[:, :, :, :position])
        new_caches.append(cache)
    return x, (shift_in(recent, token_id), count + 1, *new_caches)


def extend_attention(weights: Weights, x: Array, cache: Array) -> tuple[Array, Array]:
    """Computes the self-attention of one token `x` (D,) to itself and to all tokens of the KV cache.

    Returns the output (D,) and the cache extended by the token.
    """
    n_cached = cache.shape[3]
    y, cache = attend(affine(x, weights.qkv), cache, n_cached, n_cached + 1)
    return affine(y, weights.out), cache
