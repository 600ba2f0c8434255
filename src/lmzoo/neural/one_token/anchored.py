"""Networks with anchored windows, reading one token: mirrors `lmzoo.neural.anchored.AnchoredNetwork.forward`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from lmzoo.neural.anchored import AnchoredNetwork
from lmzoo.neural.one_token.operations import Array, Ids, StateArrays, Weights, affine, attend_to_all, shift_in
from lmzoo.stream import EOT

ReadBlock = Callable[[Weights, Array, Array, Ids], tuple[Array, Array]]
"""(weights of a block, x (B, D), KV cache, number of tokens in use in it (B,)) -> output (B, D) and new cache."""


def read_in_windows(
    network: AnchoredNetwork,
    weights: Weights,
    token_ids: Ids,
    state: StateArrays,
    *,
    embed: Callable[[Ids], Array],
    block: ReadBlock,
) -> tuple[Array, StateArrays]:
    """Runs a transformer on one token of each of B sequences, with the KV caches of their current context windows.

    Returns the output (B, D) of the last block and the new state of the network. Keyword arguments: `embed` is a
    function that returns the inputs (B, D) of the first block for positions (B,) in the windows, and `block` is a
    function that runs one block.
    """
    recent, count, *caches = state
    count = np.where(token_ids == EOT, 0, count)  # EOT starts a document, and so a window
    is_full = count == network.window
    if is_full.any():
        count, caches = _in_next_windows(network, recent, count, caches, is_full)
    x = embed(count)
    new_caches: list[Array] = []
    for block_weights, cache in zip(weights.blocks, caches, strict=True):
        x, cache = block(block_weights, x, cache, count)
        new_caches.append(cache)
    return x, (shift_in(recent, token_ids), count + 1, *new_caches)


@torch.inference_mode()
def _in_next_windows(
    network: AnchoredNetwork, recent: Ids, count: Ids, caches: Sequence[Array], is_full: np.ndarray
) -> tuple[Ids, list[Array]]:
    """Moves the sequences whose window is full to their next window, which begins with the last inputs of the old one.

    Returns the number of inputs in the windows of all sequences, and their KV caches.
    """
    n_kept = network.window - network.step
    ids = torch.from_numpy(recent[is_full, network.step :])  # (N, C - S)
    _, filled = network.read_new_windows(ids)
    new_caches = [cache.copy() for cache in caches]
    for cache, new in zip(new_caches, filled, strict=True):
        cache[is_full, :, :, :n_kept] = new.numpy()
    return np.where(is_full, n_kept, count), new_caches


def extend_attention(weights: Weights, x: Array, cache: Array, n_cached: Ids) -> tuple[Array, Array]:
    """Computes the self-attention of one token of each of B sequences to itself and to all tokens of the KV cache.

    `x` (B, D) holds the tokens. Returns the output (B, D) and the cache extended by the tokens.
    """
    y, cache = attend_to_all(affine(x, weights.qkv), cache, n_cached)
    return affine(y, weights.out), cache
