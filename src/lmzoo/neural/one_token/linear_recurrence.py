"""Gated linear recurrences, reading one token: mirrors `lmzoo.models.linear_recurrence.LinearRecurrence.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmzoo.neural.one_token.codes import Activation
from lmzoo.neural.one_token.ngram_embedding import ngram_embedding
from lmzoo.neural.one_token.operations import (
    Array,
    RowState,
    Weights,
    affine,
    context_window,
    rms_norm,
    shift_in,
    sigmoid,
)
from lmzoo.stream import EOT

_SMALLEST_NORM = np.float32(1e-12)  # of torch's normalize


def read(network: Any, weights: Weights, token_id: int, state: RowState) -> tuple[Array, RowState]:
    """Reads one token with a network of gated linear recurrences: returns the hidden vector and the new state."""
    n_read, previous_ids, *memories = state
    if token_id == EOT:
        n_read = np.zeros_like(n_read)
    n_before, n_blocks = int(n_read[0]), len(weights.blocks)
    x = weights.embedding.weight[token_id]
    if network.ngrams is not None:
        x = x + ngram_embedding(network.ngrams, weights.ngrams, context_window(token_id, previous_ids))
    x = rms_norm(x)
    for index, (block, of_block) in enumerate(zip(network.blocks, weights.blocks, strict=True)):
        x, memories[index], memories[n_blocks + index] = _block(
            block, of_block, x, memories[index], memories[n_blocks + index], n_before
        )
    return affine(rms_norm(x), weights.projection), [n_read + 1, shift_in(previous_ids, token_id), *memories]


def _block(
    block: Any, weights: Weights, x: Array, previous: Array, state: Array, n_before: int
) -> tuple[Array, Array, Array]:
    """Runs one block on one token `x` (D,), which has `n_before` tokens before it in its document.

    `previous` (1, k - 1, D) holds the inputs of the convolution for the k - 1 tokens before, and `state` (1, ..) is the
    state of the recurrence. Returns the output (D,), and the new `previous` and `state`.
    """
    normalized = rms_norm(x)
    newest_first = previous[0, ::-1][:n_before]
    y = normalized + (weights.convolution.weight[: len(newest_first)] * newest_first).sum(0)
    step = _delta_rule if hasattr(weights.recurrence, "qkv") else _min_gru
    o, state = step(block.recurrence, weights.recurrence, y, state if n_before else np.zeros_like(state))
    gate = affine(y, weights.gate)
    x = x + affine(gate * sigmoid(gate) * rms_norm(o, block.epsilon).ravel(), weights.out)
    x = x + affine(affine(rms_norm(x), weights.up, Activation.SQUARED_RELU), weights.down)
    return x, shift_in(previous, normalized), state


def _delta_rule(module: Any, weights: Weights, y: Array, state: Array) -> tuple[Array, Array]:
    """Updates the state (1, H, d, d) of a gated delta rule with H heads by one input `y` (D,).

    Returns the output (H, d) and the new state.
    """
    q, k, v = affine(y, weights.qkv).reshape(3, module.n_heads, -1)  # (H, d) each
    q, k = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), _SMALLEST_NORM) for part in (q, k))
    keep, write = affine(y, weights.gates).reshape(2, -1, 1)  # (H, 1) each
    a = np.exp(-np.exp(weights.log_rate[:, None]) * np.logaddexp(keep, np.float32(0)))
    kept = a[:, None] * state[0]  # (H, d, d)
    stored = _lookup(kept, k) if module.erase else 0
    u = sigmoid(write) * (v - stored)
    new_state = kept + k[:, :, None] * u[:, None]
    return _lookup(new_state, q), new_state[None]


def _min_gru(module: Any, weights: Weights, y: Array, state: Array) -> tuple[Array, Array]:
    """Updates the state (1, D) of a minGRU by one input `y` (D,): returns it as (H, D / H) for H heads, and as (1, D).

    The heads are only normalized separately.
    """
    z = sigmoid(affine(y, weights.gate))
    h = (1 - z) * state[0] + z * affine(y, weights.candidate)
    return h.reshape(module.n_heads, -1), h[None]


def _lookup(states: Array, keys: Array) -> Array:
    """Returns the values (H, d) that the states of H heads (H, d, d) hold under one key of each head (H, d)."""
    return (keys[:, None] @ states)[:, 0]
