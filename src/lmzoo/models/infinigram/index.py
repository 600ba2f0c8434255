"""The index: every place of a text, sorted by what comes before it, the last token first.

Places with the same context, of any length, are neighbours: a context is an interval of rows. What this module calls a
row is a place in this order. A context ends at its document start, which counts as a token of it (EOT). With the tokens
that follow the rows,

    row   context (last first)   next token          "a b a" and "a"; . is the start or end of a document
      0   .                      a
      1   .                      a                   places[next_ids = a] = 0, 1, 5
      2   a .                    b                   places[next_ids = b] = 2
      3   a .                    .                   places[next_ids = .] = 3, 4
      4   a b a .                .
      5   b a .                  a

the rows of the context "h w" are found from those of h: the rows of contexts that end in w stand in the same order as
the rows that w follows, because taking w away from a context does not change how the rest compares. So one array,
`places`, the rows sorted by next token, is all it takes to lengthen a context: two binary searches (the backward
search of Ferragina & Manzini 2000, here forward, since the contexts are reversed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.errors import CorpusError, SavedModelError
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.compiled import kernel, read, write

_I32, _I64, _U16 = types.int32, types.int64, types.uint16


@dataclass(frozen=True, eq=False)
class ContextIndex:
    """T rows; 14 bytes a token. Building it takes about 110 bytes a token, for a while."""

    next_ids: NDArray[np.int32]
    """(T,) the token after each row's context."""
    places: NDArray[np.int32]
    """(T,) the rows sorted by next token."""
    first_places: NDArray[np.int64]
    """(V + 1,) where in `places` each next token begins; also the first row of the contexts that end in the token."""
    shared: NDArray[np.uint16]
    """(T + 1,) how many tokens each row's context shares with that of the row before, cut to the longest context."""
    n_types: NDArray[np.int32]
    """(T + 1,) of each context that several rows share, how many different tokens follow it; last, of the empty one.

    A context with the rows [low, high) is kept at `low` or at `high - 1`, on the side where it shares more with the row
    outside. No other is kept there: two with the same border lie inside each other, and the inner one shares more
    across their other border, which is inside the outer one.
    """

    def __len__(self) -> int:
        return self.next_ids.size

    def arrays(self) -> dict[str, NDArray[np.integer]]:
        """What `from_arrays` reads."""
        return {
            "next_ids": self.next_ids,
            "places": self.places,
            "first_places": self.first_places,
            "shared": self.shared,
            "n_types": self.n_types,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, vocab_size: int) -> ContextIndex:
        """The index that `arrays` came from. SavedModelError if a kernel could leave the arrays."""
        next_ids = take_array(arrays, "next_ids", shape=(None,), dtype=np.int32)
        n_rows = next_ids.size
        index = cls(
            next_ids,
            take_array(arrays, "places", shape=(n_rows,), dtype=np.int32),
            take_array(arrays, "first_places", shape=(vocab_size + 1,), dtype=np.int64),
            take_array(arrays, "shared", shape=(n_rows + 1,), dtype=np.uint16),
            take_array(arrays, "n_types", shape=(n_rows + 1,), dtype=np.int32),
        )
        sizes = np.diff(index.first_places)
        if not (
            n_rows
            and index.first_places[0] == 0
            and index.first_places[-1] == n_rows
            and (sizes >= 0).all()
            and 0 <= index.places.min() <= index.places.max() < n_rows
            and np.array_equal(next_ids[index.places], np.repeat(np.arange(vocab_size), sizes))
            and 0 < index.n_types.min() <= index.n_types.max() <= n_rows
        ):
            raise SavedModelError("the saved context index is inconsistent: its rows do not match its tokens")
        return index


def build_index(stream: TokenStream, vocab_size: int, max_context: int) -> ContextIndex:
    """The index of a text; a last document that is left open is taken as ended. CorpusError above 2^31 tokens."""
    if len(stream) >= 2**31 - 1:
        raise CorpusError(f"{len(stream):,} tokens are too many: an index holds at most {2**31 - 2:,}")
    if stream.ids[-1] != EOT:
        stream = TokenStream(np.append(stream.ids, np.int32(EOT)))
    previous = stream.previous_ids()
    rows = _sorted_contexts(stream, previous)
    shared = np.zeros(len(stream) + 1, np.uint16)
    _compare_neighbours(previous, rows, max_context, shared)
    next_ids = stream.ids[rows]
    n_types = np.ones(len(stream) + 1, np.int32)
    _count_types(next_ids, shared, max_context, vocab_size, n_types)
    places = np.argsort(next_ids, kind="stable").astype(np.int32)
    first_places = np.concatenate([[0], np.cumsum(np.bincount(next_ids, minlength=vocab_size))])
    return ContextIndex(next_ids, places, first_places, shared, n_types)


def _sorted_contexts(stream: TokenStream, previous: NDArray[np.int32]) -> NDArray[np.int32]:
    """(T,) the positions sorted by the tokens before them, the last one first; equal contexts by position.

    Prefix doubling (Manber & Myers 1993; Larsson & Sadakane 2007): once all contexts are sorted by their last h tokens,
    the ranks of the position h tokens earlier sort them by their last 2h. Only groups of equals are sorted again. The
    rank of a position is where its group begins.
    """
    counts = np.bincount(previous)
    ranks = (np.cumsum(counts) - counts)[previous]  # (T,)
    lengths = np.arange(1, len(stream) + 1) - np.repeat(stream.starts, stream.ends - stream.starts)  # with the start
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


@kernel(read(_I32), read(_I32), _I64, write(_U16))
def _compare_neighbours(previous, rows, max_context, shared):
    """How many tokens the contexts of neighbours share (Kasai et al. 2001).

    A context without its last token is that of the position before, and shares at most one token less with a neighbour.
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
        while (common == 0 or previous[position - common + 1] != EOT) and (
            previous[position - common] == previous[other - common]
        ):
            common += 1
        shared[row_of[position]] = min(common, max_context)
        common = max(0, common - 1)


@kernel(read(_I32), read(_U16), _I64, _I64, write(_I32))
def _count_types(next_ids, shared, max_context, vocab_size, n_types):
    """Counts the different tokens after every context that several rows share.

    They are its rows less those whose token is repeated in it. A token that comes back counts as repeated in the
    smallest context that holds both rows, and in all around it (Hui 1992). The contexts that are open at a row lie
    inside each other, on a stack.
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
