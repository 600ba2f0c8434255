"""Gated logistic mixing: computes the probability of a bit from the counters of all its contexts, in compiled code.

Each context whose slot has counted a bit contributes three inputs to a mixer:

    ln(q / (1 - q)),  q - 1/2  and  1/2 ln(s / (1 - s))

Here q is the probability of a 1 in the state of the slot, which is learned for each kind of context, and s is the share
of ones in the slot. Each match contributes the first two of these inputs, with a q that is learned for each length of a
match. The last input is a constant. With the inputs x and the weights w, a mixer is a logistic regression,
p = 1 / (1 + exp(-w x)). Gradient steps on -ln p(bit) change the weights: w += rate (bit - p) x (Mahoney 2005, PAQ6 and
PAQ7). Each mixer is gated: it has many rows of weights, one of which is selected by a small context. Seven mixers,
whose small contexts differ, are combined by a last mixer, whose inputs are their values w x.

The result is refined by adaptive probability maps (secondary symbol estimation): for each of several contexts, a curve
maps a predicted probability to the share of ones that was observed after such predictions. The final probability is
half the prediction of the last mixer and half the average of these curves.

All probabilities are computed in double precision by one function, `predict_bit`, whether they are needed for
predicting or for learning.
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
"""Number of rows of an `Account`, one for each bit of a token; no code word has so many bits."""
LEAST = 1e-6
"""Smallest probability that a bit can have."""

_SHARE_SCALE, _CONSTANT = 0.5, 0.3
_LIMIT, _REACH = 12.0, 8.0
_FIRST_WEIGHTS = (0.15, 0.0, 0.1)
_FIRST_MATCH_WEIGHT = 0.2
_I64, _F64 = types.int64, types.float64


class Learned(NamedTuple):
    """Everything that is learned besides the counters, for C kinds of contexts and mixers with I inputs."""

    meanings: NDArray[np.float64]
    """(C, 1024) the probability of a 1 in each state of a slot."""
    n_meanings: NDArray[np.float64]
    """(C, 1024) the number of bits from which each element of `meanings` was learned, up to a limit."""
    trust: NDArray[np.float64]
    """(2, 64) the probability that a bit predicted by a match is right, for each class of lengths of the match."""
    n_trust: NDArray[np.float64]
    """(2, 64) the number of bits from which each element of `trust` was learned, up to a limit."""
    weights: NDArray[np.float64]
    """(7, 256, I) the 256 rows of weights of each of the seven mixers."""
    last_weights: NDArray[np.float64]
    """(256, 7) the 256 rows of weights of the last mixer."""
    curves: NDArray[np.float32]
    """(4, P, 25) what each of the P curves of each of four maps adds to the probability p, at 25 equally spaced values
    of ln(p / (1 - p))."""


class Moment(NamedTuple):
    """The contexts and the matches at one position of a text, from which the next token is predicted."""

    contexts: NDArray[np.int64]
    """(C,) hash values of the contexts."""
    recent: NDArray[np.int64]
    """(4,) the last tokens."""
    leaves: NDArray[np.int64]
    """(2,) the leaves of the tokens that the matches predict; 0 if there is no match."""
    lengths: NDArray[np.int64]
    """(2,) the lengths of the matches."""
    rows: NDArray[np.int64]
    """(C,) the row of the bucket that each context has for the next three bits; see `open_buckets`."""


class Account(NamedTuple):
    """A record of how each bit of a token was predicted, from which the model learns; it has one row for each bit."""

    inputs: NDArray[np.float64]
    """(40, I) the inputs of the mixers."""
    states: NDArray[np.int64]
    """(40, C) the states of the slots."""
    classes: NDArray[np.int64]
    """(40, 2) the classes of the lengths of the matches; -1 if a match predicts no bit."""
    predicted: NDArray[np.int64]
    """(40, 2) the bits that the matches predict."""
    gates: NDArray[np.int64]
    """(40, 7) the number of the row of weights that each mixer used."""
    values: NDArray[np.float64]
    """(40, 7) the results w x of the mixers."""
    curve_rows: NDArray[np.int64]
    """(40, 4) the number of the curve, from 0 to P - 1, that each of the four maps used."""
    points: NDArray[np.float64]
    """(40,) the position on the curves: the number of the point below it, plus a fraction."""
    mixed: NDArray[np.float64]
    """(40,) the probability of a 1 that the last mixer computed."""
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
    """Returns the initial values of everything that is learned besides the counters.

    `meanings` (1024,) is the initial probability of a 1 in each state of a slot, `n_contexts` the number of kinds of
    contexts, and `n_curve_rows` the number of curves of each map.
    """
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
    """Returns a `Moment` for C = `n_contexts` contexts, whose arrays are filled with zeros."""
    return Moment(
        np.zeros(n_contexts, np.int64), np.zeros(N_RECENT, np.int64), np.zeros(N_MATCHES, np.int64),
        np.zeros(N_MATCHES, np.int64), np.zeros(n_contexts, np.int64),
    )  # fmt: skip


def new_account(n_contexts: int) -> Account:
    """Returns an `Account` for C = `n_contexts` contexts, whose arrays are filled with zeros."""
    n_inputs = PER_CONTEXT * n_contexts + PER_MATCH * N_MATCHES + 1
    return Account(
        np.zeros((BITS, n_inputs)), np.zeros((BITS, n_contexts), np.int64), np.zeros((BITS, N_MATCHES), np.int64),
        np.zeros((BITS, N_MATCHES), np.int64), np.zeros((BITS, N_MIXERS), np.int64), np.zeros((BITS, N_MIXERS)),
        np.zeros((BITS, N_CURVES), np.int64), np.zeros(BITS), np.zeros(BITS), np.zeros(BITS),
    )  # fmt: skip


@kernel(_I64, _I64, _I64, returns=_I64)
def key_of(context, number, node):
    """Returns the key of the bucket that counts the bits after a node of the code tree in one context.

    `context` is the hash value of the context, and `number` the number of its kind.
    """
    return mixed(mixed(context, node), number)


@kernel(COUNTERS, MOMENT, _I64)
def open_buckets(counters, moment, node):
    """Finds the buckets of all contexts for the three bits after a node of the code tree; sets `moment.rows`."""
    for number in range(moment.contexts.size):
        moment.rows[number] = find(counters, key_of(moment.contexts[number], number, node))


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
    """Selects rows of weights and curves by the small contexts of a bit; writes their numbers to the account."""
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

    `open_buckets` must have found the buckets for the group of three bits to which this bit belongs. `place` is the
    number of bits of the code word before this bit, and `row` the row of the account.
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
