"""The transformer of 2017, reading one token: mirrors `lmzoo.models.transformer_2017.Transformer2017.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmzoo.neural.one_token.anchored import extend_attention, read_in_windows
from lmzoo.neural.one_token.codes import Activation
from lmzoo.neural.one_token.operations import Array, Ids, StateArrays, Weights, affine, layer_norm


def read(network: Any, weights: Weights, token_ids: Ids, state: StateArrays) -> tuple[Array, StateArrays]:
    """Reads one token of each of B sequences with the transformer of 2017.

    Returns the hidden vectors (B, D) and the new state.
    """
    scale = np.float32(network.embedding.embedding_dim**0.5)

    def embed(positions: Ids) -> Array:
        return scale * weights.embedding.weight[token_ids] + weights.sinusoids[positions]

    return read_in_windows(network, weights, token_ids, state, embed=embed, block=_block)


def _block(weights: Weights, x: Array, cache: Array, n_cached: Ids) -> tuple[Array, Array]:
    """Runs one post-norm block on one token of each sequence, `x` (B, D).

    Returns its output and the extended KV cache.
    """
    y, cache = extend_attention(weights.attention, x, cache, n_cached)
    x = layer_norm(x + y, weights.norm_1)
    y = affine(affine(x, weights.up, Activation.RELU), weights.down)
    return layer_norm(x + y, weights.norm_2), cache
