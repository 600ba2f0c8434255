"""The interface of models that predict all tokens at each position of a text while they learn the text."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lmzoo.stream import TrainingData


class OnlineReader(Protocol):
    """Reads a text from its beginning, and trains a model on it: predicts each token, then learns it."""

    def read(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        """Reads the next T tokens of the text, and returns the predictions before each of them.

        The predictions are the log-probabilities (T, V), in nats, of all V tokens. A prediction may depend only on the
        tokens before it. A token may be learned with a delay, but the delay must not depend on how many tokens are read
        in each call.
        """
        ...

    def finish(self, data: TrainingData) -> None:
        """Completes the training of the model, which is then fitted. The reader must not be used afterwards.

        `data` is the training data, whose train split must be the text that was read.
        """
        ...


@runtime_checkable
class ReadsOnline(Protocol):
    """A language model that predicts all tokens at each position of a text while it learns the text.

    As an input of `lmzoo.models.context_mixing`, such a model learns a text at the same time as the mixer.
    """

    def online_reader(self, seed: int) -> OnlineReader:
        """Returns a reader that has read nothing; it changes the model only in its method `finish`."""
        ...
