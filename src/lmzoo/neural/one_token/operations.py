"""Operations on the arrays of one token: numpy arrays in, new numpy arrays out, computed by compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.neural.one_token.codes import Activation
from lmzoo.stream import EOT

Array = NDArray[np.float32]
Weights = Any
"""The parameters and buffers of a module as arrays, under their names; submodules are attributes of the same kind."""
RowState = Sequence[NDArray[Any]]
"""The state of a network for one sequence: arrays whose first axis has length 1."""


@cache
def _kernels() -> Any:
    """Imports the compiled kernels at their first use, as loading them takes 0.4 s."""
    from lmzoo.neural.one_token import kernels

    return kernels


def affine(x: Array, layer: Weights, activation: Activation = Activation.NONE) -> Array:
    """Returns activation(W x + b), where W and b are the arrays of an `nn.Linear` layer."""
    y = np.empty(len(layer.weight), np.float32)
    _kernels().affine(x, layer.weight, layer.bias, int(activation), y)
    return y


def layer_norm(x: Array, layer: Weights) -> Array:
    """Returns the layer normalization of the vector `x` (D,) with the gain and bias of an `nn.LayerNorm` layer."""
    y = np.empty_like(x)
    _kernels().layer_norm(x, layer.weight, layer.bias, y)
    return y


def rms_norm(x: Array) -> Array:
    """Returns `x` (.., D) divided by its root mean square over the last axis (RMSNorm without gain)."""
    y = np.empty_like(x)
    _kernels().rms_norm(x.ravel(), x.shape[-1], y.ravel())
    return y


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Applies a rotary position embedding to the R vectors in `x` (R, d).

    Each pair (x_i, x_{i + d/2}) is rotated by the angle whose cosine and sine are `cos` and `sin` (d / 2,).
    """
    y = np.empty_like(x)
    _kernels().rotate(x, cos, sin, y)
    return y


def attend(qkv: Array, cache: Array, n_visible: int, size: int) -> tuple[Array, Array]:
    """Computes the attention of one token to itself and to the last `n_visible` tokens of a KV cache.

    `qkv` (3 H d,) holds the query, key and value of the token in H heads of d numbers, and `cache` (1, 2, H, M, d) the
    keys and values of M earlier tokens. Returns the output of the heads (H d,) and the cache of the last `size` tokens,
    this one included.
    """
    _, _, n_heads, _, d = cache.shape
    y, new_cache = np.empty(n_heads * d, np.float32), np.empty((1, 2, n_heads, size, d), np.float32)
    _kernels().attend(qkv, np.ascontiguousarray(cache), n_visible, y, new_cache)
    return y, new_cache


def shift_in(recent: NDArray[Any], newest: object) -> NDArray[Any]:
    """Returns a copy of `recent` (1, N) without its oldest (first) entry and with `newest` at its end."""
    shifted = np.empty_like(recent)
    shifted[:, :-1] = recent[:, 1:]
    shifted[:, -1:] = newest
    return shifted


def context_window(token_id: int, previous_ids: NDArray[np.int64]) -> list[int]:
    """Returns the n-gram that ends with one token: its id and the n - 1 ids before it, newest first.

    `previous_ids` (1, n - 1) are the ids before the token. Ids before an EOT (end-of-text) id are replaced by EOT.
    """
    window = [token_id, *previous_ids[0, ::-1].tolist()]
    if EOT in window:
        n_in_document = window.index(EOT)
        window[n_in_document:] = [EOT] * (len(window) - n_in_document)
    return window
