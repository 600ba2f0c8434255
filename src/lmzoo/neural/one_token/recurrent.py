"""Recurrent networks, reading one token: mirrors `lmzoo.models.recurrent.Recurrent.forward`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lmzoo.neural.layers.recurrence import Cell
from lmzoo.neural.one_token.operations import Array, RowState, Weights, affine
from lmzoo.stream import EOT


def read(network: Any, weights: Weights, token_id: int, state: RowState) -> tuple[Array, RowState] | None:
    """Reads one token with a recurrent network and returns the hidden vector and the new state.

    Returns None, without a vector and a state, if the token is EOT (end of text). EOT resets the state, which only the
    torch network does, so the caller must read the token with it instead.
    """
    if token_id == EOT:
        return None
    x = weights.embedding.weight[token_id]
    cell, new_state = network.cell, []
    for index, layer in enumerate(weights.layers):
        start = index * cell.state_size
        new = _step(cell, layer, x, state[start : start + cell.state_size])
        x = new[0][0]
        new_state += new
    return affine(x, weights.projection), new_state


def _step(cell: type[Cell], weights: Weights, x: Array, state: Sequence[Array]) -> list[Array]:
    """Computes one time step of a recurrent layer with the given cell and weights, for one input `x` (D,).

    Returns the new state of the layer, a list of arrays whose first element is the output.
    """
    u = affine(state[0][0], weights.U)
    if hasattr(weights, "b"):  # of a GRU
        u[-len(weights.b) :] += weights.b
    x, u = affine(x, weights.W)[None], u[None]
    new_state, _ = cell.step(torch.from_numpy(x), torch.from_numpy(u), tuple(map(torch.from_numpy, state)))
    return [part.numpy() for part in new_state]
