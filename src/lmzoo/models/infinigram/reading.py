"""Walking the index, compiled: which contexts match, what followed them, and what that makes probable.

The matches of a place are the contexts before it, from the empty one to the longest that was seen in training, each as
its rows [low, high) and its length. Contexts with the same rows count as one, with the longest length. The matches
after one more token come from those before it, and the counts of the token are the sizes of what comes out.
"""

from __future__ import annotations

import numpy as np
from numba import types

from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read, write

_I32, _I64, _U16, _F64 = types.int32, types.int64, types.uint16, types.float64
_MATCHES = write(_I64, 2)
RARER = 4
"""Of 2, 3, 4 and 8 the best on the valid splits of Brown and the King James Bible, by half a percent."""
N_LENGTHS, N_SIZES = 16, 12
"""Contexts have a discount by their length, up to 15 and above, and their rows: 1, 2 to 3, 4 to 7, ..., 2048 and above.
"""


@kernel(_I64, _I64, returns=_I64)
def discount_of(length, n_rows):
    """The number of the discount of a context."""
    size = 0
    while n_rows > 1 and size < N_SIZES - 1:
        n_rows >>= 1
        size += 1
    return min(length, N_LENGTHS - 1) * N_SIZES + size


@kernel(_I64, _I64, read(_U16), read(_I32), returns=_I64)
def _types_after(low, high, shared, n_types):
    """How many different tokens follow the context with these rows."""
    if high - low == 1:
        return 1
    if high - low == n_types.size - 1:  # the empty context
        return n_types[high]
    return n_types[low if shared[low] >= shared[high] else high - 1]


@kernel(_MATCHES, _I64, write(types.boolean))
def _choose(matches, n_matches, counts):
    """Marks the matches that count: the longest, and from there each that occurs `RARER` times as often as the last.

    Contexts in between saw nearly what a longer one saw, and would only discount it once more. So at most 16 count,
    and what they leave for a token that followed none of them cannot fall below the smallest double.
    """
    n_rows = 0
    for k in range(n_matches - 1, -1, -1):
        own = matches[k, 1] - matches[k, 0]
        counts[k] = own >= RARER * n_rows or k == 0
        if counts[k]:
            n_rows = own


@kernel(read(_I64), _MATCHES, returns=_I64)
def start(first_places, matches):
    """Writes the matches at a document start, the empty context and the start itself, and returns their number."""
    n_starts, n_rows = first_places[EOT + 1], first_places[-1]
    matches[0, 0], matches[0, 1], matches[0, 2] = 0, n_rows, 0
    n = 0 if n_starts == n_rows else 1
    matches[n, 0], matches[n, 1], matches[n, 2] = 0, n_starts, 1
    return n + 1


@kernel(read(_I32), read(_I64), _I64, _MATCHES, _I64, write(_I64, 2))
def follow(places, first_places, token, matches, n_matches, followed):
    """Writes where in `places` the rows of each match that `token` follows begin and end."""
    low, high = first_places[token], first_places[token + 1]
    for k in range(n_matches):
        if k > 0 and low < high:  # the rows of a longer context are among those of the shorter one
            for side in range(2):
                left, right = low, high
                while left < right:
                    middle = (left + right) >> 1
                    if places[middle] < matches[k, side]:
                        left = middle + 1
                    else:
                        right = middle
                if side == 0:
                    low = left
                else:
                    high = left
        followed[k, 0], followed[k, 1] = low, high


@kernel(read(_I64), _I64, _I64, write(_I64, 2), _MATCHES, _I64, returns=_I64)
def lengthen(first_places, max_context, token, followed, matches, n_matches):
    """Turns the matches before a token into those after it, and returns their number."""
    if token == EOT:
        return start(first_places, matches)
    n, low, high, length = 0, np.int64(0), first_places[-1], np.int64(0)  # the empty context always matches
    for k in range(n_matches + 1):
        before = matches[k, 2] if k < n_matches else 0  # n is never above k: this was not overwritten yet
        if n > 0 and matches[n - 1, 0] == low and matches[n - 1, 1] == high:
            n -= 1
        elif n > 0 and matches[n - 1, 2] >= max_context:
            break
        matches[n, 0], matches[n, 1], matches[n, 2] = low, high, min(length, max_context)
        n += 1
        if k == n_matches or followed[k, 0] == followed[k, 1]:
            break
        low, high, length = followed[k, 0], followed[k, 1], before + 1
    return n


@kernel(read(_I32), read(_I32), read(_I64), read(_U16), read(_I32), _I64, _MATCHES, write(_I64),
        write(_I32, 2), write(_I64), write(_I64), returns=_I64)  # fmt: skip
