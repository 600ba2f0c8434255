"""Counters of bits, kept in a hash table of bounded size by compiled code.

A bucket of the table belongs to a context and to the first bits of a token, and predicts the next three bits of the
token. It has 8 slots of 32 bits. Slot 0 is a checksum. Each of the other slots counts the bits at one node of the code
tree (`lmzoo.models.bitwise.code`): slot 2^j + b belongs to the node that is reached by j more bits with the value b,
for j = 0, 1, 2. From its highest bit to its lowest, such a slot holds

    16 bits   the probability of a 1: the share of ones so far, later a moving average
    7 bits    the number of bits counted, at most 127
    9 bits    the last bits, at most eight, after a leading 1

A slot that has counted no bit is 0. The content of a slot is reduced to a state, one of 1,024 numbers. As long as at
most eight bits were counted, the state is their exact sequence. Later it consists of the last three bits, and of the
probability and the number of bits, both rounded coarsely. The probability of a 1 in each state is learned for each kind
of context; see `learning.py`. So a state may come to mean that the next bit is certain, that it varies, or that it has
just changed (nonstationary state maps of PAQ6, Mahoney 2005).

The key of a bucket determines three places in the table where the bucket may be. If all three are taken by other
buckets, the one that has counted the fewest bits is replaced.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.bitwise.code import hash_combine
from lmzoo.system.compiled import kernel, prefetch, read_only, writable

GROUP_BITS = 3
"""Number of bits that a bucket predicts, one after the other."""
N_SLOTS = 1 << GROUP_BITS
N_STATES = 1024
NONE = -1
"""Row number that stands for a bucket which is not in the table."""
STRETCHED = np.log((np.arange(4096) + 0.5) / (4095.5 - np.arange(4096)))
"""(4096,) ln(p / (1 - p)), where p is the middle of each of 4,096 equal intervals of probabilities."""

_N_PLACES = 3
_MOST, _LONG = 127, 8
_I64, _U32, _F64 = types.int64, types.uint32, types.float64


class Counters(NamedTuple):
    """A table of buckets: a complete table, or a table with copies of those buckets of another one that changed."""

    slots: NDArray[np.uint32]
    """(N, 8) slots of the buckets."""
    homes: NDArray[np.int64]
    """(N,) in a table of copies, 1 plus the number of the bucket in each row of `slots`; 0 marks an unused row. In a
    complete table, `homes` is empty, and row n of `slots` holds bucket n."""
    known: NDArray[np.uint32]
    """(M, 8) in a table of copies, the slots of the other table, from which unchanged buckets are read; they are never
    written. In a complete table, `known` has the shape (0, 8)."""


COUNTERS = types.NamedTuple(
    (writable(_U32, 2), writable(_I64), read_only(_U32, 2)), Counters
)  # fmt: skip
"""The numba type of `Counters`."""


@kernel(writable(_I64), _I64, returns=_I64)
def find_home(homes, bucket):
    """Returns the row of a bucket in `homes` (N,) of a table of copies, or the unused row in which it belongs."""
    row = hash_combine(bucket, homes.size) & (homes.size - 1)
    while homes[row] != bucket + 1 and homes[row] != 0:
        row = (row + 1) & (homes.size - 1)
    return row


@kernel(COUNTERS, _I64, returns=_I64)
def _row_of(counters, bucket):
    """Returns the row of a bucket in `slots`, or -2 minus its number if it has no copy and is read from `known`."""
    if counters.homes.size == 0:
        return bucket
    row = find_home(counters.homes, bucket)
    return row if counters.homes[row] != 0 else -2 - bucket


@kernel(COUNTERS, _I64, _I64, returns=_U32)
def slot_at(counters, row, slot):
    """Returns the content of a slot of the bucket in a row, as `find` returns it; 0 if the row is `NONE`."""
    if row >= 0:
        return counters.slots[row, slot]
    return counters.known[-2 - row, slot] if row != NONE else np.uint32(0)


@kernel(COUNTERS, _I64, returns=_I64)
def _first_place(counters, key):
    n_buckets = counters.slots.shape[0] if counters.homes.size == 0 else counters.known.shape[0]
    return key & (n_buckets - 1)


@kernel(COUNTERS, _I64)
def prefetch_bucket(counters, key):
    """Prefetches the rows of the table in which the bucket with a key may be, for a `find` that follows."""
    first = _first_place(counters, key)
    for place in range(0, _N_PLACES, 2):  # two buckets have the same cache line
        if counters.homes.size == 0:
            prefetch(counters.slots, first ^ place)
        else:
            prefetch(counters.known, first ^ place)


@kernel(_I64, returns=_U32)
def _check_of(key):
    """Returns the checksum of a key, which is never 0."""
    return np.uint32((key >> 32) & 0xFFFFFFFF) | np.uint32(1)


@kernel(COUNTERS, _I64, returns=_I64)
def find(counters, key):
    """Returns the row of the bucket with a key, or `NONE` if the table has no such bucket; the table is not changed."""
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
    """Returns the row in `slots` of the bucket with a key, which is created if the table has no such bucket.

    In a table of copies, the bucket is first copied from `known`, and `n_used` (1,), the number of rows in use, is
    updated.
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
    """Moves all buckets of `old`, a table of copies, to `new`, a larger one that is empty."""
    for old_row in range(old.homes.size):
        if old.homes[old_row] != 0:
            row = find_home(new.homes, old.homes[old_row] - 1)
            new.homes[row] = old.homes[old_row]
            new.slots[row] = old.slots[old_row]


@kernel(_U32, returns=_F64)
def stretched_share(slot):
    """Returns ln(p / (1 - p)), where p is the probability of a 1 that a slot holds."""
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
    """Returns the content of a slot after it has counted one more bit.

    If n bits were counted before, the weight of the new bit in the probability is 1 / (n + 1.5). Since n is limited to
    127, the probability becomes a moving average.
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
    """Returns the probability (1024,) of a 1 in each state before anything has been learned.

    For a state that is a sequence of bits, it is a weighted share of ones, in which each bit has 0.9 times the weight
    of the bit after it.
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
