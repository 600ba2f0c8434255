"""Counting n-grams by sorting: no hash table, and memory that is known beforehand.

Every position of the text begins one n-gram of the highest order, or a shorter one that a document end cuts off. The
positions are sorted by these n-grams: first into buckets by their first token, then inside each bucket with one stable
counting sort a token, from the last token to the first (a radix sort whose digits are tokens). In sorted order, how
many tokens each n-gram shares with the one before it tells at which orders a new trie node begins, so that every bucket
can build its part of the trie of all orders by itself. Buckets are shared among the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.errors import CorpusError
from lmzoo.models.ngram.trie import Trie
from lmzoo.models.ngram.workspace import Workspace, blocks
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.compiled import kernel, read, write

_I32, _I64, _U8 = types.int32, types.int64, types.uint8
_LARGEST = 2**31 - 1
_BUCKET = 1 << 17
"""Positions in a bucket, or more if they begin with one token: what is worked on at a time should fit the cache."""


@dataclass(frozen=True, eq=False)
class CountedNgrams:
    """Every n-gram of a text and how often it occurs."""

    trie: Trie
    counts: NDArray[np.int32]
    """(M,) occurrences of the n-gram of each node; of the root, the number of tokens."""
    workspace: Workspace

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
        counts = self.workspace.zeros(observed.size, np.int32)
        for block in blocks(trie.level(order + 1)):
            _count(trie.suffixes[block], trie.level(order).start, counts)
            self.workspace.release()
        if order > 1:
            n_starts = trie.n_at_document_start[order]
            counts[:n_starts] = observed[:n_starts]
        return counts


def count_ngrams(
    stream: TokenStream,
    vocab_size: int,
    order: int,
    workspace: Workspace | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> CountedNgrams:
    """All n-grams of a stream up to an order. CorpusError if there are more than 2^31 of them."""
    workspace = workspace or Workspace()
    if len(stream) + 1 + order > _LARGEST:
        raise CorpusError(f"{len(stream):,} tokens are too many: n-grams are counted in at most {_LARGEST - order:,}")
    on_step("sorting n-grams")
    levels, tokens, counts, first_child = _build_levels(stream, vocab_size, order, workspace, on_step)
    on_step("linking the trie")
    suffixes = workspace.empty(levels[-1], np.int32)
    suffixes[: 1 + vocab_size] = 0
    trie = Trie(levels, tokens, first_child, suffixes)

    def link(contexts: slice) -> None:
        _link(tokens, first_child, suffixes, contexts.start, contexts.stop)

    for k in range(1, order):  # order by order: a context finds its family below that of its suffix
        workspace.run(link, blocks(trie.level(k)))
    return CountedNgrams(trie, counts, workspace)


def _build_levels(
    stream: TokenStream, vocab_size: int, order: int, workspace: Workspace, on_step: Callable[[str], None]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The levels, tokens and children of the trie, and the counts."""
    # A document start before the first token, and after the last one ids that no token has, so that nothing matches.
    n_positions = len(stream) + 1
    padded = workspace.empty(n_positions + order, np.int32)
    padded[0], padded[1:n_positions], padded[n_positions:] = EOT, stream.ids, vocab_size
    n_tokens, n_firsts = (np.zeros(vocab_size, np.int32) for _ in range(2))
    _count(padded[1:n_positions], 0, n_tokens)
    _count(padded[:n_positions], 0, n_firsts)
    ends = np.cumsum(n_firsts, dtype=np.int64)  # (V,) where the sorted n-grams of a first token end
    positions = workspace.empty(n_positions, np.int32)
    _group(padded[:n_positions], ends - n_firsts, positions)
    shared, lengths = workspace.empty(n_positions, np.uint8), workspace.empty(n_positions, np.uint8)
    buckets = list(_buckets(ends))
    n_nodes = np.zeros((len(buckets) + 1, order + 1), np.int64)  # of each order, before each bucket and after the last

    def sort(number: int) -> None:
        here = buckets[number][1]
        _sort_bucket(padded, positions[here], order, vocab_size)
        _compare_neighbours(padded, positions[here], vocab_size, shared[here], lengths[here], n_nodes[number + 1])

    workspace.run(sort, range(len(buckets)))
    on_step("building the trie")
    np.cumsum(n_nodes, axis=0, out=n_nodes)
    sizes = n_nodes[-1].copy()
    sizes[:2] = 1, vocab_size
    levels = np.concatenate([[0], np.cumsum(sizes)])  # (n + 2,)
    if levels[-1] > _LARGEST:
        raise CorpusError(f"{levels[-1]:,} different n-grams are too many: lower the order, or train on less text")
    n_nodes += levels[:-1]
    tokens, counts = (workspace.empty(levels[-1], np.int32) for _ in range(2))
    first_child = workspace.empty(levels[order] + 1, np.int32)

    def build(number: int) -> None:
        firsts, here = buckets[number]
        _build(
            padded, positions[here], shared[here], lengths[here],
            firsts.start, firsts.stop, n_nodes[number], tokens, counts, first_child,
        )  # fmt: skip

    workspace.run(build, range(len(buckets)))
    tokens[0], tokens[1 : 1 + vocab_size] = 0, np.arange(vocab_size)
    counts[0], counts[1 : 1 + vocab_size] = len(stream), n_tokens
    first_child[0], first_child[-1] = 1, levels[-1]
    return levels, tokens, counts, first_child


