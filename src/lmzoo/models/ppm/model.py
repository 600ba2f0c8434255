"""The PPM model: a reader that learns the training text once, and reads each later document from where it ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checks import check_choice, check_flag, check_whole
from lmzoo.errors import SavedModelError
from lmzoo.models.one_pass import OnePassModel
from lmzoo.stream import EOT, TokenStream, TrainingData

# numba is slow to import: the reader is imported where it is used.
if TYPE_CHECKING:
    from lmzoo.models.ppm.memory import Reader

_END = np.array([EOT], np.int32)
_FIRST_SQUARES = 1e-2
"""Sum of the squared gradients of each parameter before the first token, so that the first steps are not too large."""


class _Escape(NamedTuple):
    """An escape method: the first values of the parameters a and b, what is added to a for each different token, and
    the step size."""

    a: float
    b: float
    per_kind: float = 0.0
    rate: float = 0.0


ESCAPES = {
    "learned": _Escape(0.5, 0.8, rate=0.3),
    "A": _Escape(1.0, 0.0),
    "C": _Escape(0.0, 0.0, per_kind=1.0),
    "D": _Escape(0.0, 0.5),
}
"""The escape methods by name. The start and the step size of "learned" were chosen on Brown, Shakespeare and the King
James Bible."""


class _Buffer:
    """The tokens of a document that grows: the first `size` elements of the array `ids`, which do not change."""

    def __init__(self, ids: NDArray[np.int32]) -> None:
        self.ids, self.size = ids, ids.size


class Document(NamedTuple):
    """The first `size` tokens of a document.

    A document that is one token longer is appended to the same buffer if possible, so that a document is not copied for
    each token.
    """

    buffer: _Buffer
    size: int

    @classmethod
    def of(cls, ids: NDArray[np.int32]) -> Document:
        """Returns a document with the given ids (T,), which must not change afterwards."""
        return cls(_Buffer(ids), ids.size)

    @property
    def ids(self) -> NDArray[np.int32]:
        """The ids (T,) of the tokens."""
        return self.buffer.ids[: self.size]

    def extended(self, token_id: int) -> Document:
        """Returns the document with one more token."""
        buffer = self.buffer if self.size == self.buffer.size else _Buffer(self.ids)
        if self.size == buffer.ids.size:
            buffer.ids = np.concatenate([buffer.ids, np.empty(self.size + 16, np.int32)])
        buffer.ids[self.size] = token_id
        buffer.size += 1
        return Document(buffer, buffer.size)


@final
class PpmModel(OnePassModel[Document, "Reader"]):
    """A language model that blends the counts of all contexts of up to `order` tokens, and learns after every token.

    The state of the model is the document so far. After `fit`, `parameters` (13 * 10, 4) holds the parameters a and b
    for 13 lengths of the context and 10 numbers of different tokens after it, and the sums of their squared gradients.
    """

    def __init__(self, vocab_size: int, *, order: int, escape: str, adaptive: bool) -> None:
        super().__init__(vocab_size)
        check_whole(1, 64, order=order)
        check_choice(ESCAPES, escape=escape)
        check_flag(adaptive=adaptive)
        self.order, self._escape, self.adapts_on_test = order, ESCAPES[escape], adaptive
        self.context_size = None if adaptive else order

    # ---- Learning -------------------------------------------------------------------------------

    def _new_reader(self, seed: int) -> Reader:
        from lmzoo.models.ppm.memory import Reader
        from lmzoo.models.ppm.reading import N_KINDS, N_LENGTHS

        a, b, per_kind, rate = self._escape
        parameters = np.tile([a, b, _FIRST_SQUARES, _FIRST_SQUARES], (N_LENGTHS * N_KINDS, 1))
        return Reader(self.vocab_size, self.order, parameters, rate=rate, per_kind=per_kind)

    def _complete(self, reader: Reader, data: TrainingData) -> Self:
        return self._become(reader)

    def _become(self, reader: Reader) -> Self:
        if reader.last_id != EOT:  # a document without an end is taken as ended
            reader.read(_END)
        reader.keep(learns=self.adapts_on_test)
        self._reader = reader
        self.fitted = True
        return self

    @property
    def parameters(self) -> NDArray[np.float64]:
        """The parameters and the sums of their squared gradients, an array (13 * 10, 4)."""
        return self._reader.kept_parameters

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> Document:
        self.require_fitted()
        return Document.of(np.empty(0, np.int32))

    def advance(self, state: Document, token_id: int) -> Document:
        if token_id == EOT:
            return self.initial_state()
        with self._reader.lock:
            return state.extended(token_id)

    def next_log_probs(self, state: Document) -> NDArray[np.float64]:
        row = np.empty(self.vocab_size)
        with self._reader.lock:
            self._reader.move_to(self._seen(state.ids), state.buffer if self.context_size is None else None)
            self._reader.predict(row)
        return row

    def _seen(self, document: NDArray[np.int32]) -> NDArray[np.int32]:
        """Returns the part of the document so far on which the prediction of the next token depends."""
        return document if self.context_size is None else document[max(0, document.size - self.context_size) :]

    # ---- Speed ----------------------------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> Document:
        return Document.of(np.array(context, np.int32))

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        log_probs = np.empty(len(stream))
        with self._reader.lock:
            self._reader.move_to(self.initial_state().ids)
            self._reader.read(stream.ids, log_probs)
        return log_probs

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
        wanted = stream.selected(positions)
        starts = stream.document_starts(wanted)
        for first, last in self.block_bounds(len(wanted)):
            rows = np.empty((last - first, self.vocab_size))
            with self._reader.lock:
                if positions is None:
                    self._reader.move_to(self._seen(stream.ids[starts[first] : first]))
                    self._reader.read(stream.ids[first:last], rows=rows)
                else:
                    for row, begin, end in zip(rows, starts[first:last], wanted[first:last], strict=True):
                        self._reader.move_to(self._seen(stream.ids[begin:end]))
                        self._reader.predict(row)
            yield wanted[first:last], rows

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"text": self._reader.kept_text, "parameters": self.parameters}

    def load_arrays(self, arrays: Arrays) -> Self:
        reader = self._new_reader(0)
        text = take_array(arrays, "text", shape=(None,), dtype=np.int32)
        parameters = take_array(arrays, "parameters", shape=reader.parameters.shape, dtype=np.float64)
        a, b, *squares = parameters.T
        if not (((b >= 0) & (b <= 1) & (a + b + self._escape.per_kind > 0)).all() and np.min(squares) > 0):
            raise SavedModelError("the saved PPM model is damaged: its parameters are outside their limits")
        if not text.size or text.min() < 0 or text.max() >= self.vocab_size or text[-1] != EOT:
            raise SavedModelError("the saved PPM model is damaged: its text is not a sequence of documents")
        reader.learn_counts(np.ascontiguousarray(text))
        reader.parameters[:] = parameters
        return self._become(reader)
