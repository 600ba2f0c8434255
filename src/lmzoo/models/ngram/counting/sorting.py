"""Counts n-grams by sorting the positions of a text, without a hash table and with a known amount of memory.

Every position of the text begins one n-gram of the highest order n, or a shorter one if the document ends earlier. The
positions are sorted by these n-grams: first into buckets by their first token, then inside each bucket with one stable
counting sort per token, from the last token to the first (a radix sort whose digits are tokens). If a sorted n-gram
shares its first k tokens with the n-gram before it, then it adds one trie node to each order above k. For example, with
n = 3:

    sorted positions      shared tokens   new trie nodes
    the cat ate                 0         the,  the cat,  the cat ate
    the cat sat                 2         the cat sat
    the dog sat                 1         the dog,  the dog sat

So every bucket can build its part of the trie independently, and the buckets are distributed over the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.errors import CorpusError
from lmzoo.models.ngram.counting.protocol import CountedNgrams, add_counts
from lmzoo.models.ngram.counting.workspace import Workspace, blocks
from lmzoo.models.ngram.trie import Trie
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.compiled import kernel, read, write

_I32, _I64, _U8 = types.int32, types.int64, types.uint8
_LARGEST = 2**31 - 1
_LONG_BLOCK = 1 << 22
"""Number of tokens of the text that are read before the pages of mapped arrays are dropped from memory."""
_BUCKET = 1 << 17
"""Target number of positions in a bucket, so that a bucket fits the processor's cache. A bucket is larger if one first
token alone has more positions."""


def count_ngrams(
    shards: Sequence[TokenStream],
    vocab_size: int,
    order: int,
    workspace: Workspace | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> CountedNgrams:
    """Counts all n-grams of length 1 to `order` in a text by sorting its positions.

    `shards` are consecutive parts of the text, cut between documents. Large arrays are allocated in `workspace`
    (default: in memory). `on_step` is called with a message at the start of each step. Raises CorpusError if there are
    more than 2^31 tokens or different n-grams.
    """
    workspace = workspace or Workspace()
    n_tokens = sum(map(len, shards))
    if n_tokens + 1 + order > _LARGEST:
        raise CorpusError(
            f"the text has {n_tokens:,} tokens, but n-grams of order {order} can be counted in at most "
            f"{_LARGEST - 1 - order:,}: train on less text"
        )
    on_step("sorting n-grams")
    padded = _padded(shards, n_tokens, vocab_size, order, workspace)
    levels, tokens, counts, first_child = _build_levels(padded, n_tokens, vocab_size, order, workspace, on_step)
    suffixes = workspace.empty(levels[-1], np.int32)
    suffixes[: 1 + vocab_size] = 0
    trie = Trie(levels, tokens, first_child, suffixes)

    def link(contexts: slice) -> None:
        _link(tokens, first_child, suffixes, contexts.start, contexts.stop)

    for k in range(1, order):  # order by order: linking an order uses the suffix links of the order below
        on_step(f"linking the trie, order {k + 1}")
        workspace.run(link, blocks(trie.level(k)))
    return CountedNgrams(trie, counts, workspace)


def _padded(
    shards: Sequence[TokenStream], n_tokens: int, vocab_size: int, order: int, workspace: Workspace
) -> NDArray[np.int32]:
    """Joins the shards of a text into one array, and adds padding at both ends.

    One EOT token before the text stands for the start of the first document. After the text, the id `vocab_size`, which
    no token has, is repeated `order` times, so that no n-gram extends beyond the end of the text.
    """
    padded = workspace.empty(n_tokens + 1 + order, np.int32)
    padded[0], padded[n_tokens + 1 :] = EOT, vocab_size
    start = 1
    for shard in shards:
        for block in blocks(slice(0, len(shard)), _LONG_BLOCK):
            padded[start + block.start : start + block.stop] = shard.ids[block]
            workspace.release()
        start += len(shard)
    return padded


def _build_levels(
    padded: NDArray[np.int32],
    n_tokens: int,
    vocab_size: int,
    order: int,
    workspace: Workspace,
    on_step: Callable[[str], None],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Builds the n-gram trie of a text, without suffix links; returns the arrays (levels, tokens, counts, first_child).

    `padded` contains an EOT token, the `n_tokens` tokens of the text, and then padding. The trie has M nodes, one per
    n-gram of length 0 to `order`, sorted by length and then by tokens. `levels` contains the first node of each length,
    and M. `tokens` (M,) is the last token of each n-gram, `counts` (M,) its number of occurrences, and `first_child`
    the first of the nodes that continue it by one token. Raises CorpusError if there are too many n-grams.
    """
    n_positions = n_tokens + 1
    token_counts = np.zeros(vocab_size, np.int32)
    for block in blocks(slice(1, n_positions), _LONG_BLOCK):
        add_counts(padded[block], 0, token_counts)
        workspace.release()
    n_firsts = token_counts.copy()
    n_firsts[EOT] += 1  # the EOT token before the text
    ends = np.cumsum(n_firsts, dtype=np.int64)  # (V,) index after the sorted n-grams of each first token
    positions, free = workspace.empty(n_positions, np.int32), ends - n_firsts
    for block in blocks(slice(0, n_positions), _LONG_BLOCK):
        _group(padded[block], block.start, free, positions)
        workspace.release()
    shared, lengths = workspace.empty(n_positions, np.uint8), workspace.empty(n_positions, np.uint8)
    buckets = list(_buckets(ends))
    n_nodes = np.zeros((len(buckets) + 1, order + 1), np.int64)  # by order, before each bucket and after the last

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
        raise CorpusError(
            f"the text has {levels[-1]:,} different n-grams, but an n-gram model can hold at most {_LARGEST:,}: "
            "lower the order, or train on less text"
        )
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
    counts[0], counts[1 : 1 + vocab_size] = n_tokens, token_counts
    first_child[0], first_child[-1] = 1, levels[-1]
    return levels, tokens, counts, first_child


