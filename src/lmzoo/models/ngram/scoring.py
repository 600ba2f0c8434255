"""Finds the n-grams of a text in a trie, and scores the text, at many positions at a time.

The n-gram of order k that ends at a position is a child of the n-gram of order k - 1 that ends one position before. So
the n-grams of a whole block of text are found order by order. Within one order, the look-ups at different positions are
independent, and the processor overlaps their cache misses; a walk from token to token would wait for each of them.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from lmzoo.models.ngram.trie import ROOT, Trie
from lmzoo.models.ngram.weights import N_CODES, Weights
from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64, _U8, _F32, _F64 = types.int32, types.int64, types.uint8, types.float32, types.float64
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, for Knuth's multiplicative hashing
_TABLE_BYTES = 1 << 26
"""Maximum size of a hash table of n-grams, which is up to twice as fast as binary search. All orders from 2 to the
highest that fits in this size are looked up in the table."""
_PAYS_OFF = 0.5
"""The table is built after this many tokens have been read per n-gram in it, when building it saves time."""
_BLOCK = 1 << 18


class Matcher:
    """Finds the n-grams of a text in an n-gram trie, and scores the text with them.

    Uses binary search and, once enough text has been read, a hash table of the shorter n-grams.
    """

    def __init__(self, trie: Trie) -> None:
        self.trie = trie
        self._table: NDArray[np.int64] | None = None
        self._n_read = 0
        sizes = [int(trie.levels[k + 1] - trie.levels[2]) for k in range(1, trie.order + 1)]
        self._hashed_order = 1 + max(k for k, n in enumerate(sizes) if k == 0 or 8 * _n_slots(n) <= _TABLE_BYTES)
        self._n_hashed = sizes[self._hashed_order - 1]

    def nodes(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Looks up the n-grams that end at each position of a text, and returns their trie nodes (n, 1 + T).

        Row k - 1 is for the n-grams of length k = 1 .. n. Column 0 is the position before the text, which is a document
        start; columns 1 .. T are its T tokens. Node 0 means that the trie has no such n-gram. Document ends need no
        special treatment: n-grams that end with EOT have no children, and the unigram of EOT is the context at a
        document start.
        """
        trie = self.trie
        nodes = np.zeros((trie.order, ids.size + 1), np.int32)
        nodes[0, 0] = trie.document_start
        np.add(ids, 1, out=nodes[0, 1:])
        self._n_read += ids.size
        if self._table is None and self._n_read > _PAYS_OFF * self._n_hashed:
            table = np.zeros(_n_slots(self._n_hashed), np.int64)
            _fill_table(trie.tokens, trie.first_child, trie.levels[self._hashed_order], table)
            self._table = table  # only when it is full: other threads use it as soon as it is set
        for order in range(2, trie.order + 1):
            shorter, longer = nodes[order - 2], nodes[order - 1]
            if order <= self._hashed_order and self._table is not None:
                _match_hashed(ids, trie.first_child, self._table, shorter, longer)
            else:
                _match(ids, trie.tokens, trie.first_child, shorter, longer)
        return nodes

    def log_probs(self, ids: NDArray[np.int32], weights: Weights) -> NDArray[np.float64]:
        """Returns the log-probability (T,) of each of the T tokens of a text under an n-gram model, in nats.

        The log-probability of a token is that of the longest n-gram in the trie that ends with it, plus the back-off
        weights of the longer contexts.
        """
        total = np.empty(ids.size)
        for start in range(0, ids.size, _BLOCK):
            before = max(0, start - self.trie.order)  # so that the longest n-gram at the first position is found
            nodes = self.nodes(ids[before : start + _BLOCK])
            here = total[start : start + _BLOCK]
            _score(nodes[:, start - before :], weights.values, weights.codebook, weights.backoffs, here)
        return total

    def states(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Returns the model states (T + 1,) before each of T tokens of a text and after the last token, as trie nodes.

        A state is the node of the longest sequence of last tokens that is a context in the trie.
        """
        states = np.full(ids.size + 1, ROOT, np.int32)
        for nodes in self.nodes(ids)[: self.trie.order - 1]:
            np.copyto(states, nodes, where=nodes != ROOT)
        states[1:][ids == EOT] = self.trie.document_start
        return states

    def fill_rows(self, states: NDArray[np.int32], weights: Weights, rows: NDArray[np.float64]) -> None:
        """Writes the log-probabilities of all V tokens after each of B contexts of an n-gram model to `rows` (B, V).

        `states` (B,) are the trie nodes of the contexts. `weights` holds the log-probabilities of all n-grams of the
        trie, and the back-off weights of all contexts.
        """
        trie = self.trie
        path, path_weights = np.empty(trie.order, np.int64), np.empty(trie.order)
        _fill_rows(
            states, trie.tokens, trie.first_child, trie.suffixes, weights.values, weights.codebook, weights.backoffs,
            path, path_weights, rows,
        )  # fmt: skip


def _n_slots(n: int) -> int:
    """Returns the number of slots of a hash table for n entries: a power of two above 2 n, at least 2."""
    return 1 << max(1, (2 * n).bit_length())  # one slot would need a shift by 64 bits, which is undefined


@kernel(read_only(_I32), read_only(_I32), _I64, writable(_I64))
def _fill_table(tokens, first_child, n_contexts, table):
    """Fills a hash table with the children of the contexts 1 to `n_contexts` - 1 of an n-gram trie.

    The table uses open addressing with linear probing. The hash is computed from a context and a token. An entry
    contains the child in its upper 32 bits and the token in its lower 32 bits.
    """
    bits = np.uint64(64 - np.log2(table.size))
    for context in range(1, n_contexts):
        for node in range(first_child[context], first_child[context + 1]):
            slot = ((np.uint64(context) << np.uint64(32) | np.uint64(tokens[node])) * _GOLDEN) >> bits
            while table[slot] != 0:
                slot = (slot + np.uint64(1)) & np.uint64(table.size - 1)
            table[slot] = np.int64(node) << 32 | np.int64(tokens[node])


@kernel(read_only(_I32), read_only(_I32), read_only(_I64), read_only(_I32), writable(_I32))
def _match_hashed(ids, first_child, table, shorter, longer):
    bits = np.uint64(64 - np.log2(table.size))
    for t in range(ids.size):
        context, token = shorter[t], np.int64(ids[t])
        if context == ROOT or shorter[t + 1] == ROOT:  # an n-gram is in the trie only if its suffix is
            continue
        start, end = first_child[context], first_child[context + 1]
        slot = ((np.uint64(context) << np.uint64(32) | np.uint64(token)) * _GOLDEN) >> bits
        while table[slot] != 0:
            node = table[slot] >> 32
            if table[slot] & 0xFFFFFFFF == token and start <= node and node < end:
                longer[t + 1] = node
                break
            slot = (slot + np.uint64(1)) & np.uint64(table.size - 1)


@kernel(read_only(_I32), read_only(_I32), _I64, _I64, returns=_I64)
def find_child(tokens, first_child, context, token):
    """Returns the trie node that continues a context by `token`, or the root if there is no such n-gram."""
    low, end = first_child[context], first_child[context + 1]
    high = end
    while low < high:
        middle = (low + high) >> 1
        if tokens[middle] < token:
            low = middle + 1
        else:
            high = middle
    return low if low < end and tokens[low] == token else ROOT


@kernel(read_only(_I32), read_only(_I32), read_only(_I32), read_only(_I32), writable(_I32))
def _match(ids, tokens, first_child, shorter, longer):
    for t in range(ids.size):
        if shorter[t] != ROOT and shorter[t + 1] != ROOT:
            longer[t + 1] = find_child(tokens, first_child, shorter[t], ids[t])


def value_at(node, values, codebook):
    """Returns the log-probability of a node of the n-gram trie.

    `values` contains the log-probability of each node as float32, or its one-byte code in `codebook`. The function can
    be called only in compiled code: numba chooses between both representations by the type of `values`.
    """
    raise NotImplementedError


@overload(value_at)
def _compiled_value_at(node, values, codebook):
    if values.dtype == _F32:
        return lambda node, values, codebook: values[node]
    n_codes = N_CODES
    return lambda node, values, codebook: codebook[
        node + n_codes if node < codebook.size - n_codes else np.int64(values[node])
    ]


VALUES = types.none


def either(*arguments: types.Type) -> list[tuple[types.Type, ...]]:
    """Returns two signatures of a compiled function, for the two ways in which log-probabilities of n-grams are stored.

    These ways are float32 numbers and one-byte codes. The positional arguments, `arguments`, are the numba types of the
    function's arguments, with the placeholder `VALUES` for the array of log-probabilities. The placeholder is replaced
    by the type of float32 arrays in the first signature, and by the type of arrays of codes in the second.
    """
    return [
        tuple(choice if argument is VALUES else argument for argument in arguments)
        for choice in (read_only(_F32), read_only(_U8))
    ]


@kernel(*either(types.Array(_I32, 2, "A", readonly=True), VALUES, read_only(_F32), read_only(_F32), writable(_F64)))
def _score(nodes, values, codebook, backoffs, total):
    """Writes the log-probability of each of T tokens under an n-gram model to `total` (T,).

    `nodes` (n, 1 + T) are the trie nodes of the n-grams of each order that end with each token; 0 = not in the trie.
    The longest of these n-grams gives the log-probability, to which the log back-off weight of each longer context in
    the trie is added. `values` contains the log-probability of each node, or its one-byte code in `codebook`, and
    `backoffs` the log back-off weight of each context.
    """
    for t in range(total.size):
        longest, weight = nodes[0, t + 1], 0.0
        for k in range(1, nodes.shape[0]):
            if nodes[k, t + 1] != ROOT:
                longest, weight = nodes[k, t + 1], 0.0
            elif nodes[k - 1, t] != ROOT:
                weight += backoffs[nodes[k - 1, t]]
        total[t] = value_at(longest, values, codebook) + weight


@kernel(
    *either(
        read_only(_I32), read_only(_I32), read_only(_I32), read_only(_I32), VALUES, read_only(_F32), read_only(_F32),
        writable(_I64), writable(_F64), writable(_F64, 2),
    )
)  # fmt: skip
def _fill_rows(states, tokens, first_child, suffixes, values, codebook, backoffs, path, weights, rows):
    """Writes the log-probabilities of all V tokens after each of B contexts of an n-gram model to `rows` (B, V).

    The contexts are the trie nodes `states` (B,). All tokens first get their unigram log-probabilities plus the
    back-off weights of the context and its suffixes. Then the tokens that followed the context or a suffix in training
    are overwritten, from the shortest suffix to the whole context.
    """
    vocab_size = rows.shape[1]
    for b in range(states.size):
        length, weight, context = 0, 0.0, states[b]
        while context != ROOT:
            path[length], weights[length] = context, weight
            length += 1
            weight += backoffs[context]
            context = suffixes[context]
        for token in range(vocab_size):
            rows[b, token] = value_at(1 + token, values, codebook) + weight
        for i in range(length - 1, -1, -1):
            for node in range(first_child[path[i]], first_child[path[i] + 1]):
                rows[b, tokens[node]] = value_at(node, values, codebook) + weights[i]
