"""A language model under test, and text to train it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT, TokenStream, TrainingData

Factory = Callable[[int], LanguageModel[Any]]


@dataclass(eq=False)
class Specimen:
    """A language model under test, and what the tests must know about it, such as its numerical tolerance."""

    make: Factory
    """Function that takes the vocabulary size and returns an untrained model."""
    tolerance: float = 1e-9
    """Largest allowed difference of two log-probabilities in nats: about 1e-9 for float64, 1e-4 for float32."""
    nonzero_probabilities: bool = True
    """False for unsmoothed models, which may give a token probability 0."""
    vocab_size: int = 12

    @cached_property
    def data(self) -> TrainingData:
        """Random training data on which the model under test is trained."""
        return toy_data(self.vocab_size)

    @cached_property
    def fitted(self) -> LanguageModel[Any]:
        """The model under test, trained on random data with seed 1."""
        return self.make(self.vocab_size).fit(self.data, seed=1)

    def contexts(self) -> list[NDArray[np.int32]]:
        """Returns contexts of many lengths (0 to beyond the context size), some with EOT (end of text) in them."""
        size = self.fitted.context_size or 9
        lengths = sorted({0, 1, 2, max(size - 1, 0), size, size + 1, min(3 * size, size + 100)})
        rng = np.random.default_rng(7)
        contexts = [rng.integers(1, self.vocab_size, length, dtype=np.int32) for length in lengths]
        return [*contexts, np.array([3, EOT], np.int32), np.array([3, EOT, 4], np.int32)]

    def assert_close(self, left: Any, right: Any, what: str) -> None:
        """Raises AssertionError if `left` and `right` differ by more than the tolerance of the model.

        They are numbers or arrays, and `what` describes them in the error message.
        """
        np.testing.assert_allclose(left, right, rtol=0, atol=self.tolerance, err_msg=what)


def toy_data(vocab_size: int, n_documents: int = 40, seed: int = 0) -> TrainingData:
    """Generates training data from a random Markov chain. Some documents are empty; the last two ids never occur."""
    rng = np.random.default_rng(seed)
    used = vocab_size - 2
    transitions = rng.dirichlet(np.full(used, 0.3), size=used)

    def document() -> NDArray[np.int32]:
        length = int(rng.choice([0, 1, 5, 20, 60]))
        ids = [int(rng.integers(1, used))]
        while len(ids) < length:
            ids.append(int(rng.choice(used, p=transitions[ids[-1]])) or 1)
        return np.array(ids[:length], np.int32)

    train = TokenStream.from_documents(document() for _ in range(n_documents))
    return TrainingData(train, TokenStream.from_documents(document() for _ in range(n_documents // 4)))
