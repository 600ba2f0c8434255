"""The law about models that learn after every token: it holds for an honest model, and finds each kind of cheating."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from online_species import LaplaceUnigram, laplace_unigram

from lmzoo.stream import TokenStream
from lmzoo.testing import Specimen, learns_after_every_token


class Seer(LaplaceUnigram):
    """Counts the whole text before it predicts the first token."""

    def online_log_probs(self, ids: Any, on_progress: Any = None) -> NDArray[np.float64]:
        stream = TokenStream.of(ids, self.vocab_size)
        counts = np.bincount(stream.ids, minlength=self.vocab_size) + 1
        return np.log(counts / counts.sum())[stream.ids]


class Spendthrift(LaplaceUnigram):
    """Gives tokens probabilities that sum to 2."""

    def online_log_probs(self, ids: Any, on_progress: Any = None) -> NDArray[np.float64]:
        return super().online_log_probs(ids) + np.log(2)


class Forgetful(LaplaceUnigram):
    """Keeps what it learned online as the trained model."""

    def online_log_probs(self, ids: Any, on_progress: Any = None) -> NDArray[np.float64]:
        self._log_probs = super().online_log_probs([*range(self.vocab_size)])
        return super().online_log_probs(ids)


def specimen(kind: type[LaplaceUnigram]) -> Specimen:
    return Specimen(lambda vocab_size: kind(vocab_size, alpha=1))


def test_an_honest_model_passes() -> None:
    learns_after_every_token(Specimen(laplace_unigram))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Seer, "Not equal to tolerance|later tokens"),
        (Spendthrift, "Not equal to tolerance"),
        (Forgetful, "the trained model has changed"),
    ],
)
def test_cheats_are_found(kind: type[LaplaceUnigram], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        learns_after_every_token(specimen(kind))
