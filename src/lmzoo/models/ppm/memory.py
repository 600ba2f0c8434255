"""A reader of text: a context tree that grows as needed, and the parameters with which it predicts."""

from __future__ import annotations

from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.one_pass import NO_LOG_PROBS, NO_ROWS
from lmzoo.models.ppm.reading import predict, read
from lmzoo.models.ppm.tree import (
    EMPTY_ROOT,
    KEPT_NODES,
    KEPT_TEXT,
    N_LOG,
    N_NODES,
    N_OTHERS,
    N_TEXT,
    Tree,
    fill_slots,
    keep,
    rewind,
    room_for_counts,
)  # fmt: skip
from lmzoo.stream import EOT

_NOTHING = np.empty(0, np.int32)
_GROWTH = 1.5
_FULLEST = 0.7
"""Largest share of a hash table that is in use."""


class Reader:
    """Reads text with a context tree: predicts each token, then learns it.

    - `parameters`: the array of parameters at the start.
    - `rate`: step size with which they are learned; 0 = they are fixed.
    - `per_kind`: what is added to the parameter a for each different token that followed a context.

    After `keep`, the tree and the parameters are restored at the end of every document. A thread that uses a shared
    reader holds its `lock`.
    """

    def __init__(
        self, vocab_size: int, order: int, parameters: NDArray[np.float64], *, rate: float, per_kind: float
    ) -> None:
        self.vocab_size, self.order, self.rate, self.per_kind = vocab_size, order, rate, per_kind
        self.parameters = parameters.copy()
        self._kept_parameters, self._learns = self.parameters, True
        self._owner: object = None  # of the tokens of the present document; None: not known
        self.lock = RLock()
        start = np.array([EOT], np.int32)
        of_root, log = np.zeros((vocab_size, 4), np.int32), np.empty((0, 3), np.int32)
        empty, sizes = np.full(2, -1, np.int32), np.array([1, 1, vocab_size] + 5 * [0])
        self._tree = Tree(start, EMPTY_ROOT.copy(), of_root, empty, empty.copy(), sizes, log)
        self._grow()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "lock"}  # a lock cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, lock=RLock())

    # ---- Reading --------------------------------------------------------------------------------

    def read(
        self, ids: NDArray[np.int32], log_probs: NDArray[np.float64] = NO_LOG_PROBS, rows: NDArray[np.float64] = NO_ROWS
    ) -> None:
        """Reads T tokens and learns them; see `lmzoo.models.one_pass.Reader`."""
        self._owner = None
        done = 0
        while done < ids.size:
            done += read(
                self._tree, self.parameters, self._kept_parameters, self.rate, self.per_kind, self.order,
                self.vocab_size, self._learns, ids[done:], log_probs[done:], rows[done:],
            )  # fmt: skip
            if done < ids.size:
                self._grow()
        np.log(rows, out=rows)

    def learn_counts(self, ids: NDArray[np.int32]) -> None:
        """Reads tokens and counts them, without predicting them, so that the parameters do not change."""
        rate, self.rate = self.rate, 0.0
        self.read(ids)
        self.rate = rate

    def predict(self, row: NDArray[np.float64]) -> None:
        """Writes the log-probability, in nats, of each of V tokens after the text so far to `row` (V,)."""
        predict(self._tree, self.parameters, self.per_kind, self.order, row)
        np.log(row, out=row)

    # ---- Documents ------------------------------------------------------------------------------

    def keep(self, *, learns: bool) -> None:
        """Restores the present tree and parameters at the end of each later document.

        The text so far must end with EOT. If `learns` is False, nothing is learned from later documents.
        """
        keep(self._tree)
        self._kept_parameters, self._learns = self.parameters.copy(), learns

    def move_to(self, document: NDArray[np.int32], owner: object = None) -> None:
        """Reads the beginning of a document after the text that is kept, in place of what was read after this text.

        If the tokens that were read are the first ones of `document`, only the others are read. If `owner` is the same
        object as in the call before, this is taken for granted; otherwise, and if it is None, the tokens are compared.
        """
        n_read = self._present.size
        is_known = owner is not None and owner is self._owner
        if n_read > document.size or not (is_known or np.array_equal(self._present, document[:n_read])):
            self._rewind()
            n_read = 0
        self.read(document[n_read:])
        self._owner = owner

    @property
    def last_id(self) -> int:
        """The last token that was read; EOT before the first one."""
        return int(self._tree.text[self._tree.sizes[N_TEXT] - 1])

    @property
    def kept_text(self) -> NDArray[np.int32]:
        """The tokens that were read before `keep`, an array (T,)."""
        return self._tree.text[1 : self._tree.sizes[KEPT_TEXT]]

    @property
    def kept_parameters(self) -> NDArray[np.float64]:
        """The array of parameters at the time of `keep`."""
        return self._kept_parameters

    @property
    def _present(self) -> NDArray[np.int32]:
        """The tokens of the present document."""
        sizes = self._tree.sizes
        return self._tree.text[sizes[KEPT_TEXT] : sizes[N_TEXT]]

    def _rewind(self) -> None:
        rewind(self._tree)
        self.parameters[:] = self._kept_parameters

    # ---- Memory ---------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Enlarges all arrays of the tree that have no room for one more token.

        A tree with changes to be undone is restored first, and reads its document again: the changes name places in the
        hash tables, and these change.
        """
        old = self._tree
        is_kept = old.sizes[KEPT_NODES] > 0
        counts = room_for_counts(self.order, self.vocab_size)
        needed = old.sizes[[N_TEXT, N_NODES, N_OTHERS, N_LOG]] + [1, 2, counts, 4 * counts + 4 if is_kept else 0]
        document = self._present.copy() if is_kept else _NOTHING
        if is_kept:
            self._rewind()
        text, nodes, others, log = (
            _with_room(array, int(size))
            for array, size in zip((old.text, old.nodes, old.others, old.log), needed, strict=True)
        )
        child_slots = old.child_slots if nodes is old.nodes else _empty_slots(len(nodes))
        other_slots = old.other_slots if others is old.others else _empty_slots(len(others))
        child_slots[:], other_slots[:] = -1, -1
        self._tree = Tree(text, nodes, others, child_slots, other_slots, old.sizes, log)
        fill_slots(self._tree)
        self.read(document)


def _with_room(array: NDArray[Any], n_rows: int) -> NDArray[Any]:
    """Returns the array if it has at least `n_rows` rows, or else a larger array that begins with its rows."""
    if len(array) >= n_rows:
        return array
    larger = np.zeros((max(n_rows, int(_GROWTH * len(array))), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def _empty_slots(n_rows: int) -> NDArray[np.int32]:
    """Returns an empty hash table for `n_rows` entries, whose size is a power of 2."""
    return np.full(1 << int(n_rows / _FULLEST).bit_length(), -1, np.int32)
