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

from collections.abc import Callable, Iterator

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.errors import CorpusError
from lmzoo.mapped import blocks_of
from lmzoo.models.ngram.counting.counted import CountedNgrams, add_counts
from lmzoo.models.ngram.counting.workspace import Workspace, blocks
from lmzoo.models.ngram.trie import Trie
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64, _U8 = types.int32, types.int64, types.uint8
_LARGEST = 2**31 - 1
_LONG_BLOCK = 1 << 22
"""Number of tokens of the text that are read before the pages of mapped arrays are dropped from memory."""
_BUCKET = 1 << 17
"""Target number of positions in a bucket, so that a bucket fits the processor's cache. A bucket is larger if one first
token alone has more positions."""


def count_ngrams(
    text: TokenStream,
    vocab_size: int,
    order: int,
    workspace: Workspace | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> CountedNgrams:
    """Counts all n-grams of length 1 to `order` in a text.

    The positions of the text are sorted by the n-grams that begin there, so that equal n-grams are neighbours.

    - `vocab_size`: the number of different token ids.
    - `workspace`: allocates large arrays, by default in memory.
    - `on_step`: called with a message at the start of each step.

    Raises CorpusError if the text has more than 2^31 tokens or different n-grams.
    """
    workspace = workspace or Workspace()
    n_tokens = len(text)
    if n_tokens + 1 + order > _LARGEST:
        raise CorpusError(
            f"the text has {n_tokens:,} tokens, but n-grams of order {order} can be counted in at most "
            f"{_LARGEST - 1 - order:,}: train on less text"
        )
    on_step("sorting n-grams")
    padded = _padded(text, vocab_size, order, workspace)
    levels, tokens, counts, first_child = build_levels(padded, n_tokens + 1, 1, vocab_size, order, workspace, on_step)
    counts[0], counts[1 + EOT] = n_tokens, counts[1 + EOT] - 1  # without the EOT token before the text
    suffixes = workspace.empty(levels[-1], np.int32)
    suffixes[: 1 + vocab_size] = 0
    trie = Trie(levels, tokens, first_child, suffixes)

    def link(contexts: slice) -> None:
        _link(tokens, first_child, suffixes, contexts.start, contexts.stop)

    for k in range(1, order):  # order by order: linking an order uses the suffix links of the order below
        on_step(f"linking the trie, order {k + 1}")
        workspace.run(link, blocks(trie.level(k)))
    return CountedNgrams(trie, counts, workspace)


def _padded(text: TokenStream, vocab_size: int, order: int, workspace: Workspace) -> NDArray[np.int32]:
    """Returns the token ids of a text with padding at both ends.

    Before the text, one EOT token represents the start of the first document. After the text, the id `vocab_size`,
    which no token has, is repeated `order` times, so that no n-gram extends beyond the end of the text.
    """
    padded = workspace.empty(len(text) + 1 + order, np.int32)
    padded[0], padded[len(text) + 1 :] = EOT, vocab_size
    for first, block in blocks_of(text.ids):
        padded[1 + first : 1 + first + block.size] = block
        workspace.release()
    return padded


def build_levels(
    padded: NDArray[np.int32],
    n_positions: int,
    stride: int,
    vocab_size: int,
    order: int,
    workspace: Workspace,
    on_step: Callable[[str], None],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Counts the n-grams that begin at N positions, and builds their trie: a node for each of length 0 to `order`.

    - `padded`: the text as token ids, with padding after the last position. The id of the padding is `vocab_size`. An
      n-gram has `order` tokens, or fewer if it reaches EOT, which is its last token, or padding, which is left out.
    - `n_positions`: the number N of positions, which are 0, `stride`, 2 `stride`, ...
    - `workspace`: allocates large arrays.
    - `on_step`: called with a message at the start of each step.

    The M nodes are sorted by the length of their n-grams and then by tokens. Returns four arrays:

    - `levels` (`order` + 2,): the index of the first node of each length, and at the end M.
    - `tokens` (M,): the last token of each n-gram.
    - `counts` (M,): the number of occurrences of each n-gram.
    - `first_child`: for each n-gram shorter than `order`, the first of the nodes that extend it by one token; at the
      end M.

    Raises CorpusError if there are too many n-grams.
    """
    n_firsts = np.zeros(vocab_size, np.int32)
    for _, firsts in _firsts(padded, n_positions, stride, workspace):
        add_counts(firsts, 0, n_firsts)
    ends = np.cumsum(n_firsts, dtype=np.int64)  # (V,) index after the sorted n-grams of each first token
    positions, free = workspace.empty(n_positions, np.int32), ends - n_firsts
    for start, firsts in _firsts(padded, n_positions, stride, workspace):
        group(firsts, start, stride, free, positions)
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
    check_n_nodes(int(levels[-1]))
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
    counts[0], counts[1 : 1 + vocab_size] = n_positions, n_firsts
    first_child[0], first_child[-1] = 1, levels[-1]
    return levels, tokens, counts, first_child


def check_n_nodes(n_nodes: int) -> None:
    """Raises CorpusError if a trie would have more nodes than 32-bit numbers can count: `n_nodes` above 2^31 - 1."""
    if n_nodes > _LARGEST:
        raise CorpusError(
            f"the text has {n_nodes:,} different n-grams, but an n-gram model can hold at most {_LARGEST:,}: "
            "lower the order, or train on less text"
        )


def _firsts(
    padded: NDArray[np.int32], n_positions: int, stride: int, workspace: Workspace
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yields the tokens at the positions 0, `stride`, 2 `stride`, ... in blocks, each with its first position."""
    for block in blocks(slice(0, n_positions), _LONG_BLOCK):
        start = block.start * stride
        yield start, np.ascontiguousarray(padded[start : block.stop * stride : stride])
        workspace.release()


def _buckets(ends: NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Divides the V token ids of a text's vocabulary into ranges with about the same number of occurrences in the text.

    A range of ids selects a bucket: all positions of the text at which a token of the range occurs. In a list of all
    positions, sorted by the token at each position, the positions of a bucket are consecutive. Buckets can be processed
    in parallel.

    `ends` (V,): for each id v, the number of positions with a token id of at most v. Yields, for each bucket, the range
    of ids and the range of indices in the sorted list.
    """
    first, start = 0, 0
    while first < ends.size:
        last = max(first + 1, int(np.searchsorted(ends, start + _BUCKET, side="right")))
        yield slice(first, last), slice(start, int(ends[last - 1]))
        first, start = last, int(ends[last - 1])


@kernel(read_only(_I32), _I64, _I64, writable(_I64), writable(_I32))
def group(block, start, stride, free, positions):
    """Sorts the positions of a text by the token at each position (counting sort), for one block of the text at a time.

    - `block`: token ids at the positions of the block: every position, or one of `stride` positions.
    - `start`: the first position of the block in the text.
    - `free` (V,): for each of V tokens, the index in `positions` at which its next position is written; updated.
    - `positions`: the result, which is complete and sorted after the last block.
    """
    for offset in range(block.size):
        token = block[offset]
        positions[free[token]] = start + offset * stride
        free[token] += 1


@kernel(read_only(_I32), writable(_I32), _I64, _I64)
def _sort_bucket(padded, positions, order, vocab_size):
    """Sorts positions of a text by the n-grams of length `order` that begin there.

    - `padded`: the token ids of the text, with padding after the end.
    - `positions`: the positions, which are sorted in place.

    The method is a radix sort: a stable counting sort for each token of the n-grams, the last token first.
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


@kernel(read_only(_I32), read_only(_I32), _I64, writable(_U8), writable(_U8), writable(_I64))
def _compare_neighbours(padded, positions, vocab_size, shared, lengths, n_nodes):
    """Compares each n-gram in a sorted list of N n-grams with the n-gram before it, and counts the new trie nodes.

    - `padded`: the token ids of the text, with padding after the end.
    - `positions` (N,): the positions of the text at which the n-grams begin.
    - `shared` (N,): receives the number of first tokens that each n-gram has in common with the n-gram before it.
    - `lengths` (N,): receives the number of tokens of each n-gram, which is smaller than n at the end of a document.
    - `n_nodes` (n + 1,): the number of new trie nodes of each length 0 .. n is added.
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
    read_only(_I32), read_only(_I32), read_only(_U8), read_only(_U8), _I64, _I64, read_only(_I64), writable(_I32),
    writable(_I32), writable(_I32)
)  # fmt: skip
def _build(padded, positions, shared, lengths, token, last_token, first_nodes, tokens, counts, first_child):
    """Writes the part of an n-gram trie that belongs to a range of first tokens: from `token` to `last_token` - 1.

    - `padded`: the token ids of the text, with padding after the end.
    - `positions` (N,): the positions of the text at which the N n-grams of this part begin, sorted by n-gram.
    - `shared` (N,): the number of first tokens that each n-gram has in common with the n-gram before it.
    - `lengths` (N,): the number of tokens of each n-gram.
    - `first_nodes`: the index of the first trie node of this part, for each length of n-grams.
    - `tokens`, `counts`, `first_child`: arrays of the trie, to which the results are written. For unigrams, only the
      first child is written.
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


@kernel(read_only(_I32), read_only(_I32), writable(_I32), _I64, _I64)
def _link(tokens, first_child, suffixes, start, stop):
    """Computes the suffix links of an n-gram trie for all children of the nodes `start` to `stop` - 1.

    The suffix link of an n-gram is the index of the n-gram without its first token. If an n-gram extends a context h by
    a token w, then its suffix extends the suffix of h by w, so the suffix links of the contexts must be computed
    already. The children of each node are sorted by token, so each search continues where the previous one ended.
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
