"""Bengio's neural probabilistic language model, reading one token: mirrors `lmzoo.models.nplm.NPLM.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmzoo.neural.one_token.codes import Activation
from lmzoo.neural.one_token.operations import Array, RowState, Weights, affine, context_window, shift_in


def read(network: Any, weights: Weights, token_id: int, state: RowState) -> tuple[Array, RowState]:
    """Reads one token with the neural probabilistic language model: returns the hidden vector and the new state."""
    (previous_ids,) = state
    x = weights.C.weight[context_window(token_id, previous_ids)].ravel()  # ((n - 1) d_embed,)
    hidden = affine(x, weights.H, Activation.TANH)
    if network.direct:
        hidden = np.concatenate([hidden, x])
    return hidden, [shift_in(previous_ids, token_id)]
