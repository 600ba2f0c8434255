"""Recurrent networks, reading one token: mirrors `lmzoo.models.recurrent.Recurrent.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lmzoo.neural.layers.recurrence import Cell
from lmzoo.neural.one_token.operations import (
    Array,
    Ids,
    StateArrays,
    Weights,
    affine,
    context_windows,
    shift_in,
    sigmoid,
)
from lmzoo.stream import EOT


def read(network: Any, weights: Weights, token_ids: Ids, state: StateArrays) -> tuple[Array, StateArrays]:
    """Reads one token of each of B sequences with a recurrent network.

    Returns the hidden vectors (B, D) and the new state.
    """
    starts = token_ids == EOT
    previous_ids = state[-1]  # used only if the network has direct connections from n-grams
    if starts.any():  # a document starts
        state = [np.where(starts[:, None], np.float32(0), part) for part in state]
    x = weights.embedding.weight[token_ids]
    cell, new_state = network.cell, []
    for index, layer in enumerate(weights.layers):
        start = index * cell.state_size
        new = _step(cell, layer, x, state[start : start + cell.state_size])
        x = new[0]
        new_state += new
    hidden = affine(x, weights.projection)
    if network.maxent is None:
        return hidden, new_state
    windows = context_windows(token_ids, previous_ids)  # (B, n - 1)
    return np.concatenate([hidden, windows], axis=1, dtype=np.float32), [*new_state, shift_in(previous_ids, token_ids)]


def add_to_logits(network: Any, weights: Weights, hidden: Array, logits: Array) -> None:
    """Adds the weights of the n-grams to logits (B, V): mirrors `lmzoo.models.recurrent.Recurrent.logits`.

    `hidden` are the hidden vectors (B, D), which end with token ids if the network has such weights.
    """
    if network.maxent is None:
        return
    windows = hidden[:, network.head.in_features :].astype(np.int64)  # (B, n - 1)
    for start in network.maxent.starts_of(windows):
        for row, first in enumerate(start.tolist()):
            logits[row] += weights.maxent.table[first : first + logits.shape[1]]


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
