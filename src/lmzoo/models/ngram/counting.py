"""Counting n-grams by sorting: no hash table, and memory that is known beforehand.

Every position of the text begins one n-gram of the highest order, or a shorter one that a document end cuts off. The
positions are sorted by these n-grams with one stable counting sort a token, from the last token to the first (a radix
sort whose digits are tokens). In sorted order, how many tokens each n-gram shares with the one before it tells at
which orders a new trie node begins, so that two passes over the sorted positions build the trie of all orders at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.errors import CorpusError
from lmzoo.compiled import kernel, read, write
from lmzoo.models.ngram.trie import Trie
from lmzoo.stream import EOT, TokenStream

_I32, _I64, _U8 = types.int32, types.int64, types.uint8
_LARGEST = 2**31 - 1


@dataclass(frozen=True, eq=False)
class CountedNgrams:
    """Every n-gram of a text and how often it occurs."""

    trie: Trie
    counts: NDArray[np.int32]
    """(M,) occurrences of the n-gram of each node; of the root, the number of tokens."""

    def observed(self, order: int) -> NDArray[np.int32]:
        """How often each n-gram of an order occurs."""
        return self.counts[self.trie.level(order)]

    def continuations(self, order: int) -> NDArray[np.int32]:
        """Of each n-gram of an order, how many different tokens come before it (Kneser & Ney 1995).

        Nothing comes before a document start, and nothing is counted before the longest n-grams: these keep their
        occurrences. As in KenLM, a document start counts as one token.
        """
        observed, trie = self.observed(order), self.trie
        if order == trie.order:
            return observed
        # As many n-grams of the next order lead to this one by their suffix links as tokens come before it.
        links = trie.suffixes[trie.level(order + 1)] - trie.level(order).start
        counts = np.bincount(links, minlength=observed.size).astype(np.int32)
        if order > 1:
            n_starts = trie.n_at_document_start[order]
            counts[:n_starts] = observed[:n_starts]
        return counts

    def context_totals(self) -> NDArray[np.int64]:
        """(C,) how often each context is followed by a token."""
        running = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        edges = running[self.trie.first_child]
        return np.diff(edges)


def count_ngrams(
    stream: TokenStream, vocab_size: int, order: int, on_step: Callable[[str], None] = lambda step: None
) -> CountedNgrams:
    """All n-grams of a stream up to an order. CorpusError if there are more than 2^31 of them."""
    if len(stream) + order > _LARGEST:
        raise CorpusError(f"{len(stream):,} tokens are too many: n-grams are counted in at most {_LARGEST - order:,}")
    on_step("sorting n-grams")
    # A document start before the first token, and after the last one ids that no token has, so that nothing matches.
    padded = np.concatenate([[EOT], stream.ids, np.full(order, vocab_size)], dtype=np.int32, casting="same_kind")
    n_positions = len(stream) + 1
    positions = np.arange(n_positions, dtype=np.int32)
    bounds = np.empty(vocab_size + 2, np.int64)
    positions = _sort_positions(padded, positions, np.empty_like(positions), order, bounds)
    on_step("building the trie")
    shared, lengths = np.empty(n_positions, np.uint8), np.empty(n_positions, np.uint8)
    n_nodes = np.zeros(order + 1, np.int64)
    _compare_neighbours(padded, positions, order, vocab_size, shared, lengths, n_nodes)
    n_nodes[:2] = 1, vocab_size
    levels = np.concatenate([[0], np.cumsum(n_nodes)])  # (n + 2,)
    if levels[-1] > _LARGEST:
        raise CorpusError(f"{levels[-1]:,} different n-grams are too many: lower the order, or train on less text")
    tokens, counts = np.zeros(levels[-1], np.int32), np.zeros(levels[-1], np.int32)
    first_child = np.empty(levels[order] + 1, np.int32)
    tokens[1 : 1 + vocab_size] = np.arange(vocab_size)
    _build(padded, positions, shared, lengths, levels[: order + 1].copy(), vocab_size, tokens, counts, first_child)
    first_child[0], first_child[-1] = 1, levels[-1]
    counts[0], counts[1 : 1 + vocab_size] = len(stream), np.bincount(stream.ids, minlength=vocab_size)
    del padded, positions, shared, lengths
    on_step("linking the trie")
    suffixes = np.zeros(levels[-1], np.int32)
    _link(tokens, first_child, suffixes)
    return CountedNgrams(Trie(levels, tokens, first_child, suffixes), counts)


@kernel(read(_I32), write(_I32), write(_I32), _I64, write(_I64), returns=write(_I32))
def _sort_positions(padded, positions, scratch, order, bounds):
    """Stable counting sorts by the token at each offset, the last one first; `positions` begin in rising order."""
    for offset in range(order - 1, -1, -1):
        bounds[:] = 0
        for position in positions:
            bounds[padded[position + offset] + 1] += 1
        for token in range(1, bounds.size):
            bounds[token] += bounds[token - 1]
        for position in positions:
            token = padded[position + offset]
            scratch[bounds[token]] = position
            bounds[token] += 1
        positions, scratch = scratch, positions
    return positions


@kernel(read(_I32), read(_I32), _I64, _I64, write(_U8), write(_U8), write(_I64))
def _compare_neighbours(padded, positions, order, vocab_size, shared, lengths, n_nodes):
    """How long each sorted n-gram is, how many first tokens it shares with the one before; nodes of each order."""
    for i in range(positions.size):
        here = positions[i]
        length = 1
        while length < order and padded[here + length] != vocab_size:
            length += 1
            if padded[here + length - 1] == EOT:
                break
        common = 0
        if i:
            before = positions[i - 1]
            while common < min(length, lengths[i - 1]) and padded[here + common] == padded[before + common]:
                common += 1
        shared[i], lengths[i] = common, length
        for k in range(common + 1, length + 1):
            n_nodes[k] += 1


@kernel(
    read(_I32), read(_I32), read(_U8), read(_U8), write(_I64), _I64, write(_I32), write(_I32), write(_I32)
)  # fmt: skip
def _build(padded, positions, shared, lengths, free, vocab_size, tokens, counts, first_child):
    """Fills the nodes from order 2 on; `free` is the next free node of each order."""
    order = free.size - 1
    n_unigrams = 0  # how many have been told where their children begin
    for i in range(positions.size if order > 1 else 0):
        here = positions[i]
        while n_unigrams <= min(padded[here], vocab_size - 1):
            first_child[1 + n_unigrams] = free[2]
            n_unigrams += 1
        for k in range(max(shared[i] + 1, 2), lengths[i] + 1):
            node = free[k]
            free[k] += 1
            tokens[node] = padded[here + k - 1]
            if k < order:
                first_child[node] = free[k + 1]
        for k in range(2, lengths[i] + 1):
            counts[free[k] - 1] += 1
    while order > 1 and n_unigrams < vocab_size:
        first_child[1 + n_unigrams] = free[2]
        n_unigrams += 1


@kernel(read(_I32), read(_I32), write(_I32))
def _link(tokens, first_child, suffixes):
    """Finds each family of a context among the family of the context's suffix: a merge of two sorted lists."""
    for context in range(1, first_child.size - 1):
        shorter = suffixes[context]
        place, end = first_child[shorter], first_child[shorter + 1]
        for node in range(first_child[context], first_child[context + 1]):
            token = tokens[node]
            if shorter == 0:
                suffixes[node] = 1 + token
                continue
            step = 1  # gallops, then halves: large families are searched by small ones, and by large ones
            while place + step < end and tokens[place + step] <= token:
                place += step
                step *= 2
            step = min(step, end - place)
            while step > 1:
                half = step // 2
                if tokens[place + half] <= token:
                    place += half
                    step -= half
                else:
                    step = half
            suffixes[node] = place
