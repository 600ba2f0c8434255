"""Gated linear recurrences, reading one token: mirrors `lmzoo.models.linear_recurrence.LinearRecurrence.forward`."""

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
    context_windows,
    rms_norm,
    shift_in,
    sigmoid,
)
from lmzoo.neural.one_token.short_convolution import short_convolution
from lmzoo.stream import EOT

_SMALLEST_NORM = np.float32(1e-12)  # of torch's normalize


def read(network: Any, weights: Weights, token_ids: Ids, state: StateArrays) -> tuple[Array, StateArrays]:
    """Reads one token of each of B sequences with a network of gated linear recurrences.

    Returns the hidden vectors (B, D) and the new state.
    """
    n_read, previous_ids, *memories = state
    n_read = np.where(token_ids == EOT, 0, n_read)  # EOT starts a document
    in_document = n_read[:, None] >= np.arange(1, network.n_convolved + 1)  # (B, k - 1), newest first
    x = weights.embedding.weight[token_ids]
    if network.ngrams is not None:
        x = x + ngram_embedding(network.ngrams, weights.ngrams, context_windows(token_ids, previous_ids))
    x, n_blocks = rms_norm(x), len(weights.blocks)
    for index, (block, of_block) in enumerate(zip(network.blocks, weights.blocks, strict=True)):
        recurrent = memories[n_blocks + index]
        if not n_read.all():
            recurrent = np.where(n_read.reshape(-1, *[1] * (recurrent.ndim - 1)) > 0, recurrent, np.float32(0))
        x, memories[index], memories[n_blocks + index] = _block(
            block, of_block, x, memories[index], recurrent, in_document
        )
    return affine(rms_norm(x), weights.projection), [n_read + 1, shift_in(previous_ids, token_ids), *memories]


def _block(
    block: Any, weights: Weights, x: Array, previous: Array, state: Array, in_document: NDArray[np.bool_]
) -> tuple[Array, Array, Array]:
    """Runs one block on one token of each sequence, `x` (B, D).

    `previous` (B, k - 1, D) and `in_document` (B, k - 1) are explained in `short_convolution`, and `state` (B, ..) is
    the state of the recurrence. Returns the output (B, D), and the new `previous` and `state`.
    """
    y, previous = short_convolution(weights.convolution, rms_norm(x), previous, in_document)
    step = _delta_rule if hasattr(weights.recurrence, "qkv") else _min_gru
    o, state = step(block.recurrence, weights.recurrence, y, state)
    gate = affine(y, weights.gate)
    mixed: Array = gate * sigmoid(gate) * rms_norm(o, block.epsilon).reshape(gate.shape)
    x = x + affine(mixed, weights.out)
    return x + affine(affine(rms_norm(x), weights.up, Activation.SQUARED_RELU), weights.down), previous, state


def _delta_rule(module: Any, weights: Weights, y: Array, state: Array) -> tuple[Array, Array]:
    """Updates the states (B, H, d, d) of a gated delta rule with H heads by one input of each sequence, `y` (B, D).

    Returns the outputs (B, H, d) and the new states.
    """
    q, k, v = affine(y, weights.qkv).reshape(len(y), 3, module.n_heads, -1).swapaxes(0, 1)  # (B, H, d) each
    q, k = (part / np.maximum(np.linalg.norm(part, axis=2, keepdims=True), _SMALLEST_NORM) for part in (q, k))
    keep, write = affine(y, weights.gates).reshape(len(y), 2, -1, 1).swapaxes(0, 1)  # (B, H, 1) each
    a = np.exp(-np.exp(weights.log_rate[:, None]) * np.logaddexp(keep, np.float32(0)))
    kept = a[..., None] * state
    stored = _lookup(kept, k) if module.erase else np.float32(0)
    u = sigmoid(write) * (v - stored)
    new_state = kept + k[..., None] * u[..., None, :]
    return _lookup(new_state, q), new_state


def _min_gru(module: Any, weights: Weights, y: Array, state: Array) -> tuple[Array, Array]:
    """Updates the states (B, D) of a minGRU by one input of each sequence, `y` (B, D).

    Returns the new states twice: divided into H heads (B, H, D / H), which are normalized separately, and as (B, D).
    """
    z = sigmoid(affine(y, weights.gate))
    h = np.asarray(state + z * (affine(y, weights.candidate) - state), np.float32)
    return h.reshape(len(h), module.n_heads, -1), h


def _lookup(states: Array, keys: Array) -> Array:
    """Returns the values (B, H, d) that the states of H heads (B, H, d, d) hold under the keys (B, H, d)."""
    return (keys[..., None, :] @ states)[..., 0, :]