def _buckets(ends: NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Splits the positions of a text, sorted by the token at each position, into buckets of about equal size.

    Yields two ranges for each bucket: its tokens, and the indices of its positions in the sorted array. All positions
    with the same token are in one bucket. `ends` (V,) is the index after the last position of each of V tokens.
    """
    first, start = 0, 0
    while first < ends.size:
        last = max(first + 1, int(np.searchsorted(ends, start + _BUCKET, side="right")))
        yield slice(first, last), slice(start, int(ends[last - 1]))
        first, start = last, int(ends[last - 1])


@kernel(read(_I32), _I64, write(_I64), write(_I32))
def _group(block, start, free, positions):
    """Sorts the positions of a text by the token at each position, with one pass of a counting sort.

    `block` is a block of the text, which begins at the position `start`. `free` (V,) is the index at which the next
    position of each of V tokens is written to `positions`; it is increased by one for each position written. After the
    last block, `positions` is sorted.
    """
    for offset in range(block.size):
        token = block[offset]
        positions[free[token]] = start + offset
        free[token] += 1


@kernel(read(_I32), write(_I32), _I64, _I64)
def _sort_bucket(padded, positions, order, vocab_size):
    """Sorts positions of a text by the `order` tokens that begin at each of them.

    `padded` is the text, and `positions` are the positions to be sorted in place. A stable counting sort is done for
    each of the `order` tokens, the last token first. Positions with the same first token must be in increasing order.
    """
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
    """Compares each n-gram in a sorted list of n-grams with the n-gram before it.

    The n-grams begin at `positions` of the text `padded`. For each n-gram, its number of tokens is written to
    `lengths`, and the number of first tokens that it has in common with the n-gram before it to `shared`. Adds the
    number of new trie nodes of each order 0 .. n to `n_nodes` (n + 1,).
    """
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
    """Writes a part of an n-gram trie: all n-grams that begin with the tokens `token` to `last_token` - 1.

    `positions` are the positions of the text `padded` at which these n-grams begin, in sorted order. `lengths` and
    `shared` are the results of `_compare_neighbours`: the length of each n-gram, and the number of first tokens that it
    has in common with the n-gram before it. `first_nodes` is the first node of this part for each order. The nodes of
    order 2 and above are written to `tokens`, `counts` and `first_child`; for unigrams, only the first child is
    written.
    """
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
    """Writes the suffix links of the n-grams whose contexts are the trie nodes `start` to `stop` - 1.

    The suffix of an n-gram is the n-gram without its first token. If the n-gram continues the context h by the token w,
    then its suffix continues h' by w, where h' is the suffix of h. So the links of the contexts must be written
    already. The continuations of h and of h' are both sorted by token, so each search begins at the previous result.
    """
    for context in range(start, stop):
        shorter = suffixes[context]
        position, end = first_child[shorter], first_child[shorter + 1]
        for node in range(first_child[context], first_child[context + 1]):
            token = tokens[node]
            if shorter == 0:
                suffixes[node] = 1 + token
                continue
            step = 1  # galloping search, then binary search: fast for short and for long lists of children
            while position + step < end and tokens[position + step] <= token:
                position += step
                step *= 2
            step = min(step, end - position)
            while step > 1:
                half = step // 2
                if tokens[position + half] <= token:
                    position += half
                    step -= half
                else:
                    step = half
            suffixes[node] = position
