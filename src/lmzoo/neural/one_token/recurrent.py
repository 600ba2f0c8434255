"""Recurrent networks, reading one token: mirrors `lmzoo.models.recurrent.Recurrent.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lmzoo.neural.layers.recurrence import Cell
from lmzoo.neural.one_token.operations import Array, Ids, StateArrays, Weights, affine, sigmoid
from lmzoo.stream import EOT


def read(network: Any, weights: Weights, token_ids: Ids, state: StateArrays) -> tuple[Array, StateArrays]:
    """Reads one token of each of B sequences with a recurrent network.

    Returns the hidden vectors (B, D) and the new state.
    """
    starts = token_ids == EOT
    if starts.any():  # a document starts
        state = [np.where(starts[:, None], np.float32(0), part) for part in state]
    x = weights.embedding.weight[token_ids]
    cell, new_state = network.cell, []
    for index, layer in enumerate(weights.layers):
        start = index * cell.state_size
        new = _step(cell, layer, x, state[start : start + cell.state_size])
        x = new[0]
        new_state += new
    return affine(x, weights.projection), new_state


def _step(cell: type[Cell], weights: Weights, x: Array, state: StateArrays) -> list[Array]:
    """Computes one time step of a recurrent layer with the given cell and weights, for the inputs `x` (B, D).

    Returns the new state of the layer, a list of arrays whose first element is the output.
    """
    h, *others = state
    for index, matrix in enumerate(weights.rounds):
        if index % 2 == 0:
            x = np.float32(2) * sigmoid(affine(h, matrix)) * x
        else:
            h = np.float32(2) * sigmoid(affine(x, matrix)) * h
    x, u = affine(x, weights.W), affine(h, weights.U)
    if hasattr(weights, "b"):  # of a GRU
        u[:, -len(weights.b) :] += weights.b
    new_state, _ = cell.step(torch.from_numpy(x), torch.from_numpy(u), tuple(map(torch.from_numpy, (h, *others))))
    return [part.numpy() for part in new_state]
