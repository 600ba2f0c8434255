"""A model that learns after every token, for tests: a unigram model with Laplace's rule of succession."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.models.baselines import ContextIndependentModel
from lmzoo.stream import TokenStream
from lmzoo.system.progress import OnProgress, Progress


class LaplaceUnigram(ContextIndependentModel):
    """A unigram model whose prediction after t tokens is (c + 1) / (t + V) for a token that occurred c times."""

    def online_log_probs(
        self, ids: ArrayLike | TokenStream, on_progress: OnProgress | None = None
    ) -> NDArray[np.float64]:
        stream = TokenStream.of(ids, self.vocab_size)
        counts, probs = np.zeros(self.vocab_size), np.empty(len(stream))
        for t, token_id in enumerate(stream.ids.tolist()):
            probs[t] = (counts[token_id] + 1) / (t + self.vocab_size)
            counts[token_id] += 1
        if on_progress:
            on_progress(Progress(len(stream), len(stream), "tokens"))
        return np.log(probs)


def laplace_unigram(vocab_size: int) -> LaplaceUnigram:
    """Creates a unigram model that learns after every token."""
    return LaplaceUnigram(vocab_size, alpha=1)
