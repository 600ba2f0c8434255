"""Reads a text token by token in compiled code: predicts each token, and then learns from it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.bitwise.code import code_width, hash_combine, is_inner, leaf_of, n_bits
from lmzoo.models.context_mixing.arrays import ACCOUNT, LEARNED, MOMENT, Learned
from lmzoo.models.context_mixing.contexts import (
    LENGTH,
    LETTERS,
    N_CONTEXTS,
    N_FOLLOWERS,
    N_ORDERS,
    N_WORDS,
    WORDS,
    hash_contexts,
    hash_word_contexts,
    hashed,
    letter,
    recent_tokens,
    update_words,
)
from lmzoo.models.context_mixing.counters import COUNTERS, GROUP_BITS, Counters, find, slot_at
from lmzoo.models.context_mixing.learning import count_bits, learn_bit, rate_after
from lmzoo.models.context_mixing.matches import N_MATCHES, NO_MATCH, follow, token_of
from lmzoo.models.context_mixing.mixer import (
    ALL_CONTEXTS,
    is_mixed,
    key_of,
    open_buckets,
    predict_bit,
    prefetch_buckets,
    slot_of_node,
    unmixed,
)
from lmzoo.models.context_mixing.other_models import add_up
from lmzoo.stream import EOT
from lmzoo.system.compiled import borrowed, kernel, read_only, writable

BEGIN, N_LEARNED, N_USED, FOUND, LENGTHS, FIRST_WORD = 0, 1, 2, 3, 3 + N_MATCHES, 3 + 2 * N_MATCHES
"""Indices of the entries of the array `now`: the position at which the document begins, the number of tokens learned,
the number of copied buckets, the positions of the tokens that the matches predict, the lengths of the matches, and the
words before the position (see `contexts.py`)."""
N_NOW = FIRST_WORD + N_WORDS
_AT_A_TIME = 16
"""Number of nodes of the code tree whose buckets are loaded at a time."""
_UNMIXED = -1
"""Marks a node of the code tree if nothing is mixed at this node and at all nodes below it."""


class Memory(NamedTuple):
    """Everything that a reader has learned."""

    counters: Counters
    learned: Learned
    places: NDArray[np.int32]
    """(2, M) the positions after the last occurrences of sequences of tokens in the text, or -1; see `matches.py`."""
    followers: NDArray[np.int64]
    """(5, F, 2) five hash tables of what followed the last two occurrences of a sequence: the tokens after sequences of
    one, two and three tokens, and the words, as hash values, after sequences of one and two words."""


_I32, _I64, _F64 = types.int32, types.int64, types.float64
_TEXT, _NOW, _FOLLOWERS = read_only(_I32), writable(_I64), writable(_I64, 3)
_MEMORY = types.NamedTuple((COUNTERS, LEARNED, writable(_I32, 2), _FOLLOWERS), Memory)


@kernel(read_only(_I64), _I64, _I64, _I64, returns=_I64)
def row_of_followers(recent, order, which, n_slots):
    """Returns the row, in the table of followers `which`, of the first `order` tokens or words in `recent`."""
    value = np.int64(which)
    for d in range(order):
        value = hash_combine(value, recent[d])
    return hash_combine(value, order) & (n_slots - 1)


@kernel(_FOLLOWERS, MOMENT, read_only(_I64), _I64, returns=_I64)
def find_followers(followers, moment, words, which):
    """Returns the row, in the table of followers `which`, of the sequence that ends at a position of a text."""
    if which < N_ORDERS:
        return row_of_followers(moment.recent, which + 1, which, followers.shape[1])
    return row_of_followers(words[WORDS + 1 :], which - N_ORDERS + 1, which, followers.shape[1])


@kernel(_FOLLOWERS, MOMENT, _NOW, _I64)
def learn_followers(followers, moment, now, token_id):
    """Adds a token that was read, and the word that ends before it if there is one, to the tables of followers."""
    words = now[FIRST_WORD:]
    n_tables = N_FOLLOWERS if words[LENGTH] > 0 and letter(token_id) == 0 else N_ORDERS
    for which in range(n_tables):
        pair = followers[which, find_followers(followers, moment, words, which)]
        pair[0], pair[1] = pair[1], token_id if which < N_ORDERS else words[LETTERS]


@kernel(_FOLLOWERS, _NOW, _TEXT, _TEXT, _I64, _I64, MOMENT)
def look(followers, now, known, ids, t, vocab_size, moment):
    """Prepares the prediction of the token at position `t` of a text: writes its contexts and matches to `moment`.

    - `followers`: see `Memory`. `now`: the values that change from token to token; see `BEGIN`.
    - `known`, `ids`: the text; see `matches.py`.
    """
    recent_tokens(ids, now[BEGIN], t, moment.recent)
    predicted = np.full(N_MATCHES, -1)
    for which in range(N_MATCHES):
        moment.leaves[which], moment.lengths[which] = 0, 0
        if now[FOUND + which] != NO_MATCH:
            predicted[which] = token_of(known, ids, now[FOUND + which])
            moment.leaves[which] = leaf_of(predicted[which], vocab_size)
            moment.lengths[which] = now[LENGTHS + which]
    words, followed = now[FIRST_WORD:], np.empty(N_FOLLOWERS, np.int64)
    for which in range(N_FOLLOWERS):
        pair = followers[which, find_followers(followers, moment, words, which)]
        followed[which] = hashed((pair[0], pair[1]))
    hash_contexts(ids, now[BEGIN], t, moment.recent, followed, predicted, moment.lengths, moment.contexts)
    if moment.contexts.size > N_CONTEXTS:
        longest = predicted[0] if predicted[0] >= 0 else predicted[1]
        hash_word_contexts(words, moment.recent[0], followed, longest, moment.contexts[N_CONTEXTS:])


@kernel(COUNTERS, LEARNED, MOMENT, ACCOUNT, _I64, _I64, _I64)
def _distribute(counters, learned, moment, account, first, depth, vocab_size):
    """Predicts the next bits, at most three, of all tokens below the node `first` of the code tree.

    Sets `moment.probs` and `moment.counting` at the nodes. `depth` is the number of bits before the node.
    """
    probs, counting, found = moment.probs, moment.counting, np.int64(0)
    if counting[first >> 1] == _UNMIXED:
        moment.rows[0] = find(counters, key_of(moment.contexts[0], 0, first))
    else:
        found = open_buckets(counters, moment, first, counting[first >> 1])
    for place in range(depth, depth + GROUP_BITS):
        for node in range(first << (place - depth), (first + 1) << (place - depth)):
            if not is_inner(node, vocab_size):
                continue
            before, counting[node] = counting[node >> 1], _UNMIXED
            if before == _UNMIXED:
                prob = unmixed(slot_at(counters, moment.rows[0], slot_of_node(node, place)))
            else:
                prob = predict_bit(counters, learned, moment, found & before, node, place, account, 0)
                if is_mixed(account.counting[0], account.classes[0]):
                    counting[node] = account.counting[0]
            probs[2 * node], probs[2 * node + 1] = probs[node] * (1 - prob), probs[node] * prob


@kernel(COUNTERS, LEARNED, MOMENT, ACCOUNT, _I64, writable(_F64))
def distribution(counters, learned, moment, account, vocab_size, token_probs):
    """Writes the probability of each of the V tokens that may come next to `token_probs` (V,).

    Nothing is learned; `account`, `moment.rows`, `moment.probs` and `moment.counting` are overwritten.
    """
    counters, learned, moment, account = borrowed((counters, learned, moment, account))
    probs, counting = moment.probs, moment.counting
    probs[1], counting[0] = 1, ALL_CONTEXTS
    for depth in range(0, n_bits(code_width(vocab_size)) + 1, GROUP_BITS):
        for start in range(1 << depth, 2 << depth, _AT_A_TIME):
            end = min(start + _AT_A_TIME, 2 << depth)
            for first in range(start, end):
                if is_inner(first, vocab_size):
                    prefetch_buckets(counters, moment, first, max(counting[first >> 1], 0))
            for first in range(start, end):
                if is_inner(first, vocab_size):
                    _distribute(counters, learned, moment, account, first, depth, vocab_size)
    for token_id in range(vocab_size):
        token_probs[token_id] = probs[leaf_of(token_id, vocab_size)]


@kernel(COUNTERS, LEARNED, MOMENT, ACCOUNT, _I64, _I64, returns=_F64)
def _log_prob(counters, learned, moment, account, leaf, depth):
    """Returns the log-probability, in nats, of the token with the leaf `leaf`, and fills the account, a row per bit."""
    total, found = 0.0, np.int64(0)
    for place in range(depth):
        node, bit = leaf >> (depth - place), (leaf >> (depth - place - 1)) & 1
        if place % GROUP_BITS == 0:
            chosen = account.counting[place - 1] if place > 0 else ALL_CONTEXTS
            prefetch_buckets(counters, moment, node, chosen)
            found = open_buckets(counters, moment, node, chosen)
        prob = predict_bit(counters, learned, moment, found, node, place, account, place)
        total += math.log(prob if bit == 1 else 1 - prob)
    return total


@kernel(_MEMORY, MOMENT, ACCOUNT, _NOW, _TEXT, _TEXT, _I64, types.boolean, _I64, _I64, read_only(_F64, 3),
        writable(_F64), writable(_F64, 2), returns=_I64)  # fmt: skip
def walk(memory, moment, account, now, known, ids, start, learns, vocab_size, furthest, given, log_probs, rows):
    """Reads the tokens of a text from position `start`: predicts each, then learns it if `learns` is True.

    - `memory`: what was learned. `now`: the values that change from token to token; see `BEGIN`.
    - `moment`, `account`: arrays that are overwritten.
    - `known`: text that was read earlier. `ids`: the text from its beginning; the tokens before `start` were read.
    - `furthest`: largest distance, in tokens, from the current position back to a match.
    - `given` (N, M, V): the log-probabilities of all V tokens under M other models at each position from `start` on.
    - `log_probs` (N,): receives the log-probability of each token that is read, in nats.
    - `rows` (N, V): receives the probabilities of all V tokens at each of these positions; may be empty.

    Stops early, before more than two thirds of the rows for copied buckets are used. Returns the number of tokens that
    were read.
    """
    counters, learned, places, followers = borrowed(memory)
    moment, account, now, known, ids = borrowed((moment, account, now, known, ids))
    given, log_probs, rows = borrowed((given, log_probs, rows))
    n_homes = counters.homes.size
    most_new = moment.contexts.size * (n_bits(code_width(vocab_size)) // GROUP_BITS + 1)
    t = start
    while t < ids.size:
        if learns and n_homes > 0 and 2 * n_homes < 3 * (now[N_USED] + most_new):
            break
        look(followers, now, known, ids, t, vocab_size, moment)
        if given.size > 0:
            add_up(given[t - start], vocab_size, moment.sums)
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
            learn_followers(followers, moment, now, ids[t])
            now[N_LEARNED] += 1
        if moment.contexts.size > N_CONTEXTS:
            update_words(now[FIRST_WORD:], ids[t])
        t += 1
        if ids[t - 1] == EOT:
            now[BEGIN] = t
        follow(places, known, ids, now[BEGIN], t, learns, vocab_size, furthest, now[FOUND:LENGTHS],
               now[LENGTHS:FIRST_WORD])  # fmt: skip
    return t - start
