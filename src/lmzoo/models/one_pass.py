"""Models that learn a text in one pass, in which each token is predicted before it is learned."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, Protocol, Self, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.checkpoint import Checkpoint
from lmzoo.language_model import LanguageModel
from lmzoo.online_reader import OnlineReader
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress

_PIECE = 1 << 15
"""Number of tokens that are read at a time in training, between two reports of progress."""
NO_LOG_PROBS, NO_ROWS = np.empty(0), np.empty((0, 0))


class Reader(Protocol):
    """Reads a text token by token: it predicts each token, and then learns it."""

    def read(
        self, ids: NDArray[np.int32], log_probs: NDArray[np.float64] = NO_LOG_PROBS, rows: NDArray[np.float64] = NO_ROWS
    ) -> None:
        """Reads T tokens.

        The log-probability of each token, in nats, at the moment before it was read is written to `log_probs` (T,), and
        those of all V tokens at this moment to `rows` (T, V), unless these arrays are empty.
        """
        ...


State = TypeVar("State")
R = TypeVar("R", bound=Reader)


class OnePassModel(LanguageModel[State], Generic[State, R]):
    """Base class of language models that learn a text in one pass, in which a reader predicts and learns each token."""

    @abstractmethod
    def _new_reader(self, seed: int) -> R:
        """Returns a reader that is about to learn a training text, and has read nothing."""

    @abstractmethod
    def _complete(self, reader: R, data: TrainingData) -> Self:
        """Completes the training after `reader` has read the training text, `data.train`; returns the trained model."""

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        train = self.checked_data(data).train
        reader = self._new_reader(seed)
        for start in range(0, len(train), _PIECE):
            reader.read(train.ids[start : start + _PIECE])
            _report(on_progress, start, len(train))
        self.n_tokens_read = len(train)
        return self._complete(reader, data)

    def online_log_probs(
        self, ids: ArrayLike | TokenStream, on_progress: OnProgress | None = None
    ) -> NDArray[np.float64]:
        stream = TokenStream.of(ids, self.vocab_size)
        reader, log_probs = self._new_reader(0), np.empty(len(stream))
        for start in range(0, len(stream), _PIECE):
            reader.read(stream.ids[start : start + _PIECE], log_probs[start : start + _PIECE])
            _report(on_progress, start, len(stream))
        return log_probs

    def online_reader(self, seed: int) -> OnlineReader:
        return _OnlineReader(self, self._new_reader(seed))


@final
class _OnlineReader(OnlineReader, Generic[R]):
    """Reads a text with an untrained reader; after `finish`, the model predicts with what this reader has learned."""

    def __init__(self, model: OnePassModel[Any, R], reader: R) -> None:
        self._model, self._reader = model, reader

    def read(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        rows = np.empty((ids.size, self._model.vocab_size))
        self._reader.read(ids, rows=rows)
        return rows

    def finish(self, data: TrainingData) -> None:
        self._model._complete(self._reader, data)


def _report(on_progress: OnProgress | None, start: int, n_tokens: int) -> None:
    """Reports that the piece of a text of `n_tokens` tokens that begins at `start` has been read."""
    if on_progress:
        on_progress(Progress(min(start + _PIECE, n_tokens), n_tokens, "tokens"))
