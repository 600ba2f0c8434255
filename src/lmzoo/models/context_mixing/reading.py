"""Reads a text token by token in compiled code: predicts each token, and then learns from it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.bitwise.code import code_width, leaf_of, mixed, n_bits, token_at
from lmzoo.models.context_mixing.contexts import hash_contexts, hashed, recent_tokens
from lmzoo.models.context_mixing.counters import COUNTERS, GROUP_BITS, Counters
from lmzoo.models.context_mixing.learning import count_bits, learn_bit, rate_after
from lmzoo.models.context_mixing.matches import N_MATCHES, NO_MATCH, follow, token_of
from lmzoo.models.context_mixing.mixer import (
    ACCOUNT,
    LEARNED,
    MOMENT,
    Learned,
    open_buckets,
    predict_bit,
)
from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable

BEGIN, N_LEARNED, N_USED, FOUND, LENGTHS = 0, 1, 2, 3, 3 + N_MATCHES
"""Indices of the entries of the array `now`: the position at which the document begins, the number of tokens learned,
the number of copied buckets, the positions of the tokens that the matches predict, and the lengths of the matches."""
N_NOW = LENGTHS + N_MATCHES


class Memory(NamedTuple):
    """Everything that a reader has learned."""

    counters: Counters
    learned: Learned
    places: NDArray[np.int32]
    """(2, M) the positions after the last occurrences of sequences of tokens in the text, or -1; see `matches.py`."""
    followers: NDArray[np.int32]
    """(2, F, 2) the tokens that followed the last two occurrences of each token (the first of the two hash tables), and
    of each pair of tokens (the second)."""


_I32, _I64, _F64 = types.int32, types.int64, types.float64
_TEXT, _NOW, _FOLLOWERS = read_only(_I32), writable(_I64), writable(_I32, 3)
_MEMORY = types.NamedTuple((COUNTERS, LEARNED, writable(_I32, 2), _FOLLOWERS), Memory)


@kernel(read_only(_I64), _I64, _I64, returns=_I64)
def row_of_followers(recent, order, n_slots):
    """Returns the row of the last `order` tokens (1 or 2) in a table of followers."""
    value = hashed((recent[0], order))
    return (value if order == 1 else mixed(value, recent[1])) & (n_slots - 1)


@kernel(_FOLLOWERS, _NOW, _TEXT, _TEXT, _I64, _I64, MOMENT)
def look(followers, now, known, ids, t, vocab_size, moment):
    """Prepares the prediction of the token at position `t` of a text: writes its contexts and matches to `moment`.

    - `followers`: see `Memory`. `now`: the values that change from token to token; see `BEGIN`.
    - `known`, `ids`: the text; see `matches.py`.
    """
    recent_tokens(ids, now[BEGIN], t, moment.recent)
    predicted, length = np.int64(-1), np.int64(0)
    for which in range(N_MATCHES - 1, -1, -1):
        moment.leaves[which], moment.lengths[which] = 0, 0
        if now[FOUND + which] != NO_MATCH:
            predicted, length = token_of(known, ids, now[FOUND + which]), now[LENGTHS + which]
            moment.leaves[which], moment.lengths[which] = leaf_of(predicted, vocab_size), length
    followed = np.empty(2, np.int64)
    for order in range(1, 3):
        pair = followers[order - 1, row_of_followers(moment.recent, order, followers.shape[1])]
        followed[order - 1] = hashed((np.int64(pair[0]), np.int64(pair[1])))
    hash_contexts(ids, now[BEGIN], t, moment.recent, followed, predicted, length, moment.contexts)


@kernel(COUNTERS, LEARNED, MOMENT, ACCOUNT, _I64, writable(_F64))
def distribution(counters, learned, moment, account, vocab_size, log_probs):
    """Writes the log-probability, in nats, of each of the V tokens that may come next to `log_probs` (V,).

    Nothing is learned; `account` and `moment.rows` are overwritten.
    """
    width = code_width(vocab_size)
    probs = np.full(4 * width, -1.0)
    probs[1] = 1.0
    depth = 0
    while (1 << depth) < 2 * width:
        for first in range(1 << depth, 2 << depth):
            if probs[first] < 0 or token_at(first, vocab_size) >= 0:
                continue
            open_buckets(counters, moment, first)
            for place in range(depth, depth + GROUP_BITS):
                for node in range(first << (place - depth), (first + 1) << (place - depth)):
                    if node < 2 * width and probs[node] >= 0 and token_at(node, vocab_size) < 0:
                        prob = predict_bit(counters, learned, moment, node, place, account, 0)
                        probs[2 * node], probs[2 * node + 1] = probs[node] * (1 - prob), probs[node] * prob
        depth += GROUP_BITS
    for token_id in range(vocab_size):
        log_probs[token_id] = math.log(probs[leaf_of(token_id, vocab_size)])


@kernel(COUNTERS, LEARNED, MOMENT, ACCOUNT, _I64, _I64, returns=_F64)
def _log_prob(counters, learned, moment, account, leaf, depth):
    """Returns the log-probability, in nats, of the token with the leaf `leaf`, and fills the account, a row per bit."""
    total = 0.0
    for place in range(depth):
        node, bit = leaf >> (depth - place), (leaf >> (depth - place - 1)) & 1
        if place % GROUP_BITS == 0:
            open_buckets(counters, moment, node)
        prob = predict_bit(counters, learned, moment, node, place, account, place)
        total += math.log(prob if bit == 1 else 1 - prob)
    return total


@kernel(_MEMORY, MOMENT, ACCOUNT, _NOW, _TEXT, _TEXT, _I64, types.boolean, _I64, _I64, writable(_F64),
        writable(_F64, 2), returns=_I64)  # fmt: skip
def walk(memory, moment, account, now, known, ids, start, learns, vocab_size, furthest, log_probs, rows):
    """Reads the tokens of a text from position `start`: predicts each, then learns it if `learns` is True.

    - `memory`: what was learned. `now`: the values that change from token to token; see `BEGIN`.
    - `moment`, `account`: arrays that are overwritten.
    - `known`: text that was read earlier. `ids`: the text from its beginning; the tokens before `start` were read.
    - `furthest`: largest distance, in tokens, from the current position back to a match.
    - `log_probs` (N,): receives the log-probability of each token that is read, in nats.
    - `rows` (N, V): receives the log-probabilities of all V tokens at each of these positions; may be empty.

    Stops early, before more than two thirds of the rows for copied buckets are used. Returns the number of tokens that
    were read.
    """
    counters, learned, places, followers = memory
    n_homes = counters.homes.size
    most_new = moment.contexts.size * (n_bits(code_width(vocab_size)) // GROUP_BITS + 1)
    t = start
    while t < ids.size:
        if learns and n_homes > 0 and 2 * n_homes < 3 * (now[N_USED] + most_new):
            break
        look(followers, now, known, ids, t, vocab_size, moment)
        if rows.size > 0:
            distribution(counters, learned, moment, account, vocab_size, rows[t - start])
        leaf = leaf_of(ids[t], vocab_size)
        depth = n_bits(leaf)
        log_probs[t - start] = _log_prob(counters, learned, moment, account, leaf, depth)
        if learns:
            rate = rate_after(now[N_LEARNED])
            for place in range(depth):
                learn_bit(learned, account, place, (leaf >> (depth - place - 1)) & 1, rate)
            count_bits(counters, now[N_USED : N_USED + 1], moment, leaf, depth)
            for order in range(1, 3):
                pair = followers[order - 1, row_of_followers(moment.recent, order, followers.shape[1])]
                pair[0], pair[1] = pair[1], ids[t]
            now[N_LEARNED] += 1
        t += 1
        if ids[t - 1] == EOT:
            now[BEGIN] = t
        follow(places, known, ids, now[BEGIN], t, learns, vocab_size, furthest, now[FOUND:LENGTHS], now[LENGTHS:])
    return t - start