def collect(ids, places, first_places, shared, n_types, max_context, matches, n_matches,
            evidence, ends, longest):  # fmt: skip
    """Reads a text for as long as there is room for evidence, and returns how many tokens it has read.

    The evidence on a token is a row for each match that counts, from the empty context on: how often the token followed
    it, its rows, its types and the number of its discount; `ends` are where that of each token ends. `longest` are the
    lengths of the longest n-grams that end in each token and were seen. `matches`, `n_matches` of them, go on from
    those before the text to those after what was read.
    """
    followed = np.empty((matches.shape[0], 2), np.int64)
    chosen = np.empty(matches.shape[0], np.bool_)
    n, end, t = n_matches[0], 0, 0
    while t < ids.size and end + n <= evidence.shape[0]:
        token = ids[t]
        follow(places, first_places, token, matches, n, followed)
        longest[t] = 1
        _choose(matches, n, chosen)
        for k in range(n):
            low, high, length = matches[k, 0], matches[k, 1], matches[k, 2]
            count = followed[k, 1] - followed[k, 0]
            if count > 0:
                longest[t] = length + 1
            if not chosen[k]:
                continue
            evidence[end, 0], evidence[end, 1] = count, high - low
            evidence[end, 2] = _types_after(low, high, shared, n_types)
            evidence[end, 3] = discount_of(length if k > 0 else 0, high - low)
            end += 1
        ends[t] = end
        n = lengthen(first_places, max_context, token, followed, matches, n)
        t += 1
    n_matches[0] = n
    return t


@kernel(types.Array(_I32, 2, "C", readonly=True), read(_I64), read(_F64), _I64, write(_F64), write(_F64))
def weigh(evidence, ends, discounts, vocab_size, log_probs, gradient):
    """The log-probability of each token on its evidence; adds the derivatives of their sum by each discount."""
    below = np.empty(1)
    begin = 0
    for t in range(log_probs.size):
        n = ends[t] - begin
        if n > below.size:
            below = np.empty(2 * n)
        prob = 1 / vocab_size
        for k in range(n):
            below[k] = prob
            count, n_rows, n_types = evidence[begin + k, 0], evidence[begin + k, 1], evidence[begin + k, 2]
            discount = discounts[evidence[begin + k, 3]]
            prob = (max(count - discount, 0.0) + discount * n_types * prob) / n_rows
        log_probs[t] = np.log(prob)
        if gradient.size > 0:
            slope = 1 / prob
            for k in range(n - 1, -1, -1):
                count, n_rows, n_types = evidence[begin + k, 0], evidence[begin + k, 1], evidence[begin + k, 2]
                number = evidence[begin + k, 3]
                gradient[number] += slope * (n_types * below[k] - (1 if count > 0 else 0)) / n_rows
                slope *= discounts[number] * n_types / n_rows
        begin = ends[t]


@kernel(_MATCHES, _I64, read(_I32), read(_U16), read(_I32), read(_F64), read(_F64), write(_F64),
        write(types.boolean), write(_I32))  # fmt: skip
def fill_row(matches, n_matches, next_ids, shared, n_types, discounts, unigram, row, chosen, counts):
    """Writes the (V,) probabilities of the next token; `unigram` are those after the empty context, `counts` zeros."""
    row[:] = unigram
    _choose(matches, n_matches, chosen)
    for k in range(1, n_matches):
        if not chosen[k]:
            continue
        low, high, length = matches[k, 0], matches[k, 1], matches[k, 2]
        n_rows = high - low
        discount = discounts[discount_of(length, n_rows)]
        row *= discount * _types_after(low, high, shared, n_types) / n_rows
        for token in next_ids[low:high]:
            counts[token] += 1
        for token in next_ids[low:high]:
            if counts[token] > 0:
                row[token] += (counts[token] - discount) / n_rows
                counts[token] = 0


@kernel(read(_I32), read(_I32), read(_I32), read(_I64), read(_U16), read(_I32), _I64, read(_F64), read(_F64),
        _MATCHES, _I64, write(_F64, 2), returns=_I64)  # fmt: skip
def fill_rows(ids, next_ids, places, first_places, shared, n_types, max_context, discounts, unigram,
              matches, n_matches, rows):  # fmt: skip
    """Writes the (T, V) probabilities before each token of a text; returns the number of matches after it."""
    followed = np.empty((matches.shape[0], 2), np.int64)
    chosen, counts = np.empty(matches.shape[0], np.bool_), np.zeros(unigram.size, np.int32)
    for t in range(ids.size):
        if rows.size > 0:
            fill_row(matches, n_matches, next_ids, shared, n_types, discounts, unigram, rows[t], chosen, counts)
        follow(places, first_places, ids[t], matches, n_matches, followed)
        n_matches = lengthen(first_places, max_context, ids[t], followed, matches, n_matches)
    return n_matches
