"""Gated logistic mixing: the probability of a bit from the counters of all its contexts, and learning, compiled.

The inputs x of a mixer are, for each context whose slot has counted a bit,

    ln(q / (1 - q)),  q - 1/2  and  1/2 ln(s / (1 - s))

with the probability q that the state of the slot means, which is learned for each kind of context, and the share s of
ones in the slot; then the same of q for each match, and a constant. With p = 1 / (1 + exp(-w x)), a mixer is a logistic
regression with the weights w, which a gradient step on -ln p(bit) changes: w += rate (bit - p) x (Mahoney 2005, PAQ6
and PAQ7). The mixer is gated: it has many rows of weights, and a small context selects one. Seven mixers, with
different such contexts, are combined by a last one, whose inputs are the values w x of the others.

The result is refined by adaptive probability maps (secondary symbol estimation): for each of several contexts, a curve
maps the probability to what it has meant before. Half of the final probability is the average of these curves.

The probability is computed in double precision, and is the same function of the state everywhere.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.bitwise.code import mixed
from lmzoo.models.context_mixing.contexts import MAX_ORDER, N_RECENT, hashed
from lmzoo.models.context_mixing.counters import (
    COUNTERS,
    GROUP_BITS,
    N_STATES,
    STRETCHED,
    find,
    slot_at,
    state_of,
    stretched_share,
)
from lmzoo.models.context_mixing.matches import N_LENGTHS, N_MATCHES, length_class
from lmzoo.system.compiled import kernel, read_only, writable

N_MIXERS, N_ROWS = 7, 256
N_CURVES, N_POINTS = 4, 25
PER_CONTEXT, PER_MATCH = 3, 2
BITS = 40
"""Number of bits for which an `Account` has room: more than any code word has."""
LEAST = 1e-6
"""Least probability of a bit."""

_SHARE_SCALE, _CONSTANT = 0.5, 0.3
_LIMIT, _REACH = 12.0, 8.0
_FIRST_WEIGHTS = (0.15, 0.0, 0.1)
_FIRST_MATCH_WEIGHT = 0.2
_I64, _F64 = types.int64, types.float64


class Learned(NamedTuple):
    """All that is learned besides the counters, for C kinds of contexts and I inputs of a mixer."""

    meanings: NDArray[np.float64]
    """(C, 1024) the probability of a 1 in each state of a slot."""
    n_meanings: NDArray[np.float64]
    """(C, 1024) the number of bits from which each was learned, up to a limit."""
    trust: NDArray[np.float64]
    """(2, 64) the probability that the bit which a match predicts is right, for each length of the match."""
    n_trust: NDArray[np.float64]
    """(2, 64) the number of bits from which each was learned, up to a limit."""
    weights: NDArray[np.float64]
    """(7, 256, I) the weights of the mixers."""
    last_weights: NDArray[np.float64]
    """(256, 7) the weights of the last mixer."""
    curves: NDArray[np.float32]
    """(4, P, 25) what each curve adds to the probability, at points of equal distance in ln(p / (1 - p))."""


class Moment(NamedTuple):
    """What the prediction of a token starts from."""

    contexts: NDArray[np.int64]
    """(C,) hash values of the contexts."""
    recent: NDArray[np.int64]
    """(4,) the last tokens."""
    leaves: NDArray[np.int64]
    """(2,) the leaves of the tokens that the matches predict; 0 if there is no match."""
    lengths: NDArray[np.int64]
    """(2,) the lengths of the matches."""
    rows: NDArray[np.int64]
    """(C,) rows of the buckets of the contexts for the next bits; see `open_buckets`."""


class Account(NamedTuple):
    """How the bits of a token were predicted, one row for each bit: what is needed in order to learn from them."""

    inputs: NDArray[np.float64]
    """(40, I) the inputs of the mixers."""
    states: NDArray[np.int64]
    """(40, C) the states of the slots."""
    classes: NDArray[np.int64]
    """(40, 2) the classes of the lengths of the matches; -1 if a match predicts no bit."""
    predicted: NDArray[np.int64]
    """(40, 2) the bits that the matches predict."""
    gates: NDArray[np.int64]
    """(40, 7) the rows of weights of the mixers."""
    values: NDArray[np.float64]
    """(40, 7) the results w x of the mixers."""
    curve_rows: NDArray[np.int64]
    """(40, 4) the rows of the curves."""
    points: NDArray[np.float64]
    """(40,) the position on the curves: the number of a point, and a fraction."""
    mixed: NDArray[np.float64]
    """(40,) the probability of a 1 by the last mixer."""
    final: NDArray[np.float64]
    """(40,) the final probability of a 1."""


_LEARNED_TYPES = (*(writable(_F64, 2),) * 4, writable(_F64, 3), writable(_F64, 2), writable(types.float32, 3))
LEARNED = types.NamedTuple(_LEARNED_TYPES, Learned)
MOMENT = types.NamedUniTuple(writable(_I64), 5, Moment)
_ACCOUNT_TYPES = (
    writable(_F64, 2), *(writable(_I64, 2),) * 4, writable(_F64, 2), writable(_I64, 2), *(writable(_F64),) * 3,
)  # fmt: skip
ACCOUNT = types.NamedTuple(_ACCOUNT_TYPES, Account)


def new_learned(meanings: NDArray[np.float64], n_contexts: int, n_curve_rows: int) -> Learned:
    """Returns what is known at first; `meanings` (1024,) is the probability of a 1 in each state of a slot."""
    trust = np.tile(1 - 0.5 / np.arange(2.0, N_LENGTHS + 2), (N_MATCHES, 1))
    one_row = np.concatenate([np.tile(_FIRST_WEIGHTS, n_contexts), np.tile([_FIRST_MATCH_WEIGHT, 0], N_MATCHES), [0]])
    return Learned(
        np.tile(meanings, (n_contexts, 1)),
        np.zeros((n_contexts, N_STATES)),
        trust,
        np.zeros_like(trust),
        np.tile(one_row, (N_MIXERS, N_ROWS, 1)),
        np.full((N_ROWS, N_MIXERS), 1 / N_MIXERS),
        np.zeros((N_CURVES, n_curve_rows, N_POINTS), np.float32),
    )


def new_moment(n_contexts: int) -> Moment:
    """Returns arrays for the prediction of a token from C contexts."""
    return Moment(
        np.zeros(n_contexts, np.int64), np.zeros(N_RECENT, np.int64), np.zeros(N_MATCHES, np.int64),
        np.zeros(N_MATCHES, np.int64), np.zeros(n_contexts, np.int64),
    )  # fmt: skip


def new_account(n_contexts: int) -> Account:
    """Returns arrays for the inputs of predictions from C contexts."""
    n_inputs = PER_CONTEXT * n_contexts + PER_MATCH * N_MATCHES + 1
    return Account(
        np.zeros((BITS, n_inputs)), np.zeros((BITS, n_contexts), np.int64), np.zeros((BITS, N_MATCHES), np.int64),
        np.zeros((BITS, N_MATCHES), np.int64), np.zeros((BITS, N_MIXERS), np.int64), np.zeros((BITS, N_MIXERS)),
        np.zeros((BITS, N_CURVES), np.int64), np.zeros(BITS), np.zeros(BITS), np.zeros(BITS),
    )  # fmt: skip


@kernel(_I64, _I64, _I64, returns=_I64)
def key_of(context, number, node):
    """Returns the key of the bucket of the context with a number, for the bits after a node of the code tree."""
    return mixed(mixed(context, node), number)


@kernel(COUNTERS, MOMENT, _I64)
def open_buckets(counters, moment, node):
    """Finds the buckets of all contexts for the three bits after a node of the code tree."""
    for number in range(moment.contexts.size):
        moment.rows[number] = find(counters, key_of(moment.contexts[number], number, node))


@kernel(_F64, returns=_F64)
def stretched(prob):
    """Returns ln(p / (1 - p)), from a table of 4,096 values."""
    return STRETCHED[min(int(prob * STRETCHED.size), STRETCHED.size - 1)]


@kernel(_F64, returns=_F64)
def squashed(value):
    """Returns the probability p with ln(p / (1 - p)) = `value`."""
    return 1 / (1 + math.exp(-value))


@kernel(_I64, _I64, returns=_I64)
def slot_of_node(node, place):
    """Returns the slot of a node in the bucket of its group of three bits, for the bit at a place of the code word."""
    first = place % GROUP_BITS
    return (1 << first) | (node & ((1 << first) - 1))


@kernel(COUNTERS, LEARNED, MOMENT, _I64, _I64, ACCOUNT, _I64)
def _look_up(counters, learned, moment, node, place, account, row):
    """Writes the inputs of the mixers that come from the contexts to a row of the account."""
    slot = slot_of_node(node, place)
    for number in range(moment.rows.size):
        content = slot_at(counters, moment.rows[number], slot)
        state = state_of(content)
        account.states[row, number] = state
        at = PER_CONTEXT * number
        if state == 0:
            account.inputs[row, at : at + PER_CONTEXT] = 0
        else:
            prob = learned.meanings[number, state]
            account.inputs[row, at] = stretched(prob)
            account.inputs[row, at + 1] = prob - 0.5
            account.inputs[row, at + 2] = _SHARE_SCALE * stretched_share(content)


@kernel(LEARNED, MOMENT, _I64, _I64, ACCOUNT, _I64)
def _look_ahead(learned, moment, node, place, account, row):
    """Writes the inputs of the mixers that come from the matches to a row of the account."""
    for which in range(N_MATCHES):
        leaf, depth = moment.leaves[which], 0
        while (leaf >> depth) > 1:
            depth += 1
        at = PER_CONTEXT * moment.rows.size + PER_MATCH * which
        account.inputs[row, at] = account.inputs[row, at + 1] = 0
        account.classes[row, which] = -1
        if place < depth and (leaf >> (depth - place)) == node:
            bit = (leaf >> (depth - place - 1)) & 1
            length = length_class(moment.lengths[which])
            account.classes[row, which], account.predicted[row, which] = length, bit
            prob, sign = learned.trust[which, length], 2 * bit - 1
            account.inputs[row, at], account.inputs[row, at + 1] = sign * stretched(prob), sign * (prob - 0.5)


@kernel(LEARNED, MOMENT, _I64, _I64, ACCOUNT, _I64)
def _choose(learned, moment, node, place, account, row):
    """Writes the rows of the weights and curves that the small contexts of a bit select to a row of the account."""
    order = MAX_ORDER
    while order > 0 and moment.rows[order] == -1:
        order -= 1
    last, second, third = moment.recent[0], moment.recent[1], moment.recent[2]
    short = node if node < N_ROWS else mixed(node, 1) & (N_ROWS - 1)
    match = 0 if account.classes[row, 0] >= 0 else 1
    length = account.classes[row, match]
    gates, curve_rows, n_curve_rows = account.gates[row], account.curve_rows[row], learned.curves.shape[1]
    gates[0] = short
    gates[1] = 8 * (0 if length < 0 else min(1 + length // 4, 15)) + order
    gates[2], gates[3] = last & (N_ROWS - 1), second & (N_ROWS - 1)
    gates[4] = 8 * min(place, 15) + order
    gates[5] = 0 if length < 0 else moment.leaves[match] & (N_ROWS - 1)
    gates[6] = 0
    for number in range(3, MAX_ORDER):
        state, level = account.states[row, number], 0
        if state > 0:
            prob = learned.meanings[number, state]
            level = 1 if prob < 0.05 else 2 if prob < 0.5 else 3 if prob < 0.95 else 4
        gates[6] = 5 * gates[6] + level
    curve_rows[0] = short
    curve_rows[1] = hashed((last, node)) & (n_curve_rows - 1)
    curve_rows[2] = mixed(hashed((last, second)), node) & (n_curve_rows - 1)
    curve_rows[3] = mixed(hashed((last, second, third)), node) & (n_curve_rows - 1)


@kernel(read_only(_F64), read_only(_F64), returns=_F64, reassociate=True)
def _dot(left, right):
    total = 0.0
    for number in range(left.size):
        total += left[number] * right[number]
    return total


@kernel(COUNTERS, LEARNED, MOMENT, _I64, _I64, ACCOUNT, _I64, returns=_F64)
def predict_bit(counters, learned, moment, node, place, account, row):
    """Returns the probability that the bit after a node of the code tree is 1, and fills a row of the account.

    `moment` holds the buckets of the group of the bit (`open_buckets`), and `place` is the number of bits before it.
    """
    _look_up(counters, learned, moment, node, place, account, row)
    _look_ahead(learned, moment, node, place, account, row)
    _choose(learned, moment, node, place, account, row)
    inputs, gates, values = account.inputs[row], account.gates[row], account.values[row]
    inputs[inputs.size - 1] = _CONSTANT
    total, last_weights = 0.0, learned.last_weights[gates[0]]
    for number in range(N_MIXERS):
        values[number] = max(-_LIMIT, min(_LIMIT, _dot(learned.weights[number, gates[number]], inputs)))
        total += last_weights[number] * values[number]
    total = max(-_LIMIT, min(_LIMIT, total))
    prob = squashed(total)
    point = (max(-_REACH, min(_REACH - 1e-6, total)) + _REACH) * ((N_POINTS - 1) / (2 * _REACH))
    below, share = int(point), point - int(point)
    correction = 0.0
    for number in range(N_CURVES):
        curve = learned.curves[number, account.curve_rows[row, number]]
        correction += (1 - share) * curve[below] + share * curve[below + 1]
    account.points[row], account.mixed[row] = point, prob
    account.final[row] = max(LEAST, min(1 - LEAST, prob + correction / (2 * N_CURVES)))
    return account.final[row]
