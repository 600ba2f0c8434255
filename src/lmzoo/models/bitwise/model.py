"""The language model that predicts bits: training, predictions and states, for any kind of `Reader`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, Self, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.arrays import Arrays
from lmzoo.checks import check_flag
from lmzoo.models.one_pass import NO_LOG_PROBS, NO_ROWS, OnePassModel
from lmzoo.stream import EOT, TokenStream, TrainingData

R = TypeVar("R", bound="Reader")


class Reader(ABC):
    """Reads a text token by token: it predicts each token bit by bit, and then learns it.

    What a reader has learned is stored in arrays. A reader for a single document, which `for_document` creates, stores
    what it learns in arrays of its own, and leaves those of the reader that it was created from unchanged.
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._ids, self._n_read = np.empty(64, np.int32), 0

    @property
    def ids(self) -> NDArray[np.int32]:
        """The ids of all tokens read so far, (T,); a view that later tokens do not change."""
        return self._ids[: self._n_read]

    def read(
        self, ids: NDArray[np.int32], log_probs: NDArray[np.float64] = NO_LOG_PROBS, rows: NDArray[np.float64] = NO_ROWS
    ) -> None:
        """Reads T tokens; see `lmzoo.models.one_pass.Reader`."""
        if not log_probs.size:
            log_probs = np.empty(ids.size)
        end = self._n_read + ids.size
        if end > self._ids.size:
            self._ids = np.concatenate([self.ids, np.empty(end, np.int32)])
        self._ids[self._n_read : end] = ids
        done = 0
        while done < ids.size:
            n = self._walk(self._ids[:end], self._n_read, log_probs[done:], rows[done:])
            self._n_read += n
            done += n
            if done < ids.size:
                self._grow()
        np.log(rows, out=rows)

    def begin_training(self, seed: int) -> None:  # noqa: B027 - most readers have nothing to prepare
        """Prepares to learn a training text from its beginning."""

    def end_training(self, data: TrainingData) -> None:  # noqa: B027 - most readers have nothing to complete
        """Completes the training after all of the training text, `data.train`, has been read."""

    @abstractmethod
    def for_document(self, *, learns: bool) -> Self:
        """Returns a reader at the start of a document, which knows all that this reader has learned.

        This reader is not changed. If `learns` is False, the new reader predicts, but does not learn.
        """

    @abstractmethod
    def next_log_probs(self) -> NDArray[np.float64]:
        """Returns the log-probabilities (V,), in nats, of each of V possible next tokens."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns all that the reader has learned, as named arrays."""

    @abstractmethod
    def load_arrays(self, arrays: Arrays) -> None:
        """Restores what a reader has learned; raises SavedModelError if the arrays do not fit."""

    @abstractmethod
    def _walk(
        self, ids: NDArray[np.int32], start: int, log_probs: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> int:
        """Reads the tokens from position `start` of `ids` until the arrays of the reader are nearly full.

        `ids` begins with the tokens read earlier. The results are written to `log_probs` and `rows` as described for
        `read`, except that `rows` receives probabilities instead of their logarithms. Returns the number of tokens that
        were read, at least one after `_grow`.
        """

    @abstractmethod
    def _grow(self) -> None:
        """Makes the arrays of the reader larger."""


class DocumentState(Generic[R]):
    """The state of a model in a document: the token ids so far, and a reader that has read exactly these tokens.

    A reader changes when it reads, so that only one state can have it: the state that `advance` returns takes over the
    reader of the state before. A state without a reader gets one that reads the document again.
    """

    def __init__(self, ids: NDArray[np.int32], reader: R | None = None) -> None:
        self.ids = ids
        self._readers = [reader] if reader else []

    def __reduce__(self) -> tuple[type[DocumentState[R]], tuple[NDArray[np.int32]]]:
        return type(self), (self.ids,)  # a copy has no reader

    def take_reader(self) -> R | None:
        """Removes the reader from the state and returns it; None if the state has none."""
        try:
            return self._readers.pop()  # in one step, as several threads may have this state
        except IndexError:
            return None

    def give_back(self, reader: R) -> None:
        """Gives a reader back to the state from which it was taken."""
        self._readers.append(reader)


@final
class BitwiseModel(OnePassModel[DocumentState[R], R], Generic[R]):
    """A language model that predicts tokens bit by bit, and that can learn from each token that it has read.

    After `fit`, `learned` is a reader that has read the training text. A document is read by a new reader, which begins
    with what `learned` knows. If the model is adaptive, this reader also learns the document itself, but nothing that
    was learned from one document remains for the next.
    """

    context_size = None

    def __init__(self, vocab_size: int, make_reader: Callable[[], R], *, adaptive: bool) -> None:
        """Creates an untrained model. `make_reader` creates a reader that has learned nothing."""
        super().__init__(vocab_size)
        check_flag(adaptive=adaptive)
        self.adapts_on_test = adaptive
        self._make_reader = make_reader

    # ---- Learning -------------------------------------------------------------------------------

    def _new_reader(self, seed: int) -> R:
        reader = self._make_reader()
        reader.begin_training(seed)
        return reader

    def _complete(self, reader: R, data: TrainingData) -> Self:
        reader.end_training(data)
        return self._become(reader)

    def _become(self, reader: R) -> Self:
        self.learned, self.fitted = reader, True
        return self

    # ---- Predicting -----------------------------------------------------------------------------

    def initial_state(self) -> DocumentState[R]:
        self.require_fitted()
        return DocumentState(np.empty(0, np.int32))

    def advance(self, state: DocumentState[R], token_id: int) -> DocumentState[R]:
        if token_id == EOT:
            return self.initial_state()
        reader = self._reader_of(state)
        reader.read(np.array([token_id], np.int32))
        return DocumentState(reader.ids, reader)

    def next_log_probs(self, state: DocumentState[R]) -> NDArray[np.float64]:
        reader = self._reader_of(state)
        log_probs = reader.next_log_probs()
        state.give_back(reader)
        return log_probs

    def _reader_of(self, state: DocumentState[R]) -> R:
        """Takes the reader of a state, or creates one that has read the document of the state."""
        return state.take_reader() or self._reader_after(state.ids)

    def _reader_after(self, document: NDArray[np.int32]) -> R:
        reader = self._new_document()
        reader.read(document)
        return reader

    def _new_document(self) -> R:
        return self.learned.for_document(learns=self.adapts_on_test)

    # ---- Speed ----------------------------------------------------------------------------------

    def state_after(self, context: NDArray[np.int32]) -> DocumentState[R]:
        reader = self._reader_after(context)
        return DocumentState(reader.ids, reader)

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        stream = self.checked_stream(ids)
        log_probs = np.empty(len(stream))
        for begin, end in zip(stream.starts.tolist(), stream.ends.tolist(), strict=True):
            self._new_document().read(stream.ids[begin:end], log_probs[begin:end])
        return log_probs

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
        if positions is not None:  # few positions: the states of their contexts are cheaper than a whole stream
            yield from super().stream_log_probs(stream, positions)
            return
        for begin, end in zip(stream.starts.tolist(), stream.ends.tolist(), strict=True):
            reader = self._new_document()
            for start, stop in self.block_bounds(end - begin):
                rows = np.empty((stop - start, self.vocab_size))
                reader.read(stream.ids[begin + start : begin + stop], rows=rows)
                yield np.arange(begin + start, begin + stop), rows

    # ---- Saving ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        return self.learned.arrays()

    def load_arrays(self, arrays: Arrays) -> Self:
        reader = self._make_reader()
        reader.load_arrays(arrays)
        return self._become(reader)
