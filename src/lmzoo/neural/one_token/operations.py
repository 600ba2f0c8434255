"""Operations on the vectors of one token of each of B sequences: numpy arrays in, new numpy arrays out.

They are computed by compiled kernels, whose calls cost less than those of torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.neural.one_token.codes import Activation
from lmzoo.stream import EOT

Array = NDArray[np.float32]
Ids = NDArray[np.int64]
Weights = Any
"""The parameters and buffers of a module as arrays, under their names; submodules are attributes of the same kind."""
_RMS_EPSILON = float(np.finfo(np.float32).eps)  # of torch's rms_norm
StateArrays = Sequence[NDArray[Any]]
"""The state of a network for B sequences: arrays whose first axis has length B."""


@cache
def _kernels() -> Any:
    """Imports the compiled kernels at their first use, as loading them takes 0.4 s."""
    from lmzoo.neural.one_token import kernels

    return kernels


def affine(x: Array, layer: Weights, activation: Activation = Activation.NONE) -> Array:
    """Returns activation(W x + b) for each row of `x` (B, D); W and b are the arrays of an `nn.Linear` layer."""
    y = np.empty((len(x), len(layer.weight)), np.float32)
    _kernels().affine(x, layer.weight, layer.bias, int(activation), y)
    return y


def layer_norm(x: Array, layer: Weights) -> Array:
    """Returns the layer normalization of each row of `x` (B, D), with the gain and bias of an `nn.LayerNorm` layer."""
    y = np.empty_like(x)
    _kernels().layer_norm(x, layer.weight, layer.bias, y)
    return y


def rms_norm(x: Array, epsilon: float = _RMS_EPSILON) -> Array:
    """Returns `x` (.., D) divided by its root mean square over the last axis (RMSNorm without gain).

    `epsilon` is added to the mean square.
    """
    y = np.empty_like(x)
    _kernels().rms_norm(x.ravel(), x.shape[-1], epsilon, y.ravel())
    return y


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Applies a rotary position embedding to the R vectors in each row of `x` (B, R, d).

    Each pair (x_i, x_{i + d/2}) is rotated by the angle whose cosine and sine are `cos` and `sin` (B, d / 2).
    """
    y = np.empty_like(x)
    _kernels().rotate(x, cos, sin, y)
    return y


def attend_in_band(qkv: Array, cache: Array, n_visible: Ids) -> tuple[Array, Array]:
    """Computes the attention of one token of each of B sequences to itself and to the last tokens of a full KV cache.

    `qkv` (B, 3 H d) holds the query, key and value of each token in H heads of d numbers, and `cache` (B, 2, H, M, d)
    the keys and values of M earlier tokens, of which the last `n_visible` (B,) are attended to. Returns the output of
    the heads (B, H d), and the cache of the last M tokens, this one included.
    """
    n_cached = np.full(len(qkv), cache.shape[3])
    return _attend(qkv, cache, n_cached, n_visible, size=cache.shape[3], n_dropped=1)


def attend_to_all(qkv: Array, cache: Array, n_cached: Ids) -> tuple[Array, Array]:
    """Computes the attention of one token of each of B sequences to itself and to all tokens of a KV cache.

    `qkv` is explained in `attend_in_band`. In the cache (B, 2, H, M, d), the first `n_cached` (B,) tokens are in use.
    Returns the output of the heads (B, H d), and the cache extended by the token.
    """
    return _attend(qkv, cache, n_cached, n_cached, size=int(n_cached.max()) + 1, n_dropped=0)


def _attend(
    qkv: Array, cache: Array, n_cached: Ids, n_visible: Ids, *, size: int, n_dropped: int
) -> tuple[Array, Array]:
    n_rows, _, n_heads, _, d = cache.shape
    y, new_cache = np.empty((n_rows, n_heads * d), np.float32), np.empty((n_rows, 2, n_heads, size, d), np.float32)
    _kernels().attend(qkv, np.ascontiguousarray(cache), n_cached, n_visible, n_dropped, y, new_cache)
    return y, new_cache


def sigmoid(x: Array) -> Array:
    """Returns the sigmoid 1 / (1 + exp(-x)) of each element, computed as a tanh, which cannot overflow."""
    return np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5)


def shift_in(recent: NDArray[Any], newest: NDArray[Any]) -> NDArray[Any]:
    """Returns `recent` (B, N, ..) without the first, oldest entry of each row, and with `newest` (B, ..) at its end."""
    return np.concatenate([recent, newest[:, None]], axis=1)[:, 1:]


def context_windows(token_ids: Ids, previous_ids: Ids) -> Ids:
    """Returns the n-gram that ends with one token of each of B sequences, newest id first: an array (B, n).

    `token_ids` (B,) are the tokens and `previous_ids` (B, n - 1) the ids before them. Ids before an EOT (end-of-text)
    id are replaced by EOT.
    """
    windows = np.concatenate([token_ids[:, None], previous_ids[:, ::-1]], axis=1)
    return np.where(np.logical_or.accumulate(windows == EOT, axis=1), EOT, windows)
