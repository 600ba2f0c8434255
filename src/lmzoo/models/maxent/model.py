"""The maximum-entropy model on n-grams: an n-gram model with back-off whose weights maximise a penalised likelihood."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_at_least, check_positive, check_whole
from lmzoo.models.maxent.ascent import Ascent
from lmzoo.models.maxent.learning import NgramLikelihood
from lmzoo.models.ngram.model import NgramModel
from lmzoo.models.ngram.names import GIVEN
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.progress import OnProgress


@final
class MaxentModel(NgramModel):
    """A maximum-entropy n-gram model, which predicts like an n-gram model with back-off.

    The arguments are explained in the function `lmzoo.models.maxent.maxent`.
    """

    def __init__(self, vocab_size: int, *, order: int, variance: float, discount: float, steps: int) -> None:
        super().__init__(vocab_size, order=order, smoothing=GIVEN)
        check_positive(variance=variance)
        check_at_least(0, discount=discount)
        check_whole(1, steps=steps)
        self._variance, self._discount, self._steps = variance, discount, steps

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        self.checked_data(data)
        ascent = Ascent(checkpoint, lambda: data.fingerprint(self.facts), on_progress)
        return self.with_weights(*self.learned(data.train, ascent))

    @property
    def facts(self) -> list[Any]:
        """All settings of the model, from which the fingerprint of a fit is computed."""
        return ["maxent", self.vocab_size, self.order, self._variance, self._discount, self._steps]

    def learned(self, text: TokenStream, ascent: Ascent) -> tuple[NgramLikelihood, NDArray[np.float64]]:
        """Returns the penalised likelihood of a text, and the weights (M,) of its n-grams that maximise it."""
        from lmzoo.models.ngram.counting.sorting import count_ngrams

        ascent.report(0, self._steps, "counting n-grams")
        counted = count_ngrams(text, self.vocab_size, self.order)
        likelihood = NgramLikelihood(counted, self._variance, self._discount)
        message = "learning the weights of n-grams"
        return likelihood, ascent.maximised(likelihood, likelihood.start(), self._steps, message)

    def with_weights(self, likelihood: NgramLikelihood, weights: NDArray[np.float64]) -> Self:
        """Gives the model the weights (M,) of the n-grams of a text, and returns it."""
        return self._become(likelihood.trie, likelihood.as_ngram_weights(weights), np.empty((self.order, 0)))
