"""The transformer of 2017, reading one token: mirrors `lmzoo.models.transformer_2017.Transformer2017.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmzoo.neural.one_token.anchored import extend_attention, read_in_window
from lmzoo.neural.one_token.codes import Activation
from lmzoo.neural.one_token.operations import Array, RowState, Weights, affine, layer_norm


def read(network: Any, weights: Weights, token_id: int, state: RowState) -> tuple[Array, RowState] | None:
    """Reads one token with the transformer of 2017 and returns the hidden vector and the new state.

    Returns None (instead of both) if the token starts a new context window; torch must then read the token.
    """
    scale = np.float32(network.embedding.embedding_dim**0.5)

    def embed(position: int) -> Array:
        return scale * weights.embedding.weight[token_id] + weights.sinusoids[position]

    return read_in_window(network, weights, token_id, state, embed=embed, block=_block)


def _block(weights: Weights, x: Array, cache: Array) -> tuple[Array, Array]:
    """Runs one post-norm block on one token `x` (D,): returns its output and the extended KV cache."""
    y, cache = extend_attention(weights.attention, x, cache)
    x = layer_norm(x + y, weights.norm_1)
    y = affine(affine(x, weights.up, Activation.RELU), weights.down)
    return layer_norm(x + y, weights.norm_2), cache