def _buckets(ends: NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Cuts the sorted positions into ranges of first tokens; (tokens, positions) of each."""
    first, start = 0, 0
    while first < ends.size:
        last = max(first + 1, int(np.searchsorted(ends, start + _BUCKET, side="right")))
        yield slice(first, last), slice(start, int(ends[last - 1]))
        first, start = last, int(ends[last - 1])


@kernel(read(_I32), write(_I64), write(_I32))
def _group(firsts, free, positions):
    """A counting sort by the first token; `free` is where the next position of each token goes."""
    for position in range(firsts.size):
        token = firsts[position]
        positions[free[token]] = position
        free[token] += 1


@kernel(read(_I32), write(_I32), _I64, _I64)
def _sort_bucket(padded, positions, order, vocab_size):
    """Stable counting sorts by the token at each offset, the last one first; `positions` rise inside a first token."""
    bounds = np.empty(vocab_size + 2, np.int64)
    now, then = positions, np.empty_like(positions)
    for offset in range(order - 1, -1, -1):
        bounds[:] = 0
        for position in now:
            bounds[padded[position + offset] + 1] += 1
        for token in range(1, bounds.size):
            bounds[token] += bounds[token - 1]
        for position in now:
            token = padded[position + offset]
            then[bounds[token]] = position
            bounds[token] += 1
        now, then = then, now
    if order % 2:
        positions[:] = now


@kernel(read(_I32), read(_I32), _I64, write(_U8), write(_U8), write(_I64))
def _compare_neighbours(padded, positions, vocab_size, shared, lengths, n_nodes):
    """How long each sorted n-gram is, how many first tokens it shares with the one before; nodes of each order."""
    order = n_nodes.size - 1
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
    read(_I32), read(_I32), read(_U8), read(_U8), _I64, _I64, read(_I64), write(_I32), write(_I32), write(_I32)
)  # fmt: skip
def _build(padded, positions, shared, lengths, token, last_token, first_nodes, tokens, counts, first_child):
    """Fills the nodes of a bucket from order 2 on, and where the children of its unigrams begin."""
    order = first_nodes.size - 1
    free = first_nodes.copy()  # the next free node of each order
    if order == 1:
        return
    for i in range(positions.size):
        here = positions[i]
        while token <= padded[here]:
            first_child[1 + token] = free[2]
            token += 1
        for k in range(max(shared[i] + 1, 2), lengths[i] + 1):
            node = free[k]
            free[k] += 1
            tokens[node], counts[node] = padded[here + k - 1], 0
            if k < order:
                first_child[node] = free[k + 1]
        for k in range(2, lengths[i] + 1):
            counts[free[k] - 1] += 1
    while token < last_token:
        first_child[1 + token] = free[2]
        token += 1


@kernel(read(_I32), read(_I32), write(_I32), _I64, _I64)
def _link(tokens, first_child, suffixes, start, stop):
    """Finds each family of a context among the family of the context's suffix: a merge of two sorted lists."""
    for context in range(start, stop):
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


@kernel(read(_I32), _I64, write(_I32))
def _count(values, first, counts):
    """Like numpy's bincount, which would copy the values."""
    for value in values:
        counts[value - first] += 1
