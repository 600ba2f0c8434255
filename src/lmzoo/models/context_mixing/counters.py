"""Counters of bits in a hash table of bounded size, compiled.

A bucket has 8 slots of 32 bits. The first is a checksum, and each of the others counts one node of a part of the code
tree that is three bits deep: after a context and the first bits of a token, a bucket predicts the next three bits. Slot
2^j + b belongs to the node that is reached with the j bits b. A slot holds, from the highest bit,

    16 bits   the probability of a 1: the share of ones so far, later a moving average
    7 bits    the number of bits counted, at most 127
    9 bits    the last bits, at most eight, after a leading 1

and is 0 before its first bit. The last bits and the number of bits make up the state of a slot: up to eight bits, the
state is their exact sequence, and later it is the last three bits, the probability and the number of bits, coarsely.
What a state means is learned for each kind of context; see `learning.py`. Thus a state may say that the bit is certain,
that it varies, or that it has just changed (nonstationary state maps of PAQ6, Mahoney 2005).

A bucket is in one of the three places of its key. If all three are in use, the one that has counted least is emptied.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.bitwise.code import mixed
from lmzoo.system.compiled import kernel, writable

GROUP_BITS = 3
"""Number of bits that a bucket predicts, one after the other."""
N_SLOTS = 1 << GROUP_BITS
N_STATES = 1024
NONE = -1
"""The row of a bucket that is not in the table."""
STRETCHED = np.log((np.arange(4096) + 0.5) / (4095.5 - np.arange(4096)))
"""ln(p / (1 - p)) for 4,096 values of p, each the middle of an interval of probabilities."""

_N_PLACES = 3
_MOST, _LONG = 127, 8
_I64, _U32, _F64 = types.int64, types.uint32, types.float64


class Counters(NamedTuple):
    """A table of buckets: all of them, or copies of those that have changed since another table was read."""

    slots: NDArray[np.uint32]
    """(N, 8) slots of the buckets."""
    homes: NDArray[np.int64]
    """(N,) the number of the bucket that each row of `slots` has, plus 1; 0 marks an unused row. If `homes` is empty,
    row n has bucket n."""
    known: NDArray[np.uint32]
    """(M, 8) slots of the buckets that have not changed; (0, 8) if `homes` is empty. It is never written."""


COUNTERS = types.NamedTuple(
    (writable(_U32, 2), writable(_I64), types.Array(_U32, 2, "C", readonly=True)), Counters
)  # fmt: skip
"""The numba type of `Counters`."""


@kernel(writable(_I64), _I64, returns=_I64)
def find_home(homes, bucket):
    """Returns the row of a bucket, or the unused row where it belongs, in the N homes of a table that has copies."""
    row = mixed(bucket, homes.size) & (homes.size - 1)
    while homes[row] != bucket + 1 and homes[row] != 0:
        row = (row + 1) & (homes.size - 1)
    return row


@kernel(COUNTERS, _I64, returns=_I64)
def _row_of(counters, bucket):
    """Returns the row of a bucket in `slots`, or -2 minus its number if it is in `known`."""
    if counters.homes.size == 0:
        return bucket
    row = find_home(counters.homes, bucket)
    return row if counters.homes[row] != 0 else -2 - bucket


@kernel(COUNTERS, _I64, _I64, returns=_U32)
def slot_at(counters, row, slot):
    """Returns a slot of a bucket, given its row; 0 if the row is `NONE`."""
    if row >= 0:
        return counters.slots[row, slot]
    return counters.known[-2 - row, slot] if row != NONE else np.uint32(0)


@kernel(COUNTERS, _I64, returns=_I64)
def _first_place(counters, key):
    n_buckets = counters.slots.shape[0] if counters.homes.size == 0 else counters.known.shape[0]
    return key & (n_buckets - 1)


@kernel(_I64, returns=_U32)
def _check_of(key):
    """Returns the checksum of a key, which is not 0."""
    return np.uint32((key >> 32) & 0xFFFFFFFF) | np.uint32(1)


@kernel(COUNTERS, _I64, returns=_I64)
def find(counters, key):
    """Returns the row of the bucket of a key, or `NONE` if the table lacks it. Nothing is changed."""
    check, first = _check_of(key), _first_place(counters, key)
    for place in range(_N_PLACES):
        row = _row_of(counters, first ^ place)
        stored = slot_at(counters, row, 0)
        if stored == check:
            return row
        if stored == 0:
            break
    return NONE


@kernel(_U32, returns=_I64)
def count_of(slot):
    """Returns the number of bits that a slot has counted."""
    return (np.int64(slot) >> 9) & _MOST


@kernel(COUNTERS, writable(_I64), _I64, returns=_I64)
def claim(counters, n_used, key):
    """Returns the row of the bucket of a key in `slots`; if the table lacks it, an empty bucket is put there.

    `n_used` (1,), the number of rows in use, is updated if the table has copies.
    """
    check, first = _check_of(key), _first_place(counters, key)
    chosen, least, found = first, _MOST + 1, False
    for place in range(_N_PLACES):
        row = _row_of(counters, first ^ place)
        stored = slot_at(counters, row, 0)
        count = count_of(slot_at(counters, row, 1)) if stored != 0 else -1
        if stored == check or count < least:
            chosen, least, found = first ^ place, count, stored == check
        if stored == check or stored == 0:
            break
    row = _row_of(counters, chosen)
    if row < 0:
        known, row = -2 - row, find_home(counters.homes, chosen)
        counters.homes[row] = chosen + 1
        counters.slots[row] = counters.known[known]
        n_used[0] += 1
    if not found:
        counters.slots[row] = 0
        counters.slots[row, 0] = check
    return row


@kernel(COUNTERS, COUNTERS)
def move(old, new):
    """Copies all buckets of a table that has copies to a larger one, which is empty."""
    for old_row in range(old.homes.size):
        if old.homes[old_row] != 0:
            row = find_home(new.homes, old.homes[old_row] - 1)
            new.homes[row] = old.homes[old_row]
            new.slots[row] = old.slots[old_row]


@kernel(_U32, returns=_F64)
def stretched_share(slot):
    """Returns ln(p / (1 - p)) for the probability p of a 1 in a slot."""
    return STRETCHED[np.int64(slot) >> 20]


@kernel(_U32, returns=_I64)
def state_of(slot):
    """Returns the state of a slot, from 0 to `N_STATES` - 1; 0 if it has counted no bits."""
    number, count = np.int64(slot), count_of(slot)
    if count <= _LONG:
        return number & 511
    level = min(max(int((stretched_share(slot) + 6) * (16 / 12)), 0), 15)
    size = 0 if count < 14 else 1 if count < 24 else 2 if count < 64 else 3
    return 512 + (number & 7) * 64 + level * 4 + size


@kernel(_U32, _I64, returns=_U32)
def counted(slot, bit):
    """Returns a slot after one more bit, whose weight in the probability is 1 / (n + 1.5) for n bits before it.

    n is at most 127, so that the probability becomes a moving average.
    """
    number, count = np.int64(slot), count_of(slot)
    share = number >> 16 if count > 0 else np.int64(1 << 15)
    last = number & 511 if count > 0 else np.int64(1)
    share += (2 * (65535 * bit - share)) // (2 * count + 3)
    last = (last << 1) | bit
    if last > 511:
        last = 256 | (last & 255)
    return np.uint32((share << 16) | (min(count + 1, _MOST) << 9) | last)


def first_meanings() -> NDArray[np.float64]:
    """Returns the probability of a 1 in each state (1024,), before anything has been learned.

    For a sequence of bits it is the share of ones, with weights that shrink by a tenth from each bit to the one before.
    """
    meanings = np.empty(N_STATES)
    for last in range(1, 512):
        bits = [int(bit) for bit in f"{last:b}"[:0:-1]]
        weights = 0.9 ** np.arange(len(bits))
        meanings[last] = (0.4 + weights @ np.array(bits, float)) / (0.8 + weights.sum())
    meanings[0] = 0.5
    levels = (np.arange(512, N_STATES) >> 2) & 15
    meanings[512:] = 1 / (1 + np.exp(6 - (levels + 0.5) * 12 / 16))
    return meanings
