"""What a trie of n-grams says: log-probabilities and back-off weights, in single precision or in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.errors import SavedModelError
from lmzoo.models.ngram.trie import Trie

N_CODES: Final = 256


@dataclass(frozen=True, eq=False)
class Weights:
    """Natural logarithms for the M n-grams and C contexts of a trie."""

    values: NDArray[Any]
    """(M,) log-probabilities, float32; if there is a codebook, codes for them, uint8."""
    backoffs: NDArray[np.float32]
    """(C,) of the back-off weights."""
    codebook: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    """What the 256 codes stand for, and then the log-probabilities of root and unigrams, which have no codes."""

    def log_probs(self, nodes: slice) -> NDArray[np.float32]:
        """The log-probabilities of nodes of one order."""
        if not self.codebook.size:
            return self.values[nodes]
        exact = self.codebook[N_CODES:]
        return exact[nodes] if nodes.stop <= exact.size else self.codebook[self.values[nodes]]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `from_arrays` reads."""
        coded = {"codes": self.values, "codebook": self.codebook}
        return {**(coded if self.codebook.size else {"log_probs": self.values}), "backoffs": self.backoffs}

    @classmethod
    def from_arrays(cls, arrays: Arrays, trie: Trie) -> Weights:
        """The weights that `arrays` came from; SavedModelError if they are none."""
        size, codebook = trie.tokens.size, np.empty(0, np.float32)
        if "codes" in arrays:
            values = take_array(arrays, "codes", shape=(size,), dtype=np.uint8)
            codebook = take_array(arrays, "codebook", shape=(N_CODES + 1 + trie.vocab_size,), dtype=np.float32)
        else:
            values = take_array(arrays, "log_probs", shape=(size,), dtype=np.float32)
        backoffs = take_array(arrays, "backoffs", shape=(trie.n_contexts,), dtype=np.float32)
        # A comparison with NaN is false: one pass finds it, too.
        if not ((codebook if codebook.size else values).max() <= 1e-6 and backoffs.max() < np.inf):
            raise SavedModelError("the saved n-gram model has log-probabilities above 0 or NaN")
        return cls(*(np.require(array, None, ["C", "A"]) for array in (values, backoffs, codebook)))
