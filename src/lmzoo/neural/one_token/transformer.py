"""The modern transformer decoder, reading one token: mirrors `lmzoo.models.transformer.Transformer.forward`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from lmzoo.neural.one_token.codes import Activation
from lmzoo.neural.one_token.operations import (
    Array,
    RowState,
    Weights,
    affine,
    attend,
    context_window,
    rms_norm,
    rotate,
    shift_in,
)
from lmzoo.stream import EOT

Rotary = tuple[Array, Array]
"""Cosines and sines (d / 2,) of the rotary position embedding at one position."""


def read(network: Any, weights: Weights, token_id: int, state: RowState) -> tuple[Array, RowState] | None:
    """Reads one token with the transformer and returns the hidden vector and the new state.

    Returns None (instead of both) if the token is EOT (end of text), which resets the state; torch must then read it.
    """
    if token_id == EOT:
        return None
    in_document, position, previous_ids, *memories = state
    caches, convolved = memories[: len(weights.blocks)], memories[len(weights.blocks) :]
    angles = position * 10_000.0 ** -(np.arange(0, network.d_head, 2) / network.d_head)  # (d / 2,)
    rotary = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    n_visible = int(in_document.sum())  # the tokens of the current document are the last ones of the cache
    window = context_window(token_id, previous_ids)
    x = weights.embedding.weight[token_id]
    if network.ngrams is not None:
        x = x + _ngram_embedding(network.ngrams, weights.ngrams, window[: network.n_orders])
    x = rms_norm(x)
    n_convolved = [*window, EOT].index(EOT) - 1  # the tokens of the current document before this one, at most N
    for index, block in enumerate(weights.blocks):
        x, caches[index], convolved[index] = _block(
            block, x, caches[index], n_visible, rotary, convolved[index], n_convolved
        )
    recent = [shift_in(in_document, True), position + 1, shift_in(previous_ids, token_id)]
    return rms_norm(x), [*recent, *caches, *convolved]


def _block(
    weights: Weights, x: Array, cache: Array, n_visible: int, rotary: Rotary, previous: Array, n_convolved: int
) -> tuple[Array, Array, Array]:
    """Runs one block on one token `x` (D,), which attends to the last `n_visible` tokens of the KV cache.

    `previous` (1, k - 1, D) holds the inputs of the convolution for the k - 1 tokens before, of which the last
    `n_convolved` belong to the current document. Returns the output (D,), the new cache and the new `previous`.
    """
    y = rms_norm(x)
    if previous.shape[1]:
        y, previous = _convolution(weights.convolution, y, previous, n_convolved)
    y, cache = _attention(weights.attention, y, cache, n_visible, rotary)
    x = x + y
    x = x + affine(affine(rms_norm(x), weights.up, Activation.SQUARED_RELU), weights.down)
    return x, cache, previous


def _convolution(weights: Weights, x: Array, previous: Array, n_convolved: int) -> tuple[Array, Array]:
    """Adds to `x` (D,) the weighted vectors of the last `n_convolved` tokens in `previous` (1, k - 1, D).

    Returns the sum, and the vectors of the last k - 1 tokens, `x` included.
    """
    newest_first = previous[0, ::-1][:n_convolved]
    y = x + (weights.weight[: len(newest_first)] * newest_first).sum(0)
    return y, np.concatenate([previous[:, 1:], x[None, None]], axis=1)


def _attention(weights: Weights, x: Array, cache: Array, n_visible: int, rotary: Rotary) -> tuple[Array, Array]:
    """Computes the self-attention of one token `x` (D,) to itself and to the last `n_visible` tokens of the KV cache.

    Returns the output (D,) and the new cache.
    """
    qkv, n_rotated = affine(x, weights.qkv), 2 * len(x)
    q_and_k, v = qkv[:n_rotated].reshape(-1, cache.shape[4]), qkv[n_rotated:]  # (2 H, d), (D,)
    q_and_k = rotate(rms_norm(q_and_k), *rotary)
    y, cache = attend(np.concatenate([q_and_k.ravel(), v]), cache, n_visible, cache.shape[3])
    return affine(y, weights.out), cache


def _ngram_embedding(module: Any, weights: Weights, window: list[int]) -> Array:
    """Returns the sum (D,) of the projected vectors of the n-grams that end in one token.

    `window` holds the id of the token and the ids before it, newest first. An n-gram that would reach across the start
    of its document has the vector 0.
    """
    x = np.zeros((len(window) - 1, module.table.embedding_dim), np.float32)
    for n, ((later, _), row) in enumerate(zip(itertools.pairwise(window), module.table_rows_of(window), strict=True)):
        if later != EOT:
            x[n] = weights.table.weight[row]
    return affine(x.ravel(), weights.out)
