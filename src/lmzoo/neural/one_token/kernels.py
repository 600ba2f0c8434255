"""Compiled kernels for the arithmetic of one token. Each kernel writes its results into its last arguments."""

from __future__ import annotations

import numpy as np
from numba import types

from lmzoo.neural.one_token.codes import Activation
from lmzoo.system.compiled import kernel, read_only, writable

# Plain integers, which numba compiles faster than members of an enumeration
_RELU, _SQUARED_RELU, _GELU, _TANH = (
    int(code) for code in (Activation.RELU, Activation.SQUARED_RELU, Activation.GELU, Activation.TANH)
)
_F32, _I64 = types.float32, types.int64
_ZERO, _ONE = np.float32(0), np.float32(1)
_LAYER_EPSILON = np.float32(1e-5)  # of torch's LayerNorm
_RMS_EPSILON = np.finfo(np.float32).eps  # of torch's rms_norm
_GELU_SCALE, _GELU_CUBE = np.float32(np.sqrt(8 / np.pi)), np.float32(0.044715)


@kernel(read_only(_F32), read_only(_F32, 2), read_only(_F32), _I64, writable(_F32), reassociate=True)
def affine(x, weight, bias, activation, y):
    """Writes activation(weight x + bias) into `y`; an empty `bias` means no bias."""
    for i in range(weight.shape[0]):
        total = _ZERO
        for j in range(weight.shape[1]):
            total += weight[i, j] * x[j]
        y[i] = total
    for i in range(bias.size):
        y[i] += bias[i]
    if activation == _RELU:
        for i in range(y.size):
            y[i] = max(y[i], _ZERO)
    elif activation == _SQUARED_RELU:
        for i in range(y.size):
            y[i] = max(y[i], _ZERO) * y[i]
    elif activation == _GELU:
        for i in range(y.size):
            # (1 + tanh(a)) / 2 = 1 / (1 + exp(-2 a)), and one exponential takes less time than a tanh
            y[i] /= _ONE + np.exp(-_GELU_SCALE * (y[i] + _GELU_CUBE * y[i] * y[i] * y[i]))
    elif activation == _TANH:
        for i in range(y.size):
            y[i] = np.tanh(y[i])


@kernel(read_only(_F32), read_only(_F32), read_only(_F32), writable(_F32), reassociate=True)
def layer_norm(x, weight, bias, y):
    """Writes the layer normalization of the vector `x`, with gain `weight` and `bias`, into `y`."""
    mean, square = _ZERO, _ZERO
    for i in range(x.size):
        mean += x[i]
    mean /= np.float32(x.size)
    for i in range(x.size):
        square += (x[i] - mean) * (x[i] - mean)
    scale = _ONE / np.sqrt(square / np.float32(x.size) + _LAYER_EPSILON)
    for i in range(x.size):
        y[i] = (x[i] - mean) * scale * weight[i] + bias[i]


@kernel(read_only(_F32), _I64, writable(_F32), reassociate=True)
def rms_norm(x, size, y):
    """Divides each block of `size` numbers of `x` by its root mean square, and writes the result to `y`."""
    for start in range(0, x.size, size):
        square = _ZERO
        for i in range(start, start + size):
            square += x[i] * x[i]
        scale = _ONE / np.sqrt(square / np.float32(size) + _RMS_EPSILON)
        for i in range(start, start + size):
            y[i] = x[i] * scale


@kernel(read_only(_F32, 2), read_only(_F32), read_only(_F32), writable(_F32, 2), reassociate=True)
def rotate(x, cos, sin, y):
    """Writes the R vectors of `x` (R, d) into `y` with each pair (x_i, x_{i + d/2}) rotated.

    `cos` and `sin` (d / 2,) are the cosine and sine of the angle of each pair.
    """
    half = cos.size
    for row in range(x.shape[0]):
        for i in range(half):
            y[row, i] = x[row, i] * cos[i] - x[row, half + i] * sin[i]
            y[row, half + i] = x[row, half + i] * cos[i] + x[row, i] * sin[i]


@kernel(read_only(_F32), read_only(_F32, 5), _I64, writable(_F32), writable(_F32, 5), reassociate=True)
def attend(qkv, cache, n_visible, y, new_cache):
    """Computes the attention of one token to itself and to the last `n_visible` tokens of a KV cache.

    `qkv` (3 H d,) holds the query, key and value of the token in H heads of d numbers, and `cache` (1, 2, H, M, d) the
    keys and values of M earlier tokens. Writes the output of the heads into `y` (H d,), and the most recent keys and
    values into `new_cache`, as many as fit.
    """
    n_heads, d, n_kept = cache.shape[2], cache.shape[4], new_cache.shape[3] - 1
    start, kept = cache.shape[3] - n_visible, cache.shape[3] - n_kept
    scale = _ONE / np.sqrt(np.float32(d))
    weights = np.empty(n_visible + 1, np.float32)
    for h in range(n_heads):
        q, k, v = h * d, (n_heads + h) * d, (2 * n_heads + h) * d  # positions in qkv
        itself = _ZERO
        for i in range(d):
            itself += qkv[q + i] * qkv[k + i]
        weights[n_visible] = peak = itself * scale
        for t in range(n_visible):
            product = _ZERO
            for i in range(d):
                product += qkv[q + i] * cache[0, 0, h, start + t, i]
            weights[t] = product * scale
            peak = max(peak, weights[t])
        total = _ZERO
        for t in range(n_visible + 1):
            weights[t] = np.exp(weights[t] - peak)
            total += weights[t]
        for i in range(d):
            y[q + i] = weights[n_visible] / total * qkv[v + i]
        for t in range(n_visible):
            share = weights[t] / total
            for i in range(d):
                y[q + i] += share * cache[0, 1, h, start + t, i]
        if n_kept < 0:  # a window of one token needs no cache
            continue
        for t in range(n_kept):
            for i in range(d):
                new_cache[0, 0, h, t, i] = cache[0, 0, h, kept + t, i]
                new_cache[0, 1, h, t, i] = cache[0, 1, h, kept + t, i]
        for i in range(d):
            new_cache[0, 0, h, n_kept, i] = qkv[k + i]
            new_cache[0, 1, h, n_kept, i] = qkv[v + i]
