"""The gated convolutional network, reading one token: mirrors `lmzoo.models.gated_conv.GatedConvolutions.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmzoo.neural.one_token.operations import Array, Ids, StateArrays, Weights, affine, rms_norm, sigmoid
from lmzoo.stream import EOT


def read(network: Any, weights: Weights, token_ids: Ids, state: StateArrays) -> tuple[Array, StateArrays]:
    """Reads one token of each of B sequences with the gated convolutional network.

    Returns the hidden vectors (B, D) and the new state.
    """
    n_read, *inputs = state
    n_read = np.where(token_ids == EOT, 0, n_read)  # EOT starts a document
    in_document = n_read[:, None] >= np.arange(1, network.width)  # (B, k - 1), newest first
    x = rms_norm(weights.embedding.weight[token_ids])
    new_inputs = []
    for block, previous in zip(weights.blocks, inputs, strict=True):
        y = rms_norm(x)
        before = previous[:, ::-1] * in_document[:, :, None]  # (B, k - 1, D)
        window = np.concatenate([y[:, None], before], axis=1).reshape(len(y), -1)  # (B, k D)
        linear_and_gate, width = affine(window, block.convolution.linear), y.shape[1]
        gated: Array = linear_and_gate[:, :width] * sigmoid(linear_and_gate[:, width:])
        x = x + gated
        new_inputs.append(np.concatenate([previous, y[:, None]], axis=1)[:, 1:])
    return affine(rms_norm(x), weights.projection), [n_read + 1, *new_inputs]
