"""Compiled kernels for the arithmetic of one token in each of B sequences.

Each kernel writes its results into its last arguments. It computes every row by itself, with the same additions in the
same order whatever the number of rows, so a sequence gets the same numbers alone and among others.
"""

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
_GELU_SCALE, _GELU_CUBE = np.float32(np.sqrt(8 / np.pi)), np.float32(0.044715)


@kernel(read_only(_F32, 2), read_only(_F32, 2), read_only(_F32), _I64, writable(_F32, 2), reassociate=True)
def affine(x, weight, bias, activation, y):
    """Writes activation(weight x + bias) into `y` for each row of `x` (B, D); an empty `bias` means no bias."""
    n_outputs, d = weight.shape
    n_in_fours = n_outputs - n_outputs % 4
    for i in range(0, n_in_fours, 4):  # four outputs at a time, so that a row of x is loaded once for them
        for row in range(x.shape[0]):  # within the weights, so that these are loaded once for all rows
            total_0 = total_1 = total_2 = total_3 = _ZERO
            for j in range(d):
                total_0 += weight[i, j] * x[row, j]
                total_1 += weight[i + 1, j] * x[row, j]
                total_2 += weight[i + 2, j] * x[row, j]
                total_3 += weight[i + 3, j] * x[row, j]
            y[row, i], y[row, i + 1], y[row, i + 2], y[row, i + 3] = total_0, total_1, total_2, total_3
    for i in range(n_in_fours, n_outputs):
        for row in range(x.shape[0]):
            total_0 = _ZERO
            for j in range(d):
                total_0 += weight[i, j] * x[row, j]
            y[row, i] = total_0
    for row in range(y.shape[0]):
        for i in range(bias.size):
            y[row, i] += bias[i]
        if activation == _RELU:
            for i in range(y.shape[1]):
                y[row, i] = max(y[row, i], _ZERO)
        elif activation == _SQUARED_RELU:
            for i in range(y.shape[1]):
                y[row, i] = max(y[row, i], _ZERO) * y[row, i]
        elif activation == _GELU:
            for i in range(y.shape[1]):
                # (1 + tanh(a)) / 2 = 1 / (1 + exp(-2 a)), and one exponential takes less time than a tanh
                a = y[row, i]
                y[row, i] = a / (_ONE + np.exp(-_GELU_SCALE * (a + _GELU_CUBE * a * a * a)))
        elif activation == _TANH:
            for i in range(y.shape[1]):
                y[row, i] = np.tanh(y[row, i])


@kernel(read_only(_F32, 2), read_only(_F32), read_only(_F32), writable(_F32, 2), reassociate=True)
def layer_norm(x, weight, bias, y):
    """Writes the layer normalization of each row of `x` (B, D), with gain `weight` and `bias`, into `y`."""
    size = np.float32(x.shape[1])
    for row in range(x.shape[0]):
        mean, square = _ZERO, _ZERO
        for i in range(x.shape[1]):
            mean += x[row, i]
        mean /= size
        for i in range(x.shape[1]):
            square += (x[row, i] - mean) * (x[row, i] - mean)
        scale = _ONE / np.sqrt(square / size + _LAYER_EPSILON)
        for i in range(x.shape[1]):
            y[row, i] = (x[row, i] - mean) * scale * weight[i] + bias[i]


@kernel(read_only(_F32), _I64, _F32, writable(_F32), reassociate=True)
def rms_norm(x, size, epsilon, y):
    """Divides each block of `size` numbers of `x` by its root mean square, and writes the result to `y`.

    `epsilon` is added to the mean square.
    """
    for start in range(0, x.size, size):
        square = _ZERO
        for i in range(start, start + size):
            square += x[i] * x[i]
        scale = _ONE / np.sqrt(square / np.float32(size) + epsilon)
        for i in range(start, start + size):
            y[i] = x[i] * scale


@kernel(read_only(_F32, 3), read_only(_F32, 2), read_only(_F32, 2), writable(_F32, 3), reassociate=True)
def rotate(x, cos, sin, y):
    """Writes the R vectors of each row of `x` (B, R, d) into `y` with each pair (x_i, x_{i + d/2}) rotated.

    `cos` and `sin` (B, d / 2) are the cosine and sine of the angle of each pair.
    """
    half = cos.shape[1]
    for row in range(x.shape[0]):
        for r in range(x.shape[1]):
            for i in range(half):
                left, right = x[row, r, i], x[row, r, half + i]
                y[row, r, i] = left * cos[row, i] - right * sin[row, i]
                y[row, r, half + i] = right * cos[row, i] + left * sin[row, i]


@kernel(
    read_only(_F32, 2), read_only(_F32, 5), read_only(_I64), read_only(_I64), _I64, writable(_F32, 2),
    writable(_F32, 5), reassociate=True,
)  # fmt: skip
def attend(qkv, cache, n_cached, n_visible, n_dropped, y, new_cache):
    """Computes the attention of one token of each of B sequences to itself and to visible tokens of a KV cache.

    `qkv` (B, 3 H d) holds the query, key and value of each token in H heads of d numbers. `cache` (B, 2, H, M, d) holds
    the keys and values of earlier tokens. Of those of sequence b, the first `n_cached[b]` are in use, and the last
    `n_visible[b]` of these are attended to. Writes the output of the heads into `y` (B, H d), and into `new_cache` the
    keys and values in use, without the first `n_dropped`, then those of the token, and zeros up to the end.
    """
    n_heads, d = cache.shape[2], cache.shape[4]
    scale = _ONE / np.sqrt(np.float32(d))
    weights = np.empty(cache.shape[3] + 1, np.float32)
    for row in range(qkv.shape[0]):
        n, n_kept = n_visible[row], n_cached[row] - n_dropped
        first = n_cached[row] - n
        for h in range(n_heads):
            q, k, v = h * d, (n_heads + h) * d, (2 * n_heads + h) * d  # positions in qkv
            itself = _ZERO
            for i in range(d):
                itself += qkv[row, q + i] * qkv[row, k + i]
            weights[n] = peak = itself * scale
            for t in range(n):
                product = _ZERO
                for i in range(d):
                    product += qkv[row, q + i] * cache[row, 0, h, first + t, i]
                weights[t] = product * scale
                peak = max(peak, weights[t])
            total = _ZERO
            for t in range(n + 1):
                weights[t] = np.exp(weights[t] - peak)
                total += weights[t]
            for i in range(d):
                y[row, q + i] = weights[n] / total * qkv[row, v + i]
            for t in range(n):
                share = weights[t] / total
                for i in range(d):
                    y[row, q + i] += share * cache[row, 1, h, first + t, i]
            if n_kept < 0:  # a window of one token needs no cache
                continue
            for t in range(n_kept):
                for i in range(d):
                    new_cache[row, 0, h, t, i] = cache[row, 0, h, n_dropped + t, i]
                    new_cache[row, 1, h, t, i] = cache[row, 1, h, n_dropped + t, i]
            for i in range(d):
                new_cache[row, 0, h, n_kept, i] = qkv[row, k + i]
                new_cache[row, 1, h, n_kept, i] = qkv[row, v + i]
            for t in range(n_kept + 1, new_cache.shape[3]):
                for i in range(d):
                    new_cache[row, 0, h, t, i] = new_cache[row, 1, h, t, i] = _ZERO
