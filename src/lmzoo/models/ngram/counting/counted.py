"""The trie of the n-grams of a text with their counts, from which an n-gram model is estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.ngram.counting.workspace import Workspace, blocks
from lmzoo.models.ngram.trie import Trie
from lmzoo.system.compiled import kernel, read_only, writable


@dataclass(frozen=True, eq=False)
class CountedNgrams:
    """All n-grams of a text, stored as a trie, with their numbers of occurrences."""

    trie: Trie
    counts: NDArray[np.int32]
    """(M,) number of occurrences of the n-gram of each trie node; for the root, the number of tokens."""
    workspace: Workspace

    @property
    def order(self) -> int:
        """The length of the longest n-grams."""
        return self.trie.order

    @property
    def n_at_document_start(self) -> Sequence[int]:
        """The number of n-grams of each length 0 .. n that begin at a document start; they come before all others."""
        return self.trie.n_at_document_start

    def observed(self, order: int) -> NDArray[np.int32]:
        """Returns the number of occurrences of each n-gram of length `order`, sorted by the tokens of the n-grams."""
        return self.counts[self.trie.level(order)]

    def continuations(self, order: int) -> NDArray[np.int32]:
        """Returns, for each n-gram of length `order`, the number of different tokens that precede it in the text.

        Kneser-Ney smoothing uses these continuation counts instead of numbers of occurrences (Kneser & Ney 1995). For
        two kinds of n-grams the number of occurrences is returned: n-grams of the maximal length, because longer
        n-grams were not counted, and n-grams at the start of a document, because no token precedes them. As in KenLM,
        the start of a document counts as one preceding token of other n-grams.
        """
        observed, trie = self.observed(order), self.trie
        if order == trie.order:
            return observed
        # The n-grams with a suffix link to an n-gram are the same n-gram with each of its preceding tokens.
        counts = self.workspace.zeros(observed.size, np.int32)
        for block in blocks(trie.level(order + 1)):
            add_counts(trie.suffixes[block], trie.level(order).start, counts)
            self.workspace.release()
        if order > 1:
            n_starts = trie.n_at_document_start[order]
            counts[:n_starts] = observed[:n_starts]
        return counts


@kernel(read_only(types.int32), types.int64, writable(types.int32))
def add_counts(values, first, counts):
    """Counts values as numpy's bincount does: for each value, adds 1 to `counts[value - first]`.

    Unlike bincount, it makes no copy of the values, and adds to the numbers that are already in `counts`.
    """
    for value in values:
        counts[value - first] += 1
