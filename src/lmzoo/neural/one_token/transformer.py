"""The modern transformer decoder, reading one token: mirrors `lmzoo.models.transformer.Transformer.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.neural.one_token.codes import Activation
from lmzoo.neural.one_token.ngram_embedding import ngram_embedding
from lmzoo.neural.one_token.operations import (
    Array,
    Ids,
    StateArrays,
    Weights,
    affine,
    attend_in_band,
    context_windows,
    rms_norm,
    rotate,
    shift_in,
)
from lmzoo.neural.one_token.short_convolution import short_convolution
from lmzoo.stream import EOT

Rotary = tuple[Array, Array]
"""Cosines and sines (B, d / 2) of the rotary position embedding at the position of each token."""


def read(network: Any, weights: Weights, token_ids: Ids, state: StateArrays) -> tuple[Array, StateArrays]:
    """Reads one token of each of B sequences with the transformer: returns the hidden vectors (B, D) and new state."""
    in_document, position, previous_ids, *memories = state
    caches, convolved = memories[: len(weights.blocks)], memories[len(weights.blocks) :]
    in_document = in_document & (token_ids != EOT)[:, None]  # EOT starts a document
    n_visible = in_document.sum(1)  # the tokens of the current document are the last ones of the cache
    frequencies = 10_000.0 ** -(np.arange(0, network.d_head, 2) / network.d_head)  # (d / 2,)
    angles = position[:, None] * frequencies  # (B, d / 2)
    rotary = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    windows = context_windows(token_ids, previous_ids)  # (B, N + 1)
    x = weights.embedding.weight[token_ids]
    if network.ngrams is not None:
        x = x + ngram_embedding(network.ngrams, weights.ngrams, windows[:, : network.n_orders])
    x = rms_norm(x)
    is_convolved = windows[:, 1 : network.n_convolved + 1] != EOT  # (B, k - 1)
    for index, block in enumerate(weights.blocks):
        x, caches[index], convolved[index] = _block(
            block, x, caches[index], n_visible, rotary, convolved[index], is_convolved
        )
    recent = [shift_in(in_document, np.ones(len(x), bool)), position + 1, shift_in(previous_ids, token_ids)]
    return rms_norm(x), [*recent, *caches, *convolved]


def _block(
    weights: Weights,
    x: Array,
    cache: Array,
    n_visible: Ids,
    rotary: Rotary,
    previous: Array,
    is_convolved: NDArray[np.bool_],
) -> tuple[Array, Array, Array]:
    """Runs one block on one token of each sequence, `x` (B, D).

    The tokens attend to the last `n_visible` (B,) tokens of the KV cache. `previous` (B, k - 1, D) and `is_convolved`
    are explained in `short_convolution`. Returns the output (B, D), the new cache and the new `previous`.
    """
    y = rms_norm(x)
    if previous.shape[1]:
        y, previous = short_convolution(weights.convolution, y, previous, is_convolved)
    y, cache = _attention(weights.attention, y, cache, n_visible, rotary)
    x = x + y
    x = x + affine(affine(rms_norm(x), weights.up, Activation.SQUARED_RELU), weights.down)
    return x, cache, previous


def _attention(weights: Weights, x: Array, cache: Array, n_visible: Ids, rotary: Rotary) -> tuple[Array, Array]:
    """Computes the self-attention of one token of each sequence to itself and to the last tokens of the KV cache.

    `x` (B, D) holds the tokens, and `n_visible` (B,) the number of cached tokens to attend to. Returns the output
    (B, D) and the new cache.
    """
    (n_rows, width), d_head = x.shape, cache.shape[4]
    qkv = affine(x, weights.qkv)  # (B, 3 D)
    q_and_k = qkv[:, : 2 * width].reshape(n_rows, -1, d_head)  # (B, 2 H, d)
    qkv[:, : 2 * width] = rotate(rms_norm(q_and_k), *rotary).reshape(n_rows, -1)
    y, cache = attend_in_band(qkv, cache, n_visible)
    return affine(y, weights.out), cache
