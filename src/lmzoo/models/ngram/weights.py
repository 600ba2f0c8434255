"""The log-probabilities and back-off weights of the n-grams of a trie, in single precision or as one-byte codes."""

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
    """The log-probabilities of the M n-grams and the log back-off weights of the C contexts of a trie, in nats."""

    values: NDArray[Any]
    """(M,) log-probabilities (float32) or, if there is a codebook, their codes (uint8)."""
    backoffs: NDArray[np.float32]
    """(C,) natural logarithms of the back-off weights."""
    codebook: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    """The log-probabilities that the 256 codes denote, then those of the first nodes, which have no codes: the root and
    all n-grams up to some length, at least the unigrams."""

    def log_probs(self, nodes: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        """Returns the log-probabilities, in nats, of n-grams, given as a range or an array of trie nodes.

        The n-grams of a range all have the same length. Log-probabilities that are stored as one-byte codes are
        decoded.
        """
        if not self.codebook.size:
            return self.values[nodes]
        exact = self.codebook[N_CODES:]
        if isinstance(nodes, slice):
            return exact[nodes] if nodes.stop <= exact.size else self.codebook[self.values[nodes]]
        has_code = nodes >= exact.size
        return np.where(has_code, self.codebook[self.values[nodes]], exact[np.where(has_code, 0, nodes)])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns the log-probabilities and back-off weights by name, in the format that `from_arrays` reads."""
        coded = {"codes": self.values, "codebook": self.codebook}
        return {**(coded if self.codebook.size else {"log_probs": self.values}), "backoffs": self.backoffs}

    @classmethod
    def from_arrays(cls, arrays: Arrays, trie: Trie) -> Weights:
        """Returns the log-probabilities and back-off weights that are saved in `arrays`, for the n-grams of `trie`.

        Raises SavedModelError if log-probabilities are above 0 or NaN, or back-off weights infinite.
        """
        size, codebook = trie.tokens.size, np.empty(0, np.float32)
        if "codes" in arrays:
            values = take_array(arrays, "codes", shape=(size,), dtype=np.uint8)
            codebook = take_array(arrays, "codebook", shape=(None,), dtype=np.float32)
            if codebook.size - N_CODES not in trie.levels[2:]:
                raise SavedModelError("the saved n-gram model is damaged: its codebook does not fit its n-grams")
        else:
            values = take_array(arrays, "log_probs", shape=(size,), dtype=np.float32)
        backoffs = take_array(arrays, "backoffs", shape=(trie.n_contexts,), dtype=np.float32)
        # A comparison with NaN is false, so these comparisons also detect NaN.
        if not ((codebook if codebook.size else values).max() <= 1e-6 and backoffs.max() < np.inf):
            raise SavedModelError(
                "the saved n-gram model is damaged: it has log-probabilities above 0, infinite back-off weights, or NaN"
            )
        return cls(*(np.require(array, None, ["C", "A"]) for array in (values, backoffs, codebook)))
