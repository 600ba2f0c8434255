"""Other models as inputs of the mixer: how they learn a training text, and how they read a document after it."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.language_model import LanguageModel
from lmzoo.online_reader import OnlineReader, ReadsOnline
from lmzoo.stream import TokenStream, TrainingData

_FIRST_TRAINING = 1 << 10
"""Number of tokens after which a model that cannot learn token by token is trained for the first time."""
Model = LanguageModel[Any]


@final
class TrainedInput:
    """A trained model that reads the tokens after a context, which is an array of token ids."""

    def __init__(self, model: Model, context: ArrayLike = ()) -> None:
        self._model, self._state = model, model.state_after(model.visible(context))
        self._next: NDArray[np.float64] | None = None  # the result of `next_log_probs`, once it is known

    def read(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        """Reads T tokens; returns the log-probabilities (T, V), in nats, predicted before each token was read."""
        rows = np.empty((ids.size, self._model.vocab_size))
        for row, token_id in zip(rows, ids.tolist(), strict=True):
            row[:] = self.next_log_probs()
            self._state, self._next = self._model.advance(self._state, token_id), None
        return rows

    def next_log_probs(self) -> NDArray[np.float64]:
        """Returns the log-probabilities (V,), in nats, of all V tokens that may come next."""
        if self._next is None:
            self._next = self._model.next_log_probs(self._state)
        return self._next


@final
class RetrainedInput(OnlineReader):
    """Reads a text with a model that cannot learn token by token.

    The model is trained again each time the text has doubled. Before it is trained for the first time, it predicts all
    tokens with equal probability.
    """

    def __init__(self, model: Model, seed: int) -> None:
        self._model, self._seed = model, seed
        self._ids, self._n_read, self._next_training = np.empty(64, np.int32), 0, _FIRST_TRAINING
        self._input: TrainedInput | None = None

    def read(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        rows = np.full((ids.size, self._model.vocab_size), -np.log(self._model.vocab_size))
        begin, end = self._n_read, self._n_read + ids.size
        if end > self._ids.size:
            self._ids = np.concatenate([self._ids[:begin], np.empty(end, np.int32)])
        self._ids[begin:end], self._n_read, done = ids, end, begin
        while done < end:
            if done == self._next_training:
                self._train(self._ids[:done])
            stop = min(end, self._next_training)
            if self._input:
                rows[done - begin : stop - begin] = self._input.read(self._ids[done:stop])
            done = stop
        return rows

    def _train(self, past: NDArray[np.int32]) -> None:
        """Trains the model on the text so far; the last tenth is the validation split."""
        cut = past.size * 9 // 10
        self._model.fit(TrainingData(TokenStream(past[:cut]), TokenStream(past[cut:])), seed=self._seed)
        self._input, self._next_training = TrainedInput(self._model, past), 2 * past.size

    def finish(self, data: TrainingData) -> None:
        self._model.fit(data, seed=self._seed)


def learner(model: Model, seed: int) -> OnlineReader:
    """Returns a reader with which a new model learns a training text and predicts it at the same time."""
    return model.online_reader(seed) if isinstance(model, ReadsOnline) else RetrainedInput(model, seed)
