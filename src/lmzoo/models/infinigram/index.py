"""The index of an unbounded n-gram model: all positions of a text, sorted by the tokens before them.

Contexts are compared from their last token backwards. A row is a position of the text in this order. All rows with the
same context, of any length, are neighbours, so a context is an interval of rows. A context extends back to the start of
its document, which counts as one token (EOT). For the text with the documents "a b a" and "a", where . is the start or
the end of a document:

    row   context (last token first)   next token
      0   .                            a
      1   .                            a             rows sorted by next token:
      2   a .                          b                 .   3, 4
      3   a .                          .                 a   0, 1, 5
      4   a b a .                      .                 b   2
      5   b a .                        a

The rows of the context "h w" are computed from the rows of h. The contexts that end in w have the same order as the
rows whose next token is w, because both are sorted by the tokens before w. For example, rows 0, 1 and 5 are followed by
a; the contexts that end in a are rows 2, 3 and 4, in the same order. So the array `by_next`, the rows sorted by next
token, is enough to extend a context by a token with two binary searches. This is the backward search of Ferragina &
Manzini (2000), which runs forward here because the contexts are reversed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.errors import CorpusError, SavedModelError
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64, _U16 = types.int32, types.int64, types.uint16


@dataclass(frozen=True, eq=False)
class ContextIndex:
    """An index of a text of T tokens, with which the occurrences of any sequence of tokens can be counted quickly.

    The context of a position is the sequence of tokens before it. As in a suffix array, the T positions are sorted by
    their contexts, which are compared from the last token backwards. A row is a position in this order, so all
    positions that follow the same tokens are consecutive rows. The index takes 14 bytes per token, and building it
    about 110 bytes per token.
    """

    next_ids: NDArray[np.int32]
    """(T,) the token that follows the context of each row."""
    by_next: NDArray[np.int32]
    """(T,) the rows sorted by next token."""
    starts: NDArray[np.int64]
    """(V + 1,) index in `by_next` of the first row for each next token. The same number is the first row of the
    contexts that end in this token."""
    shared: NDArray[np.uint16]
    """(T + 1,) number of last tokens that the context of each row has in common with the context of the row before, at
    most the maximum length of a context."""
    n_types: NDArray[np.int32]
    """(T + 1,) number of different tokens that follow each context with several rows; the last element is for the empty
    context.

    The number for a context with the rows [low, high) is stored at `low` or at `high - 1`, on the side where the
    context has more tokens in common with the row outside. No two contexts are stored at the same index: of two
    contexts with the same border, one is inside the other, and the inner one has more tokens in common across its other
    border, which is inside the outer one.
    """

    def __len__(self) -> int:
        return self.next_ids.size

    def arrays(self) -> dict[str, NDArray[np.integer]]:
        """Returns the arrays of the index of a text by name, in the format that `from_arrays` reads."""
        return {
            "next_ids": self.next_ids,
            "places": self.by_next,
            "first_places": self.starts,
            "shared": self.shared,
            "n_types": self.n_types,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, vocab_size: int) -> ContextIndex:
        """Returns the index of a text that is saved in `arrays`.

        Raises SavedModelError if the arrays do not match each other, so that compiled code could read outside them.
        """
        next_ids = take_array(arrays, "next_ids", shape=(None,), dtype=np.int32)
        n_rows = next_ids.size
        index = cls(
            next_ids,
            take_array(arrays, "places", shape=(n_rows,), dtype=np.int32),
            take_array(arrays, "first_places", shape=(vocab_size + 1,), dtype=np.int64),
            take_array(arrays, "shared", shape=(n_rows + 1,), dtype=np.uint16),
            take_array(arrays, "n_types", shape=(n_rows + 1,), dtype=np.int32),
        )
        sizes = np.diff(index.starts)
        if not (
            n_rows
            and index.starts[0] == 0
            and index.starts[-1] == n_rows
            and (sizes >= 0).all()
            and 0 <= index.by_next.min() <= index.by_next.max() < n_rows
            and index.shared[0] == index.shared[-1] == 0
            and np.array_equal(next_ids[index.by_next], np.repeat(np.arange(vocab_size), sizes))
            and 0 < index.n_types.min() <= index.n_types.max() <= n_rows
        ):
            raise SavedModelError("the saved context index is damaged: its rows do not match its tokens")
        return index


def build_index(stream: TokenStream, vocab_size: int, max_context: int) -> ContextIndex:
    """Builds an index of a text, in which the occurrences of any sequence of tokens can be counted quickly.

    Numbers of different next tokens are stored only for sequences of at most `max_context` tokens. An end-of-text token
    is added if the last document has none. Raises CorpusError for a text of 2^31 - 1 or more tokens.
    """
    if len(stream) >= 2**31 - 1:
        raise CorpusError(
            f"the text has {len(stream):,} tokens, but an index can hold at most {2**31 - 2:,}: train on less text"
        )
    if stream.ids[-1] != EOT:
        stream = TokenStream(np.append(stream.ids, np.int32(EOT)))
    previous = stream.previous_ids()
    rows = _sorted_contexts(stream, previous)
    shared = np.zeros(len(stream) + 1, np.uint16)
    _compare_neighbours(previous, rows, max_context, shared)
    next_ids = stream.ids[rows]
    n_types = np.ones(len(stream) + 1, np.int32)
    _count_types(next_ids, shared, max_context, vocab_size, n_types)
    by_next = np.argsort(next_ids, kind="stable").astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.bincount(next_ids, minlength=vocab_size))])
    return ContextIndex(next_ids, by_next, starts, shared, n_types)


def _sorted_contexts(stream: TokenStream, previous: NDArray[np.int32]) -> NDArray[np.int32]:
    """Sorts the T positions of a text by the tokens before them, and returns the sorted positions (T,).

    The tokens before a position, its context, are compared from the last one backwards. Positions with equal contexts
    keep their order. `previous` (T,) is the token before each position.

    The algorithm is prefix doubling (Manber & Myers 1993; Larsson & Sadakane 2007): if all contexts are sorted by their
    last h tokens, then the ranks of the positions h tokens earlier sort them by their last 2h tokens. Only groups of
    equal contexts are sorted again. The rank of a position is the index at which its group begins.
    """
    counts = np.bincount(previous)
    ranks = (np.cumsum(counts) - counts)[previous]  # (T,)
    # The lengths of all contexts, including the document start.
    lengths = np.arange(1, len(stream) + 1) - np.repeat(stream.starts, stream.ends - stream.starts)
    active, h = np.flatnonzero((counts[previous] > 1) & (lengths > 1)), 1
    while active.size:
        keys = ranks[active] << 32 | ranks[active - h]
        order = np.argsort(keys, kind="stable")
        active, keys = active[order], keys[order]
        numbers = np.arange(active.size)
        is_new = np.diff(keys, prepend=-1) != 0
        starts_group = np.diff(keys >> 32, prepend=-1) != 0
        group = np.maximum.accumulate(np.where(starts_group, numbers, 0))
        part = np.maximum.accumulate(np.where(is_new, numbers, 0))
        ranks[active] += part - group
        sizes = np.diff(np.append(np.flatnonzero(is_new), active.size))
        h *= 2
        active = active[np.repeat(sizes > 1, sizes) & (lengths[active] > h)]
    return np.argsort(ranks, kind="stable").astype(np.int32)


@kernel(read_only(_I32), read_only(_I32), _I64, writable(_U16))
def _compare_neighbours(ids_before, rows, max_context, shared):
    """Counts the last tokens that each context in a sorted list of contexts has in common with the context before it.

    The list holds the contexts of all T positions of a text. The context of a position is the sequence of tokens before
    it. Contexts are sorted by comparing them from the last token backwards.

    - `ids_before` (T,): the id of the token before each position of the text.
    - `rows` (T,): the positions, in the order of the sorted list.
    - `shared` (T + 1,): element i receives the number of last tokens, at most `max_context`, that the contexts i - 1
      and i of the list have in common. Elements 0 and T are not changed.

    Algorithm of Kasai et al. (2001): a context without its last token is the context of the position before. So the
    count for the position before is at least the count for this position minus 1.
    """
    row_of = np.empty(rows.size, np.int32)
    for row in range(rows.size):
        row_of[rows[row]] = row
    common = 0
    for position in range(rows.size - 1, -1, -1):
        if row_of[position] == 0:
            common = 0
            continue
        other = rows[row_of[position] - 1]
        while (common == 0 or ids_before[position - common + 1] != EOT) and (
            ids_before[position - common] == ids_before[other - common]
        ):
            common += 1
        shared[row_of[position]] = min(common, max_context)
        common = max(0, common - 1)


@kernel(read_only(_I32), read_only(_U16), _I64, _I64, writable(_I32))
def _count_types(next_ids, shared, max_context, vocab_size, n_types):
    """Counts the different tokens that follow each context, a sequence of tokens, in a text.

    The T positions of the text are sorted by the tokens before them. In this order, a position is called a row, and the
    positions after a context are consecutive rows.

    - `next_ids` (T,): the token at each row.
    - `shared` (T + 1,): how many of the tokens before it, at most `max_context`, a row has in common with the previous
      row.
    - `n_types` (T + 1,): array to which the counts are written, as described in `ContextIndex`.

    The number of different tokens is the number of rows minus the number of repeated tokens. A row repeats a token in
    the smallest context that contains this row and the previous row with the same next token, and in all larger
    contexts (Hui 1992). All contexts that contain a row are nested; they are kept on a stack.
    """
    lows, depths = np.zeros(max_context + 2, np.int64), np.zeros(max_context + 2, np.int64)
    repeated = np.zeros(max_context + 2, np.int64)
    last_rows = np.full(vocab_size, -1)
    top = 0  # the empty context
    for row in range(next_ids.size + 1):
        depth, low, carried = np.int64(shared[row]), row - 1, 0
        while depths[top] > depth:
            low = lows[top]
            at = low if shared[low] >= depth else row - 1
            n_types[at] = row - low - repeated[top]
            carried = repeated[top]
            top -= 1
            if depths[top] >= depth:
                repeated[top] += carried
        if depths[top] < depth:
            top += 1
            lows[top], depths[top], repeated[top] = low, depth, carried
        if row == next_ids.size:
            n_types[row] = row - repeated[0]
            break
        last = last_rows[next_ids[row]]
        if last >= 0:
            below, above = 0, top
            while below < above:
                middle = (below + above + 1) >> 1
                if lows[middle] <= last:
                    below = middle
                else:
                    above = middle - 1
            repeated[below] += 1
        last_rows[next_ids[row]] = row
