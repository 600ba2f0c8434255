"""GPT-2, reading one token: mirrors `lmzoo.models.gpt2.GPT2.forward`."""

from __future__ import annotations

from typing import Any

from lmzoo.neural.one_token.anchored import extend_attention, read_in_window
from lmzoo.neural.one_token.codes import Activation
from lmzoo.neural.one_token.operations import Array, RowState, Weights, affine, layer_norm


def read(network: Any, weights: Weights, token_id: int, state: RowState) -> tuple[Array, RowState] | None:
    """Reads one token with GPT-2 and returns the hidden vector and the new state.

    Returns None (instead of both) if the token starts a new context window; torch must then read the token.
    """

    def embed(position: int) -> Array:
        return weights.embedding.weight[token_id] + weights.positions.weight[position]

    result = read_in_window(network, weights, token_id, state, embed=embed, block=_block)
    return result and (layer_norm(result[0], weights.norm), result[1])


def _block(weights: Weights, x: Array, cache: Array) -> tuple[Array, Array]:
    """Runs one pre-norm block of GPT-2 on one token `x` (D,): returns its output and the extended KV cache."""
    y, cache = extend_attention(weights.attention, layer_norm(x, weights.norm_1), cache)
    x = x + y
    return x + affine(affine(layer_norm(x, weights.norm_2), weights.up, Activation.GELU), weights.down), cache
