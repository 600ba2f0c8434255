"""Converts the probabilities of tokens that other models predict to probabilities of bits, in compiled code.

The probability of a 1 at a node of the code tree is the total probability of the tokens below its right child, divided
by that of the tokens below the node.
"""

from __future__ import annotations

import math

from numba import types

from lmzoo.models.bitwise.code import code_width, is_inner, leaf_of
from lmzoo.system.compiled import kernel, read_only, writable

PER_MODEL = 2
"""Number of inputs of the mixers from each model: ln(q / (1 - q)) and q - 1/2, where q is the probability of a 1."""
_LIMIT, _LEAST = 9.0, 1e-30
_I64, _F32, _F64 = types.int64, types.float32, types.float64


@kernel(read_only(_F64, 2), _I64, writable(_F64, 2))
def add_up(given, vocab_size, sums):
    """Writes the total probability of the tokens below each of the N nodes of the code tree to `sums` (M, N).

    `given` (M, V) holds the log-probabilities, in nats, of all V tokens under each of M models.
    """
    for number in range(given.shape[0]):
        for token_id in range(vocab_size):
            sums[number, leaf_of(token_id, vocab_size)] = max(math.exp(given[number, token_id]), _LEAST)
        for node in range(2 * code_width(vocab_size) - 1, 0, -1):
            if is_inner(node, vocab_size):
                sums[number, node] = sums[number, 2 * node] + sums[number, 2 * node + 1]


@kernel(read_only(_F64, 2), _I64, writable(_F32))
def ask(sums, node, inputs):
    """Writes the inputs of the mixers from M models for the bit at a node; `sums` (M, N) is the result of `add_up`."""
    for number in range(sums.shape[0]):
        zero, one, at = sums[number, 2 * node], sums[number, 2 * node + 1], PER_MODEL * number
        inputs[at] = max(-_LIMIT, min(_LIMIT, math.log(one / zero)))
        inputs[at + 1] = one / (zero + one) - 0.5
