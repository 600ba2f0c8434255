"""Bengio's neural probabilistic language model, reading one token: mirrors `lmzoo.models.nplm.NPLM.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmzoo.neural.one_token.codes import Activation
from lmzoo.neural.one_token.operations import Array, Ids, StateArrays, Weights, affine, context_windows, shift_in


def read(network: Any, weights: Weights, token_ids: Ids, state: StateArrays) -> tuple[Array, StateArrays]:
    """Reads one token of each of B sequences with the neural probabilistic language model.

    Returns the hidden vectors (B, D) and the new state.
    """
    (previous_ids,) = state
    windows = context_windows(token_ids, previous_ids)  # (B, n - 1)
    x = weights.C.weight[windows].reshape(len(windows), -1)  # (B, (n - 1) d_embed)
    hidden = affine(x, weights.H, Activation.TANH)
    if network.direct:
        hidden = np.concatenate([hidden, x], axis=1)
    return hidden, [shift_in(previous_ids, token_ids)]
