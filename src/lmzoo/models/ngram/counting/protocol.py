"""The interface between text and model: a counter turns token streams into the trie of their n-grams and its counts.

`count_ngrams` in `sorting.py` is lmzoo's own counter. Any function with the signature of `Counter` can take its place,
for example one that counts each shard of a large corpus on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.ngram.counting.workspace import Workspace, blocks
from lmzoo.models.ngram.trie import Trie
from lmzoo.stream import TokenStream
from lmzoo.system.compiled import kernel, read, write


@dataclass(frozen=True, eq=False)
class CountedNgrams:
    """All n-grams of a text, as a trie, with the number of times that each of them occurs."""

    trie: Trie
    counts: NDArray[np.int32]
    """(M,) number of occurrences of the n-gram of each trie node; for the root, the number of tokens."""
    workspace: Workspace

    def observed(self, order: int) -> NDArray[np.int32]:
        """Returns the number of occurrences of each n-gram of length `order`, in the order of the trie."""
        return self.counts[self.trie.level(order)]

    def continuations(self, order: int) -> NDArray[np.int32]:
        """Returns, for each n-gram of length `order`, the number of different tokens that precede it in the text.

        These continuation counts replace occurrences in Kneser-Ney smoothing (Kneser & Ney 1995). Two kinds of n-grams
        keep their occurrences: the longest ones, whose preceding tokens are not counted, and those at a document start,
        which nothing precedes. As in KenLM, a document start counts as one preceding token.
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


class Counter(Protocol):
    """The interface of functions that count all n-grams of a text and return them with their counts.

    The text is given as one or several shards, which are parts that end with a document.
    """

    def __call__(
        self,
        shards: Sequence[TokenStream],
        vocab_size: int,
        order: int,
        workspace: Workspace,
        on_step: Callable[[str], None],
    ) -> CountedNgrams:
        """Returns the n-grams of length 1 to `order` in all shards, with their counts.

        The shards are consecutive parts of the text, cut between documents. Large arrays are allocated in `workspace`,
        and `on_step` is called with a message at the start of each step of the work.
        """
        ...


@kernel(read(types.int32), types.int64, write(types.int32))
def add_counts(values, first, counts):
    """Adds 1 to `counts[value - first]` for each value, like numpy's bincount but without a copy of the values."""
    for value in values:
        counts[value - first] += 1
