"""The reader of context-tree weighting, with tables of tree nodes that grow as it reads."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.errors import SavedModelError
from lmzoo.models.bitwise.model import Reader
from lmzoo.models.context_tree_weighting.tree import Nodes, distribution, hash_contexts, move, walk

_FIRST_ROWS = 1 << 10


@final
class TreeReader(Reader):
    """Reads texts with one context tree for each node of the code tree, and learns the counts and log-odds of their
    nodes.
    """

    def __init__(self, vocab_size: int, *, depth: int, learns: bool = True, known: Nodes | None = None) -> None:
        """Creates a reader that knows nothing, or one that begins with the tree nodes `known`.

        `depth` is the number of tokens in the longest context. With `learns` = False, the reader learns nothing.
        """
        super().__init__(vocab_size)
        self._depth, self._learns = depth, learns
        self._known = _read_only(known or _empty(1))
        self._nodes, self._n_nodes = _empty(_FIRST_ROWS), np.zeros(1, np.int64)
        self._begin = np.zeros(1, np.int64)

    def for_document(self, *, learns: bool) -> Self:
        return type(self)(self.vocab_size, depth=self._depth, learns=learns, known=self._nodes)

    def next_log_probs(self) -> NDArray[np.float64]:
        contexts, probs = np.empty(self._depth + 1, np.int64), np.empty(self.vocab_size)
        hash_contexts(self.ids, self._begin[0], self.ids.size, contexts)
        distribution(self._nodes, self._known, contexts, self.vocab_size, probs)
        return np.log(probs)

    def _walk(
        self, ids: NDArray[np.int32], start: int, log_probs: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> int:
        return walk(
            self._nodes, self._known, self._n_nodes, ids, start, self._begin, self._learns, self._depth,
            self.vocab_size, log_probs, rows,
        )  # fmt: skip

    def _grow(self) -> None:
        larger = _empty(2 * self._nodes.keys.size)
        move(self._nodes, larger)
        self._nodes = larger

    def arrays(self) -> dict[str, NDArray[Any]]:
        used = self._nodes.keys != 0
        return {name: array[used] for name, array in self._nodes._asdict().items()}

    def load_arrays(self, arrays: Arrays) -> None:
        keys = take_array(arrays, "keys", shape=(None,), dtype=np.int64)
        counts = take_array(arrays, "counts", shape=(keys.size, 2), dtype=np.uint32)
        odds = take_array(arrays, "odds", shape=(keys.size,), dtype=np.float64)
        if not (keys.all() and np.isfinite(odds).all()):
            raise SavedModelError(
                "the saved context trees are damaged: no key may be 0, and all log-odds must be finite"
            )
        n_rows = 1 << (2 * keys.size).bit_length()
        self._nodes, self._n_nodes = _empty(n_rows), np.array([keys.size])
        move(Nodes(*map(np.array, (keys, counts, odds))), self._nodes)


def _empty(n_rows: int) -> Nodes:
    """Creates a table of tree nodes that is empty."""
    return Nodes(np.zeros(n_rows, np.int64), np.zeros((n_rows, 2), np.uint32), np.zeros(n_rows))


def _read_only(nodes: Nodes) -> Nodes:
    """Returns a table of tree nodes with arrays that cannot be written."""
    views = Nodes(nodes.keys.view(), nodes.counts.view(), nodes.odds.view())
    for view in views:
        view.flags.writeable = False
    return views
