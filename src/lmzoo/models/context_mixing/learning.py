"""Learns from the bits of a token after it was predicted: takes a gradient step and counts each bit; compiled."""

from __future__ import annotations

import math

from numba import types

from lmzoo.models.context_mixing.arrays import ACCOUNT, LEARNED, MOMENT, N_CURVES, N_LAST_MIXERS, N_MIXERS
from lmzoo.models.context_mixing.counters import COUNTERS, GROUP_BITS, claim, counted
from lmzoo.models.context_mixing.matches import N_MATCHES
from lmzoo.models.context_mixing.mixer import (
    is_mixed,
    key_of,
    slot_of_node,
    squashed,
)
from lmzoo.system.compiled import kernel, read_only, writable

_FIRST_RATE, _LAST_RATE, _RATE_TOKENS = 0.02, 0.001, 50_000
_LAST_MIXER_RATE, _CURVE_RATE = 0.0007, 0.02
_MOST_MEANING, _MOST_TRUST = 1000, 400
_I64, _F32, _F64 = types.int64, types.float32, types.float64


@kernel(_I64, returns=_F64)
def rate_after(n_tokens):
    """Returns the step size (learning rate) of the mixers after `n_tokens` tokens have been learned."""
    return max(_LAST_RATE, _FIRST_RATE * math.exp(-n_tokens / _RATE_TOKENS))


@kernel(writable(_F32, 3), _I64, _I64, read_only(_F32), _F32)
def _step(weights, number, gate, inputs, step):
    """Adds `step` times the inputs of a mixer to its row of weights `gate`."""
    for index in range(inputs.size):
        weights[number, gate, index] += step * inputs[index]


@kernel(LEARNED, ACCOUNT, _I64, _I64, _F64)
def learn_bit(learned, account, row, bit, rate):
    """Updates everything except the counters after a bit whose prediction is recorded in a row of the account.

    `bit` is the value that the bit turned out to have, and `rate` the step size of the mixers. See `predict_bit`.
    """
    if not is_mixed(account.counting[row], account.classes[row]):
        return
    for number in range(N_MIXERS):
        error = bit - squashed(account.values[row, number])
        _step(learned.weights, number, account.gates[row, number], account.inputs[row], rate * error)
    for which in range(N_LAST_MIXERS):
        step = _LAST_MIXER_RATE * (bit - squashed(account.last_values[row, which]))
        for number in range(N_MIXERS):
            weights = learned.last_weights[which, account.last_gates[row, which]]
            weights[number] += step * account.values[row, number]
    below, share = int(account.points[row]), account.points[row] - int(account.points[row])
    for number in range(N_CURVES):
        if account.curve_rows[row, number] < 0:
            continue
        curve = learned.curves[number, account.curve_rows[row, number]]
        error = bit - account.mixed[row] - (1 - share) * curve[below] - share * curve[below + 1]
        curve[below] += _CURVE_RATE * (1 - share) * error
        curve[below + 1] += _CURVE_RATE * share * error
    for which in range(N_MATCHES):
        length = account.classes[row, which]
        if length >= 0:
            right, n = 1.0 if account.predicted[row, which] == bit else 0.0, learned.n_trust[which, length]
            learned.trust[which, length] += (right - learned.trust[which, length]) / (n + 1.5)
            learned.n_trust[which, length] = min(n + 1, _MOST_TRUST)
    for number in range(learned.meanings.shape[0]):
        state = account.states[row, number]
        if state > 0:
            n = learned.n_meanings[number, state]
            learned.meanings[number, state] += (bit - learned.meanings[number, state]) / (n + 1.5)
            learned.n_meanings[number, state] = min(n + 1, _MOST_MEANING)


@kernel(COUNTERS, writable(_I64), MOMENT, _I64, _I64)
def count_bits(counters, n_used, moment, leaf, depth):
    """Counts the bits of a token in the buckets of all contexts.

    `leaf` is the number of the token's leaf in the code tree, and `depth` the number of bits of its code word. For
    `n_used`, see `claim`.
    """
    for start in range(0, depth, GROUP_BITS):
        first = leaf >> (depth - start)
        for number in range(moment.contexts.size):
            bucket = claim(counters, n_used, key_of(moment.contexts[number], number, first))
            for place in range(start, min(start + GROUP_BITS, depth)):
                slot = slot_of_node(leaf >> (depth - place), place)
                bit = (leaf >> (depth - place - 1)) & 1
                counters.slots[bucket, slot] = counted(counters.slots[bucket, slot], bit)
