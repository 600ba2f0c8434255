"""The arithmetic of one token in one row, compiled; `single` says when. The last arrays of each kernel are filled."""

from __future__ import annotations

import numpy as np
from numba import types

from lmzoo.neural.single import GELU, RELU, SQUARED_RELU, TANH
from lmzoo.system.compiled import kernel, read, write

_F32, _I64 = types.float32, types.int64
_ZERO, _ONE = np.float32(0), np.float32(1)
_LAYER_EPSILON = np.float32(1e-5)  # of torch's LayerNorm
_RMS_EPSILON = np.finfo(np.float32).eps  # of torch's rms_norm
_GELU_SCALE, _GELU_CUBE = np.float32(np.sqrt(8 / np.pi)), np.float32(0.044715)


@kernel(read(_F32), read(_F32, 2), read(_F32), _I64, write(_F32), reassociate=True)
def affine(x, weight, bias, activation, y):
    """y = activation(weight x + bias); an empty bias is none."""
    for i in range(weight.shape[0]):
        total = _ZERO
        for j in range(weight.shape[1]):
            total += weight[i, j] * x[j]
        y[i] = total
    for i in range(bias.size):
        y[i] += bias[i]
    if activation == RELU:
        for i in range(y.size):
            y[i] = max(y[i], _ZERO)
    elif activation == SQUARED_RELU:
        for i in range(y.size):
            y[i] = max(y[i], _ZERO) * y[i]
    elif activation == GELU:
        for i in range(y.size):
            # (1 + tanh(a)) / 2 = 1 / (1 + exp(-2 a)), and one exponential takes less time than a tanh
            y[i] /= _ONE + np.exp(-_GELU_SCALE * (y[i] + _GELU_CUBE * y[i] * y[i] * y[i]))
    elif activation == TANH:
        for i in range(y.size):
            y[i] = np.tanh(y[i])


@kernel(read(_F32), read(_F32), read(_F32), write(_F32), reassociate=True)
def layer_norm(x, weight, bias, y):
    mean, square = _ZERO, _ZERO
    for i in range(x.size):
        mean += x[i]
    mean /= np.float32(x.size)
    for i in range(x.size):
        square += (x[i] - mean) * (x[i] - mean)
    scale = _ONE / np.sqrt(square / np.float32(x.size) + _LAYER_EPSILON)
    for i in range(x.size):
        y[i] = (x[i] - mean) * scale * weight[i] + bias[i]


@kernel(read(_F32), _I64, write(_F32), reassociate=True)
def rms_norm(x, size, y):
    """Of each `size` numbers of x."""
    for start in range(0, x.size, size):
        square = _ZERO
        for i in range(start, start + size):
            square += x[i] * x[i]
        scale = _ONE / np.sqrt(square / np.float32(size) + _RMS_EPSILON)
        for i in range(start, start + size):
            y[i] = x[i] * scale


@kernel(read(_F32, 2), read(_F32), read(_F32), write(_F32, 2), reassociate=True)
def rotate(x, cos, sin, y):
    """Turns each pair (x_i, x_{i + d/2}) of each row of x (R, d) by the angle with cos and sin (d / 2,)."""
    half = cos.size
    for row in range(x.shape[0]):
        for i in range(half):
            y[row, i] = x[row, i] * cos[i] - x[row, half + i] * sin[i]
            y[row, half + i] = x[row, half + i] * cos[i] + x[row, i] * sin[i]


@kernel(read(_F32), read(_F32, 5), _I64, write(_F32), write(_F32, 5), reassociate=True)
def attend(qkv, cached, n_seen, y, after):
    """q, k and v (3 H d,) of a token, and cached keys and values (1, 2, H, M, d) -> y (H d,), and the next cache.

    The token sees the last `n_seen` keys of the cache, and its own. `after` gets the last of all, as many as it holds.
    """
    n_heads, d, n_kept = cached.shape[2], cached.shape[4], after.shape[3] - 1
    start, kept = cached.shape[3] - n_seen, cached.shape[3] - n_kept
    scale = _ONE / np.sqrt(np.float32(d))
    weights = np.empty(n_seen + 1, np.float32)
    for h in range(n_heads):
        q, k, v = h * d, (n_heads + h) * d, (2 * n_heads + h) * d  # places in qkv
        own = _ZERO
        for i in range(d):
            own += qkv[q + i] * qkv[k + i]
        weights[n_seen] = peak = own * scale
        for t in range(n_seen):
            product = _ZERO
            for i in range(d):
                product += qkv[q + i] * cached[0, 0, h, start + t, i]
            weights[t] = product * scale
            peak = max(peak, weights[t])
        total = _ZERO
        for t in range(n_seen + 1):
            weights[t] = np.exp(weights[t] - peak)
            total += weights[t]
        for i in range(d):
            y[q + i] = weights[n_seen] / total * qkv[v + i]
        for t in range(n_seen):
            share = weights[t] / total
            for i in range(d):
                y[q + i] += share * cached[0, 1, h, start + t, i]
        if n_kept < 0:  # after a window of one token nothing is kept
            continue
        for t in range(n_kept):
            for i in range(d):
                after[0, 0, h, t, i] = cached[0, 0, h, kept + t, i]
                after[0, 1, h, t, i] = cached[0, 1, h, kept + t, i]
        for i in range(d):
            after[0, 0, h, n_kept, i] = qkv[k + i]
            after[0, 1, h, n_kept, i] = qkv[v + i]
