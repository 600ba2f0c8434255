"""The interface of models that predict all tokens at each position of a text while they learn the text."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lmzoo.stream import TrainingData


class OnlineReader(Protocol):
    """Reads a text from its beginning with a model that learns as it reads: predicts each token, then learns it."""

    def read(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        """Reads the next T tokens of the text, and returns the predictions before each of them.

        These are the log-probabilities (T, V), in nats, of all V tokens. A prediction may depend only on tokens before
        it. The model may learn a token somewhat later, but when it does must not depend on how many tokens are read at
        a time.
        """
        ...

    def finish(self, data: TrainingData) -> None:
        """Makes the model a trained one, which has learned the text. The reader must not be used afterwards.

        `data` is the training data; the text that was read is its train split.
        """
        ...


@runtime_checkable
class ReadsOnline(Protocol):
    """A language model whose predictions of all tokens are available while it learns a text token by token.

    Such a model can be an input of `lmzoo.models.context_mixing`, which learns as it reads, too.
    """

    def online_reader(self, seed: int) -> OnlineReader:
        """Returns a reader that has read nothing; the model is not changed before the reader has finished."""
        ...
