"""The uniform model (Hartley 1928) and the unigram model (Shannon 1948): baselines for every other model.

The uniform model gives each of V tokens the probability 1/V. The unigram model gives each token its relative frequency
in the training text, with additive smoothing so that no token has probability 0 (Lidstone 1920). Neither uses the
context.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_positive
from lmzoo.mapped import blocks_of
from lmzoo.models.short_context import ShortContextModel
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.progress import OnProgress, Progress


@final
class ContextIndependentModel(ShortContextModel[None]):
    """A language model that predicts the same distribution after every context: a uniform or a unigram model."""

    context_size = 0
    exact_in_batches = True

    def __init__(self, vocab_size: int, *, alpha: float) -> None:
        """Creates a model for `vocab_size` tokens; `alpha` is added to the count of every token.

        With `alpha` = infinity the model is uniform.
        """
        super().__init__(vocab_size)
        self.alpha = alpha

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        train = self.checked_data(data).train
        self._log_probs = np.full(self.vocab_size, -np.log(self.vocab_size))
        if np.isfinite(self.alpha):
            occurrences = (np.bincount(block, minlength=self.vocab_size) for _, block in blocks_of(train.ids))
            counts = sum(occurrences, np.zeros(self.vocab_size, np.int64)) + self.alpha
            self._log_probs = np.log(counts / counts.sum())
        self.fitted = True
        if on_progress:
            on_progress(Progress(len(train), len(train), "tokens"))
        return self

    def initial_state(self) -> None:
        return None

    def advance(self, state: None, token_id: int) -> None:
        return None

    def next_log_probs(self, state: None) -> NDArray[np.float64]:
        return self._log_probs

    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        wanted = stream.selected(positions)
        for start, stop in self.block_bounds(len(wanted)):
            yield wanted[start:stop], np.broadcast_to(self._log_probs, (stop - start, self.vocab_size))

    @property
    def n_parameters(self) -> int:
        return self.vocab_size if np.isfinite(self.alpha) else 0

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"log_probs": self._log_probs}

    def load_arrays(self, arrays: Arrays) -> Self:
        self._log_probs = take_array(arrays, "log_probs", shape=(self.vocab_size,), dtype=np.float64)
        self.fitted = True
        return self


def uniform(vocab_size: int) -> ContextIndependentModel:
    """Creates a uniform model, which gives every token the same probability."""
    return ContextIndependentModel(vocab_size, alpha=np.inf)


def unigram(vocab_size: int, *, alpha: float = 1.0) -> ContextIndependentModel:
    """Creates a unigram model: relative frequencies in the training text, with `alpha` added to every count."""
    check_positive(alpha=alpha)
    return ContextIndependentModel(vocab_size, alpha=alpha)
