"""Compiled access to context trees: weighted probabilities of bits, distributions over tokens, and learning.

A tree node is found under a key, the hash value of its context and of the node of the code tree whose next bit it
predicts. It has two counts, of the bits 0 and 1 that were seen, and log-odds: the logarithm of the ratio of the two
probabilities that the weighting formula averages,

    log-odds = log P_e(bits of this node) - log prod_c P_w(bits of child c)

The formula gives P_w = 1/2 P_e + 1/2 prod_c P_w(child c) for all bits together. So the next bit has the probability

    p_w = share p_e + (1 - share) p_w(child),    share = 1 / (1 + exp(-log-odds))

where the child is the one that the current context leads to, and p_e is the estimate from the counts. After the bit,
the log-odds grow by log p_e(bit) - log p_w(child, bit). A node that is not stored yet has counts of 0, and predicts
1/2, and so do all nodes below it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.bitwise.code import code_width, hash_combine, is_inner, leaf_of, n_bits
from lmzoo.stream import EOT
from lmzoo.system.compiled import borrowed, kernel, prefetch, read_only, writable

_I32, _I64, _U32, _F64 = types.int32, types.int64, types.uint32, types.float64
_SEED = 0x2545F491
_AHEAD = 16
"""The memory for a node of the code tree is loaded while the node with a number smaller by this is computed."""


class Nodes(NamedTuple):
    """A table of tree nodes with N rows, a power of two. Each node is in the first free row from the one of its key."""

    keys: NDArray[np.int64]
    """(N,) keys of the nodes; 0 marks an unused row."""
    counts: NDArray[np.uint32]
    """(N, 2) counts of the bits 0 and 1."""
    odds: NDArray[np.float64]
    """(N,) log-odds."""


class Path(NamedTuple):
    """The nodes of one path through a context tree, from the empty context to a context of D tokens."""

    counts: NDArray[np.int64]
    """(D + 1, 2) counts of the bits 0 and 1."""
    odds: NDArray[np.float64]
    """(D + 1,) log-odds."""
    below: NDArray[np.float64]
    """(D + 1,) the weighted probability of a 1 at the child of each node; 1/2 for the last."""


_NODES = types.NamedTuple((writable(_I64), writable(_U32, 2), writable(_F64)), Nodes)
_KNOWN = types.NamedTuple((read_only(_I64), read_only(_U32, 2), read_only(_F64)), Nodes)
_PATH = types.NamedTuple((writable(_I64, 2), writable(_F64), writable(_F64)), Path)


@kernel((writable(_I64), _I64), (read_only(_I64), _I64), returns=_I64)
def find(keys, key):
    """Returns the row of a key in the N keys of a table, or the row where the key belongs if the table lacks it."""
    row = (key >> 1) & (keys.size - 1)
    while keys[row] != key and keys[row] != 0:
        row = (row + 1) & (keys.size - 1)
    return row


@kernel(_NODES, _NODES)
def move(old, new):
    """Copies all nodes of a table to another one, which is larger and empty."""
    for old_row in range(old.keys.size):
        if old.keys[old_row] != 0:
            row = find(new.keys, old.keys[old_row])
            new.keys[row], new.odds[row] = old.keys[old_row], old.odds[old_row]
            new.counts[row, 0], new.counts[row, 1] = old.counts[old_row, 0], old.counts[old_row, 1]


@kernel(_I64, _I64, returns=_I64)
def _key(context, node):
    """Returns the key of a tree node: its context, as a hash value, and its node of the code tree; never 0."""
    return hash_combine(context, node) | 1


@kernel(read_only(_I32), _I64, _I64, writable(_I64))
def hash_contexts(ids, begin, t, contexts):
    """Writes the hash values of the last 0, 1, .. D tokens before position `t` of a text to `contexts` (D + 1,).

    `ids` is the text. The document begins at position `begin`, and every token before it counts as EOT.
    """
    value = np.int64(_SEED)
    contexts[0] = value
    for d in range(1, contexts.size):
        value = hash_combine(value, (ids[t - d] if t - d >= begin else EOT) + 1)
        contexts[d] = value


@kernel(_I64, returns=_PATH)
def _new_path(depth):
    return Path(np.zeros((depth + 1, 2), np.int64), np.zeros(depth + 1), np.full(depth + 1, 0.5))


@kernel(_NODES, _KNOWN, read_only(_I64), _I64, _I64, _PATH, returns=_I64)
def _load(nodes, known, contexts, node, n_most, path):
    """Copies the stored nodes of a path through a context tree, from the root, to `path`, and zeros for the others.

    The tree is the one for `node` of the code tree. A node is looked up in `nodes`, then in `known`. At most the first
    `n_most` nodes of the path can be stored. Returns the number of stored nodes.
    """
    n = 0
    while n < n_most:
        key = _key(contexts[n], node)
        row = find(nodes.keys, key)
        if nodes.keys[row] == key:
            path.counts[n, 0], path.counts[n, 1] = nodes.counts[row, 0], nodes.counts[row, 1]
            path.odds[n] = nodes.odds[row]
        else:
            row = find(known.keys, key)
            if known.keys[row] != key:
                break
            path.counts[n, 0], path.counts[n, 1] = known.counts[row, 0], known.counts[row, 1]
            path.odds[n] = known.odds[row]
        n += 1
    path.counts[n:] = 0
    path.odds[n:] = 0
    return n


@kernel(_PATH, _I64, returns=_F64)
def _weigh(path, n_stored):
    """Returns the weighted probability at the root of a path that the next bit is 1, and updates `path.below`.

    The first `n_stored` nodes of the path are stored in the tree; the others predict 1/2.
    """
    prob = 0.5
    path.below[n_stored:] = prob
    for d in range(n_stored - 1, -1, -1):
        path.below[d] = prob
        zeros, ones = path.counts[d, 0], path.counts[d, 1]
        estimate = (ones + 0.5) / (zeros + ones + 1)
        share = 1.0 if d == path.odds.size - 1 else 1 / (1 + math.exp(-path.odds[d]))
        prob = share * estimate + (1 - share) * prob
    return prob


@kernel(_PATH, _I64, _I64, returns=_I64)
def _n_with(path, n_stored, bit):
    """Returns in how many of the first `n_stored` nodes of a path the bit was counted.

    It was counted in the first nodes, up to some depth. In these contexts, the next node of the code tree is stored.
    """
    n = 0
    while n < n_stored and path.counts[n, bit] > 0:
        n += 1
    return n


@kernel(_NODES, writable(_I64), read_only(_I64), _I64, _I64, _PATH)
def _learn(nodes, n_used, contexts, node, bit, path):
    """Adds a bit to all nodes of a path, after `_load` and `_weigh`, and stores them.

    `n_used` (1,), the number of stored nodes, is updated.
    """
    for d in range(contexts.size):
        zeros, ones, below = path.counts[d, 0], path.counts[d, 1], path.below[d]
        estimate = ((ones if bit == 1 else zeros) + 0.5) / (zeros + ones + 1)
        key = _key(contexts[d], node)
        row = find(nodes.keys, key)
        if nodes.keys[row] == 0:
            nodes.keys[row] = key
            n_used[0] += 1
        nodes.odds[row] = path.odds[d] + math.log(estimate) - math.log(below if bit == 1 else 1 - below)
        nodes.counts[row, 0], nodes.counts[row, 1] = zeros + (1 - bit), ones + bit


@kernel(_KNOWN, read_only(_I64), _I64, _I64)
def _prefetch_path(known, contexts, node, n_most):
    """Prefetches the rows of the tables in which the nodes of a path may be, before `_load` reads them.

    `n_most` is the largest number of nodes that may be in the tables.
    """
    for n in range(n_most):
        row = (_key(contexts[n], node) >> 1) & (known.keys.size - 1)
        prefetch(known.keys, row)
        prefetch(known.counts, row)
        prefetch(known.odds, row)


@kernel(_NODES, _KNOWN, read_only(_I64), _I64, writable(_F64))
def distribution(nodes, known, contexts, vocab_size, token_probs):
    """Writes the probability of each of V tokens to `token_probs` (V,).

    `contexts` (D + 1,): hash values of the last 0 to D tokens.
    """
    nodes, known, contexts = borrowed((nodes, known, contexts))
    width, path = code_width(vocab_size), _new_path(contexts.size - 1)
    probs, n_most = np.empty(4 * width), np.zeros(4 * width + _AHEAD, np.int64)
    probs[1], n_most[1] = 1.0, contexts.size
    for node in range(1, 2 * width):
        if not is_inner(node, vocab_size):
            continue
        _prefetch_path(known, contexts, node + _AHEAD, n_most[node + _AHEAD])
        n_stored = _load(nodes, known, contexts, node, n_most[node], path)
        prob = _weigh(path, n_stored)
        probs[2 * node], probs[2 * node + 1] = probs[node] * (1 - prob), probs[node] * prob
        n_most[2 * node], n_most[2 * node + 1] = _n_with(path, n_stored, 0), _n_with(path, n_stored, 1)
    for token_id in range(vocab_size):
        token_probs[token_id] = probs[leaf_of(token_id, vocab_size)]


@kernel(_NODES, _KNOWN, writable(_I64), read_only(_I32), _I64, writable(_I64), types.boolean, _I64, _I64,
        writable(_F64), writable(_F64, 2), returns=_I64)  # fmt: skip
def walk(nodes, known, n_used, ids, start, begin, learns, depth, vocab_size, log_probs, rows):
    """Reads the tokens of a text from position `start`: predicts each, then learns it if `learns` is True.

    - `nodes`: table of the nodes that are learned, with `n_used` (1,) nodes.
    - `known`: table of nodes that were learned earlier, and are copied before they are changed.
    - `ids`: the text from its beginning; the tokens before `start` were read already.
    - `begin` (1,): position at which the current document begins; it is updated.
    - `depth`: number of tokens in the longest context.
    - `log_probs`, `rows`: arrays to which the log-probability of each token that is read, and the probabilities of all
      V tokens in the prediction of this token, are written; `rows` may be empty.

    Stops before the table is more than two thirds full. Returns the number of tokens that were read.
    """
    contexts, path = np.empty(depth + 1, np.int64), _new_path(depth)
    most_new = (depth + 1) * (n_bits(code_width(vocab_size)) + 1)
    t = start
    while t < ids.size and 3 * (n_used[0] + most_new) <= 2 * nodes.keys.size:
        hash_contexts(ids, begin[0], t, contexts)
        if rows.size > 0:
            distribution(nodes, known, contexts, vocab_size, rows[t - start])
        leaf = leaf_of(ids[t], vocab_size)
        log_prob, n_most = 0.0, depth + 1
        for shift in range(n_bits(leaf) - 1, -1, -1):
            node, bit = leaf >> (shift + 1), (leaf >> shift) & 1
            n_stored = _load(nodes, known, contexts, node, n_most, path)
            prob = _weigh(path, n_stored)
            log_prob += math.log(prob if bit == 1 else 1 - prob)
            n_most = _n_with(path, n_stored, bit)
            if learns:
                _learn(nodes, n_used, contexts, node, bit, path)
        log_probs[t - start] = log_prob
        if ids[t] == EOT:
            begin[0] = t + 1
        t += 1
    return t - start
