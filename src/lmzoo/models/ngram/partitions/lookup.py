"""Looks up many contexts and n-grams of a sharded model at a time."""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64, _F32, _F64 = types.int32, types.int64, types.float32, types.float64


def search(
    wanted: NDArray[np.integer], groups: NDArray[np.integer], bounds: NDArray[np.int64], values: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Finds each of B wanted values in its group; returns its index (B,) in `values`, or -1 if it is not in the group.

    - `wanted` (B,): the values, of the type of `values`.
    - `groups` (B,): the group in which each value is searched; -1 for none.
    - `bounds`: the index of the first value of each group, and the end of the last one.
    - `values`: the values of all groups, in increasing order within each.
    """
    found = np.empty(wanted.size, np.int64)
    _search(wanted, groups.astype(np.int64), bounds, values, found)
    return found


def _signature(value: types.Type) -> tuple[types.Type, ...]:
    return read_only(value), read_only(_I64), read_only(_I64), read_only(value), writable(_I64)


@kernel(_signature(_I32), _signature(_I64))
def _search(wanted, groups, bounds, values, found):
    for i in range(wanted.size):
        found[i] = -1
        if groups[i] >= 0:
            low, end = bounds[groups[i]], bounds[groups[i] + 1]
            high = end
            while low < high:
                middle = (low + high) >> 1
                if values[middle] < wanted[i]:
                    low = middle + 1
                else:
                    high = middle
            if low < end and values[low] == wanted[i]:
                found[i] = low


@kernel(writable(_F64, 2), read_only(_I64), read_only(_F64), read_only(_I64), read_only(_I32), read_only(_F32))
def overwrite(rows, contexts, weights, starts, tokens, log_probs):
    """Writes the log-probabilities of the n-grams that continue B contexts to `rows` (B, V).

    - `contexts` (B,): the numbers of the contexts; a row with the number -1 is left as it is.
    - `weights` (B,): a number that is added to all log-probabilities of a row.
    - `starts`, `tokens`, `log_probs`: the arrays of a sharded model for one length of n-grams.
    """
    for b in range(contexts.size):
        if contexts[b] >= 0:
            for number in range(starts[contexts[b]], starts[contexts[b] + 1]):
                rows[b, tokens[number]] = log_probs[number] + weights[b]
