"""A sample of the training text, saved with a trained model so that an evaluation on training text is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import Arrays, take_array
from lmzoo.errors import SavedModelError
from lmzoo.mapped import drop_read_only_pages
from lmzoo.stream import TokenStream

MUCH_SEEN = 0.2
"""A note is shown if at least this share of a text also occurs in the training text."""
_WORDS_PER_RUN = 8
"""Number of words in a run, the same as in the search for near-duplicates (Brown et al. 2020, appendix C, n = 8)."""
_N_HASHES = 1 << 14
_BLOCK = 1 << 16
"""Number of tokens that are hashed at a time."""
_BLOCKS_IN_MEMORY = 64
"""Number of blocks of a memory-mapped text after which the pages of the text are dropped from memory."""
_FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
"""Odd multipliers, so that no factor is lost."""


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """A sample of the runs of tokens (n-grams) of a training text, as hashes, to estimate its overlap with other texts.

    The sample holds the smallest hashes of all runs (Broder 1997, "On the resemblance and containment of documents"),
    so it selects the same runs in every text. A run has about eight words and lies within one document.
    """

    length: int
    """Number of tokens of a run."""
    hashes: NDArray[np.uint64]
    """The sampled hashes (N,), in ascending order; N is at most 16,384."""

    @classmethod
    def of(cls, stream: TokenStream, n_words: int) -> Self:
        """Samples runs of tokens (n-grams) of a training text, and returns their hashes as a new sample.

        `n_words` is the number of words in the text.
        """
        length = 1 << round(np.log2(np.clip(_WORDS_PER_RUN * len(stream) / max(1, n_words), 4, 64)))
        kept = np.empty(0, np.uint64)
        for hashes in _run_hashes(stream, length):
            if len(kept) == _N_HASHES:
                hashes = hashes[hashes <= kept[-1]]
            kept = np.unique(np.concatenate([kept, hashes]))[:_N_HASHES]
        return cls(length, kept)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Returns the hashes of the sample, and the length of its runs of tokens, as named arrays for a file."""
        return {"hashes": self.hashes, "length": np.array([self.length], np.int64)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Creates a sample from the arrays that `arrays()` returned; raises SavedModelError for other arrays."""
        length = int(take_array(arrays, "length", shape=(1,), dtype=np.int64)[0])
        hashes = take_array(arrays, "hashes", shape=(None,), dtype=np.uint64)
        if length not in (4, 8, 16, 32, 64) or len(hashes) > _N_HASHES or (hashes[1:] <= hashes[:-1]).any():
            raise SavedModelError("the sample of the training text is damaged: train the model again")
        return cls(length, hashes)

    def share_in(self, stream: TokenStream) -> float | None:
        """Estimates which share of a text, from 0 to 1, also occurs in the training text.

        The share is that of the runs of tokens (n-grams) of the text, and is estimated from those runs that the sample
        of the training text can contain. Returns None if the text has no such run.
        """
        largest = self.hashes[-1] if len(self.hashes) == _N_HASHES else np.uint64(2**64 - 1)
        n_compared = n_found = 0
        for hashes in _run_hashes(stream, self.length):
            compared = hashes[hashes <= largest]
            n_compared += len(compared)
            n_found += int(np.isin(compared, self.hashes).sum())
        return n_found / n_compared if n_compared else None


def _run_hashes(stream: TokenStream, length: int) -> Iterator[NDArray[np.uint64]]:
    """Yields hashes of all runs of `length` tokens in the documents of a text, in blocks.

    A document that is shorter is one run. `length` is a power of two, so that the hash of a run of 2^n tokens is
    computed from the hashes of its halves.
    """
    ends = stream.ends
    for begin in range(0, len(stream), _BLOCK):
        if begin and begin % (_BLOCKS_IN_MEMORY * _BLOCK) == 0:
            drop_read_only_pages(stream.ids)
        positions = np.arange(begin, min(begin + _BLOCK + length, len(stream)))
        first, last = np.searchsorted(ends, [positions[0], positions[-1]], side="right")
        starts = stream.starts[first : last + 1]
        counts = np.diff(np.append(np.maximum(starts, positions[0]), positions[-1] + 1))
        left = np.repeat(ends[first : last + 1], counts) - positions  # tokens to the end of the document
        hashes = (stream.ids[positions[0] : positions[-1] + 1].astype(np.uint64) + np.uint64(1)) * _FIRST
        width = 1
        while width < length:
            following = np.zeros_like(hashes)
            following[:-width] = np.where(left[:-width] > width, hashes[width:], 0)
            hashes = _mixed(hashes * _SECOND + following)
            width *= 2
        whole = (left >= length) | (positions == np.repeat(starts, counts))
        yield hashes[:_BLOCK][whole[:_BLOCK]]


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mixes the bits of each hash, so that each bit depends on many others (first half of the mixer of SplitMix64)."""
    return (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
