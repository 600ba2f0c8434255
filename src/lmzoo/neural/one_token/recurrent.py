"""Recurrent networks, reading one token: mirrors `lmzoo.models.recurrent.Recurrent.forward`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lmzoo.neural.one_token.operations import Array, RowState, Weights, affine
from lmzoo.stream import EOT


def read(network: Any, weights: Weights, token_id: int, state: RowState) -> tuple[Array, RowState] | None:
    """Reads one token with a recurrent network: returns the hidden vector and the new state; None for EOT."""
    if token_id == EOT:
        return None
    x = weights.embedding.weight[token_id]
    new_state: list[Array] = []
    for layer, arrays, layer_state in zip(network.layers, weights.layers, network.by_layer(state), strict=True):
        new = _step(layer, arrays, x, layer_state)
        x = new[0][0]
        new_state += new
    return affine(x, weights.projection), new_state


def _step(layer: Any, weights: Weights, x: Array, state: Sequence[Array]) -> list[Array]:
    """Runs one recurrent layer for one time step on the input `x` (D,): returns its new state, the output first."""
    u = affine(state[0][0], weights.U)
    if layer.b is not None:
        u[-len(weights.b) :] += weights.b
    x, u = affine(x, weights.W)[None], u[None]
    new_state, _ = layer.cell.step(torch.from_numpy(x), torch.from_numpy(u), tuple(map(torch.from_numpy, state)))
    return [part.numpy() for part in new_state]
