"""GPT-2, reading one token: mirrors `lmzoo.models.gpt2.GPT2.forward`."""

from __future__ import annotations

from typing import Any

from lmzoo.neural.one_token.anchored import extend_attention, read_in_windows
from lmzoo.neural.one_token.codes import Activation
from lmzoo.neural.one_token.operations import Array, Ids, StateArrays, Weights, affine, layer_norm


def read(network: Any, weights: Weights, token_ids: Ids, state: StateArrays) -> tuple[Array, StateArrays]:
    """Reads one token of each of B sequences with GPT-2 and returns the hidden vectors (B, D) and the new state."""

    def embed(positions: Ids) -> Array:
        return weights.embedding.weight[token_ids] + weights.positions.weight[positions]

    x, new_state = read_in_windows(network, weights, token_ids, state, embed=embed, block=_block)
    return layer_norm(x, weights.norm), new_state


def _block(weights: Weights, x: Array, cache: Array, n_cached: Ids) -> tuple[Array, Array]:
    """Runs one pre-norm block of GPT-2 on one token of each sequence, `x` (B, D).

    Returns its output and the extended KV cache.
    """
    y, cache = extend_attention(weights.attention, layer_norm(x, weights.norm_1), cache, n_cached)
    x = x + y
    return x + affine(affine(layer_norm(x, weights.norm_2), weights.up, Activation.GELU), weights.down), cache
