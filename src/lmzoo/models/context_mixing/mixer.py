"""Gated logistic mixing: computes the probability of a bit from the counters of all its contexts, in compiled code.

Each context whose slot has counted a bit contributes three inputs to a mixer:

    ln(q / (1 - q)),  q - 1/2  and  1/2 ln(s / (1 - s))

Here q is the probability of a 1 in the state of the slot, which is learned for each kind of context, and s is the share
of ones in the slot. Each match contributes the first two of these inputs, with a q that is learned for each length of a
match. Each other model that is an input contributes the same two, with a q computed from its probabilities of tokens.
The last input is a constant. With the inputs x and the weights w, a mixer is a logistic regression,
p = 1 / (1 + exp(-w x)). Gradient steps on -ln p(bit) change the weights: w += rate (bit - p) x (Mahoney 2005, PAQ6 and
PAQ7). Each mixer is gated: it has many rows of weights, one of which is selected by a small context. The values w x of
ten mixers, whose small contexts differ, are the inputs of three last mixers, which are gated in the same way. The
average of the values of the last mixers is the log-odds of a 1.

The result is refined by adaptive probability maps (secondary symbol estimation): for each of several contexts, a curve
maps a predicted probability to the share of ones that was observed after such predictions. The final probability is
half the prediction of the last mixers and half the average of these curves.

A context that has counted no bit at a node of the code tree is skipped there and at all nodes below: it is not looked
up in the hash table, and its inputs are 0. If only contexts that contain no tokens of the text are left, and neither a
match nor another model predicts the bit, nothing is mixed: the probability is the share of ones in the slot of the
context of no tokens. If the vocabulary is large, this is the case at many nodes, which saves time.

All probabilities are computed by one function, `predict_bit`, whether they are needed for predicting or for learning.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from lmzoo.models.bitwise.code import hash_combine, n_bits
from lmzoo.models.context_mixing.arrays import (
    ACCOUNT,
    LEARNED,
    MOMENT,
    N_CURVES,
    N_LAST_MIXERS,
    N_MIXERS,
    N_POINTS,
    N_ROWS,
    PER_CONTEXT,
    PER_MATCH,
)
from lmzoo.models.context_mixing.contexts import MAX_ORDER, PREDICTED, hashed
from lmzoo.models.context_mixing.counters import (
    COUNTERS,
    GROUP_BITS,
    NONE,
    STRETCHED,
    find,
    prefetch_bucket,
    slot_at,
    state_of,
    stretched_share,
)
from lmzoo.models.context_mixing.matches import N_MATCHES, length_class
from lmzoo.models.context_mixing.other_models import ask
from lmzoo.system.compiled import kernel, read_only, writable

ALL_CONTEXTS = (1 << 62) - 1
"""A number whose bits choose all contexts; see `open_buckets`."""
LEAST = 1e-6
"""Smallest probability that a bit can have."""

_WITHOUT_TOKENS = 1 | 1 << PREDICTED
_HAS_MODELS = 1 << 61  # set in `Account.counting` if there are other models, which predict every bit
_SHARE_SCALE, _CONSTANT = 0.5, 0.3
_LIMIT, _REACH = 12.0, 8.0
_I64, _U32, _F32, _F64 = types.int64, types.uint32, types.float32, types.float64


@kernel(_I64, returns=_I64)
def lowest(chosen):
    """Returns the number of the lowest bit that is 1 in a number above 0, which has a bit for each context."""
    return n_bits(chosen & -chosen)


@kernel(_I64, _I64, _I64, returns=_I64)
def key_of(context, number, node):
    """Returns the key of the bucket that counts the bits after a node of the code tree in one context.

    `context` is the hash value of the context, and `number` the number of its kind.
    """
    return hash_combine(hash_combine(context, node), number)


@kernel(COUNTERS, MOMENT, _I64, _I64)
def prefetch_buckets(counters, moment, node, chosen):
    """Prefetches the buckets of contexts, for an `open_buckets` that follows."""
    left = chosen & ((np.int64(1) << moment.contexts.size) - 1) | 1
    while left != 0:
        number = lowest(left)
        left &= left - 1
        prefetch_bucket(counters, key_of(moment.contexts[number], number, node))


@kernel(COUNTERS, MOMENT, _I64, _I64, returns=_I64)
def open_buckets(counters, moment, node, chosen):
    """Finds the buckets of contexts for the three bits after a node of the code tree; sets `moment.rows`.

    `chosen` has a bit for each context, the lowest for context 0. Contexts whose bit is 0 are not looked up, except the
    context of no tokens, context 0. Returns a number in which only the bits of contexts that have a bucket are 1.
    """
    left, found = chosen & ((np.int64(1) << moment.contexts.size) - 1) | 1, np.int64(0)
    while left != 0:
        number = lowest(left)
        left &= left - 1
        moment.rows[number] = find(counters, key_of(moment.contexts[number], number, node))
        if moment.rows[number] != NONE:
            found |= np.int64(1) << number
    return found


@kernel(_F64, returns=_F64)
def stretched(prob):
    """Returns ln(p / (1 - p)), from a table of 4,096 values."""
    return STRETCHED[min(int(prob * STRETCHED.size), STRETCHED.size - 1)]


@kernel(_F64, returns=_F64)
def squashed(value):
    """Returns the probability p for which ln(p / (1 - p)) is `value`."""
    return 1 / (1 + math.exp(-value))


@kernel(_I64, _I64, returns=_I64)
def slot_of_node(node, place):
    """Returns the number of the slot that counts the bits at a node, in the bucket for its group of three bits.

    `place` is the number of bits of the code word before the counted bit.
    """
    first = place % GROUP_BITS
    return (1 << first) | (node & ((1 << first) - 1))


@kernel(COUNTERS, read_only(_F32, 2), read_only(_I64), _I64, _I64, writable(_F32), writable(_I64), returns=_I64)
def _look_up(counters, meanings, rows, found, slot, inputs, states):
    """Looks up a slot in the bucket of each of C contexts, and writes its inputs and its state.

    - `meanings` (C, 1024): see `Learned`. `rows` (C,): the rows of the buckets in `counters`.
    - `found`: which contexts have a bucket; the result of `open_buckets`.
    - `inputs` (I,): receives the inputs of the mixers that come from the contexts.
    - `states` (C,): receives the states of the slots; 0 for contexts that have counted no bit.

    Returns a number with a bit for each context, which is 1 if the context has counted a bit; see `open_buckets`.
    """
    counting, left = np.int64(0), found
    inputs[:], states[:] = 0, 0
    while left != 0:
        number = lowest(left)
        left &= left - 1
        content = slot_at(counters, rows[number], slot)
        state, at = state_of(content), PER_CONTEXT * number
        if state > 0:
            states[number], prob = state, meanings[number, state]
            inputs[at], inputs[at + 1] = stretched(prob), prob - 0.5
            inputs[at + 2] = _SHARE_SCALE * stretched_share(content)
            counting |= np.int64(1) << number
    return counting


@kernel(read_only(_F64, 2), MOMENT, _I64, _I64, writable(_F32), writable(_I64), writable(_I64))
def _look_ahead(trust, moment, node, place, inputs, classes, predicted):
    """Writes the inputs (4,) that come from the matches, the classes (2,) of their lengths, and their bits (2,)."""
    for which in range(N_MATCHES):
        at, leaf, depth = PER_MATCH * which, moment.leaves[which], n_bits(moment.leaves[which])
        inputs[at] = inputs[at + 1] = 0
        classes[which] = -1
        if place < depth and (leaf >> (depth - place)) == node:
            bit = (leaf >> (depth - place - 1)) & 1
            length = length_class(moment.lengths[which])
            classes[which], predicted[which] = length, bit
            prob, sign = trust[which, length], 2 * bit - 1
            inputs[at], inputs[at + 1] = sign * stretched(prob), sign * (prob - 0.5)


@kernel(read_only(_F32, 2), read_only(_I64), _I64, returns=_I64)
def _level(meanings, states, number):
    """Returns 0 if a context has counted no bit, or else the class of its probability of a 1, from 1 (low) to 4."""
    prob = meanings[number, states[number]]
    return 0 if states[number] == 0 else 1 if prob < 0.05 else 2 if prob < 0.5 else 3 if prob < 0.95 else 4


@kernel(read_only(_F32, 2), read_only(_I64), _I64, returns=_I64)
def _certainty(meanings, states, number):
    """Returns 0 if a context has counted no bit, 2 if it is nearly certain of the next bit, and 1 otherwise."""
    return 0 if states[number] == 0 else 2 if abs(meanings[number, states[number]] - 0.5) > 0.48 else 1


@kernel(LEARNED, MOMENT, _I64, _I64, ACCOUNT, _I64)
def _choose(learned, moment, node, place, account, row):
    """Selects rows of weights and curves by the small contexts of a bit; writes their numbers to the account."""
    meanings, states, order = learned.meanings, account.states[row], MAX_ORDER
    while order > 0 and states[order] == 0:
        order -= 1
    last, second, third = moment.recent[0], moment.recent[1], moment.recent[2]
    short = node if node < N_ROWS else hash_combine(node, 1) & (N_ROWS - 1)
    match = 0 if account.classes[row, 0] >= 0 else 1
    length = account.classes[row, match]
    gates, last_gates, curve_rows = account.gates[row], account.last_gates[row], account.curve_rows[row]
    gates[0] = short
    gates[1] = 8 * (0 if length < 0 else min(1 + length // 4, 15)) + order
    gates[2], gates[3], gates[4] = last & (N_ROWS - 1), second & (N_ROWS - 1), third & (N_ROWS - 1)
    gates[5] = 8 * min(place, 15) + order
    gates[6] = 0 if length < 0 else moment.leaves[match] & (N_ROWS - 1)
    gates[7] = gates[8] = gates[9] = 0
    for number in range(3, MAX_ORDER):
        gates[7] = 5 * gates[7] + _level(meanings, states, number)
        gates[8] = 5 * gates[8] + _level(meanings, states, number + MAX_ORDER + 2)
    for number in range(2, MAX_ORDER + 1):
        gates[9] = 3 * gates[9] + _certainty(meanings, states, number)
    last_gates[0], last_gates[1], last_gates[2] = short, 8 * (0 if length < 0 else 1 + length // 3) + order, gates[2]
    curve_rows[0], curve_rows[1:] = short, -1
    most = learned.curves.shape[1] - 1
    if order > 0:
        curve_rows[1] = hashed((last, node)) & most
    if order > 1:
        curve_rows[2] = hash_combine(hashed((last, second)), node) & most
    if order > 2:
        curve_rows[3] = hash_combine(hashed((last, second, third)), node) & most


@kernel(read_only(_F32, 3), _I64, _I64, read_only(_F32), returns=_F64, reassociate=True)
def _dot(weights, number, gate, inputs):
    """Returns the result w x of the mixer with the number `number` and its row of weights `gate`."""
    total = np.float32(0)
    for index in range(inputs.size):
        total += weights[number, gate, index] * inputs[index]
    return np.float64(total)


@kernel(_U32, returns=_F64)
def unmixed(slot):
    """Returns the probability of a 1 at a node where nothing is mixed, given the slot of the context of no tokens."""
    return max(LEAST, min(1 - LEAST, (slot >> 16) / 65536)) if slot > 0 else 0.5


@kernel(_I64, read_only(_I64), returns=types.boolean)
def is_mixed(counting, classes):
    """Returns True if a context with tokens has counted a bit at a node, or a match or a model predicts the bit.

    `counting` and `classes` (2,) are those of an `Account`.
    """
    return counting & ~_WITHOUT_TOKENS != 0 or classes[0] >= 0 or classes[1] >= 0


@kernel(COUNTERS, LEARNED, MOMENT, _I64, _I64, _I64, ACCOUNT, _I64, returns=_F64)
def predict_bit(counters, learned, moment, found, node, place, account, row):
    """Returns the probability that the bit after a node of the code tree is 1, and fills a row of the account.

    `found` is the result of `open_buckets` for the group of three bits to which this bit belongs. `place` is the number
    of bits of the code word before this bit, and `row` the row of the account.
    """
    inputs, n_first = account.inputs[row], PER_CONTEXT * moment.rows.size
    account.counting[row] = _look_up(
        counters, learned.meanings, moment.rows, found, slot_of_node(node, place), inputs, account.states[row]
    )
    _look_ahead(learned.trust, moment, node, place, inputs[n_first:], account.classes[row], account.predicted[row])
    if moment.sums.shape[0] > 0:
        account.counting[row] |= _HAS_MODELS
        ask(moment.sums, node, inputs[n_first + PER_MATCH * N_MATCHES :])
    if not is_mixed(account.counting[row], account.classes[row]):
        return unmixed(slot_at(counters, moment.rows[0], slot_of_node(node, place)))
    _choose(learned, moment, node, place, account, row)
    inputs[inputs.size - 1] = _CONSTANT
    for number in range(N_MIXERS):
        value = _dot(learned.weights, number, account.gates[row, number], inputs)
        account.values[row, number] = max(-_LIMIT, min(_LIMIT, value))
    total = 0.0
    for which in range(N_LAST_MIXERS):
        value, last_gate = 0.0, account.last_gates[row, which]
        for number in range(N_MIXERS):
            value += learned.last_weights[which, last_gate, number] * account.values[row, number]
        account.last_values[row, which] = max(-_LIMIT, min(_LIMIT, value))
        total += account.last_values[row, which] / N_LAST_MIXERS
    prob = squashed(total)
    point = (max(-_REACH, min(_REACH - 1e-6, total)) + _REACH) * ((N_POINTS - 1) / (2 * _REACH))
    below, share = int(point), point - int(point)
    correction = 0.0
    for number in range(N_CURVES):
        curve_row = account.curve_rows[row, number]
        if curve_row >= 0:
            at = learned.curves[number, curve_row, below], learned.curves[number, curve_row, below + 1]
            correction += (1 - share) * at[0] + share * at[1]
    account.points[row], account.mixed[row] = point, prob
    return max(LEAST, min(1 - LEAST, prob + correction / (2 * N_CURVES)))
