"""The gated convolutional network, reading one token: mirrors `lmzoo.models.gated_conv.GatedConvolutions.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmzoo.neural.one_token.operations import Array, RowState, Weights, affine, rms_norm, shift_in, sigmoid
from lmzoo.stream import EOT


def read(network: Any, weights: Weights, token_id: int, state: RowState) -> tuple[Array, RowState]:
    """Reads one token with the gated convolutional network: returns the hidden vector and the new state."""
    n_read, *inputs = state
    if token_id == EOT:
        n_read = np.zeros_like(n_read)
    n_before = min(int(n_read[0]), network.width - 1)  # tokens of the document that the window holds before this one
    x = rms_norm(weights.embedding.weight[token_id])
    new_inputs = []
    for block, previous in zip(weights.blocks, inputs, strict=True):
        y = rms_norm(x)
        window = np.zeros((network.width, len(y)), np.float32)  # newest first
        window[0], window[1 : n_before + 1] = y, previous[0, ::-1][:n_before]
        linear_and_gate = affine(window.ravel(), block.convolution.linear)
        gated: Array = linear_and_gate[: len(y)] * sigmoid(linear_and_gate[len(y) :])
        x = x + gated
        new_inputs.append(shift_in(previous, y))
    return affine(rms_norm(x), weights.projection), [n_read + 1, *new_inputs]
