"""Near-duplicates: the share of the validation and test sets that also occurs in the training set.

The measure is the one used to decontaminate GPT-3 (Brown et al. 2020, appendix C), with n = 8: a word is a duplicate if
it lies in an 8-gram of words that also occurs in the training set, ignoring case and punctuation. A document of fewer
than 8 words has no 8-gram; its words are duplicates if a training document consists of the same words. A word is a
sequence of letters, combining marks and digits, as in the tokenizer "word". In a script without spaces, such a sequence
is longer than a word, so that only longer repetitions are detected.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from lmzoo.corpora.corpus import Corpus, Document
from lmzoo.corpora.stored import count_characters
from lmzoo.system.progress import OnProgress, progress_counter
from lmzoo.tokenizers.segments import parts
from lmzoo.tokenizers.words import LEXICAL

N_WORDS: Final = 8
"""Length of the n-grams of words that are compared."""
_BATCH_CHARACTERS = 1 << 20
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no factor is lost; 2^64 divided by the golden ratio


@dataclass(frozen=True)
class DuplicateDocument:
    """A document of the validation or test set that repeats text of the training set."""

    name: str
    share: float
    """Fraction of the document's words that lie in an 8-gram that also occurs in the training set; 1 for a document of
    fewer than 8 words that a training document repeats."""
    n_words: int
    nearest: str
    """Name of the training document that shares the most 8-grams with it, or that repeats its fewer than 8 words."""


@dataclass(frozen=True)
class NearDuplicates:
    """The amount of text that one split of a corpus, the validation or test set, shares with the training set."""

    share: float
    """Fraction of the split's words that lie in an 8-gram that also occurs in the training set, or in a document of
    fewer than 8 words that a training document repeats."""
    n_words: int
    exact: int
    """Number of documents whose whole text equals a training document."""
    worst: tuple[DuplicateDocument, ...]
    """The documents with the highest shares, the highest first; at most `n_worst`."""


def near_duplicates(
    corpus: Corpus, *, n_worst: int = 10, on_progress: OnProgress | None = None
) -> dict[str, NearDuplicates]:
    """Measures how much of the splits "valid" and "test" of a corpus also occurs in its training set.

    Two texts overlap if they share a sequence of 8 words (an 8-gram). The result for each of the two splits includes
    the `n_worst` documents that overlap most with the training set. 8-grams are compared by 64-bit hashes: the
    probability of any false match in 100 MB is about one in a million. To save memory, the training set is read in
    batches, and only its 8-grams that also occur in the other two splits are kept.
    """
    total = sum(map(count_characters, corpus.splits.values()))
    hasher = _WordHasher(progress_counter(on_progress, total, "characters", "searching for near-duplicates"))
    held_out = {name: _Words.of(corpus.splits[name], hasher) for name in ("valid", "test")}
    train = _Index.of(corpus.train, hasher, list(held_out.values()))
    digests = {name: [_digest(document) for document in corpus.splits[name]] for name in held_out}
    known = {digest for of_split in digests.values() for digest in of_split}
    in_train = {digest for digest in map(_digest, corpus.train) if digest in known}
    return {
        name: _compare(words, train, corpus.splits[name], sum(digest in in_train for digest in digests[name]), n_worst)
        for name, words in held_out.items()
    }


def _digest(document: Document) -> bytes:
    """Returns a checksum of the text of a document, which takes less memory than the text."""
    return hashlib.sha256(document.text.encode()).digest()


class _WordHasher:
    """Assigns a random 64-bit hash to each different word.

    `on_read` is called with the number of characters that have been read since its last call, for a progress report.
    """

    def __init__(self, on_read: Callable[[int], None]) -> None:
        self._ids: defaultdict[str, int] = defaultdict(itertools.count().__next__)
        # Random numbers, because sums of multiples of small consecutive ids would collide. The seed is fixed, so that
        # results repeat.
        self._rng = np.random.default_rng(0)
        self._hashes = np.empty(0, np.uint64)  # of each word id
        self._on_read = on_read

    def hashes(self, text: str) -> NDArray[np.uint64]:
        """Returns the 64-bit hash of each word of a text, in the order of the words."""
        found: list[NDArray[np.int32]] = []
        for part, _ in parts(text, _BATCH_CHARACTERS):
            words = cast(list[str], LEXICAL.findall(part.lower()))
            found.append(np.fromiter(map(self._ids.__getitem__, words), np.int32, len(words)))
            self._on_read(len(part))
        n_missing = len(self._ids) - self._hashes.size
        if n_missing > 0:
            n_new = max(n_missing, self._hashes.size)
            self._hashes = np.append(self._hashes, self._rng.integers(2**64, size=n_new, dtype=np.uint64))
        return self._hashes[np.concatenate(found)]


@dataclass(frozen=True, eq=False)
class _Words:
    """The words of D documents as 64-bit hashes, with all documents concatenated into one sequence of T words."""

    hashes: NDArray[np.uint64]  # (T,)
    document: NDArray[np.int32]  # (T,) index of the document of each word
    lengths: NDArray[np.int64]  # (D,) in words

    @classmethod
    def of(cls, documents: Sequence[Document], hasher: _WordHasher) -> _Words:
        hashes = [hasher.hashes(document.text) for document in documents]
        lengths = np.array([len(one) for one in hashes], np.int64)
        return cls(np.concatenate(hashes), np.repeat(np.arange(len(hashes), dtype=np.int32), lengths), lengths)

    def ngrams(self) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """Computes the 64-bit hashes of all 8-grams (sequences of 8 words) that lie within one document.

        Returns two arrays for R 8-grams: their hashes (R,), and the index (R,) of the first word of each 8-gram in the
        sequence of all words.
        """
        n = len(self.hashes) - N_WORDS + 1
        if n <= 0:
            return np.empty(0, np.uint64), np.empty(0, np.intp)
        hashes = np.zeros(n, np.uint64)
        for offset in range(N_WORDS):  # Horner's rule modulo 2^64, for all positions together
            hashes *= _MULTIPLIER
            hashes += self.hashes[offset : offset + n]
        starts = np.flatnonzero(self.document[:n] == self.document[N_WORDS - 1 :])
        return hashes[starts], starts

    def short_documents(self) -> Iterator[tuple[int, slice, bytes]]:
        """Finds the documents of 1 to 7 words, which are too short to contain an 8-gram.

        Yields for each of them its index, the slice of its words in the sequence of all words, and the bytes of its
        word hashes, which identify its text.
        """
        ends = np.cumsum(self.lengths)
        for index in np.flatnonzero((self.lengths > 0) & (self.lengths < N_WORDS)).tolist():
            positions = slice(int(ends[index] - self.lengths[index]), int(ends[index]))
            yield index, positions, self.hashes[positions].tobytes()


@dataclass(frozen=True, eq=False)
class _Index:
    """The parts of the training set that also occur in the validation or test set.

    These are 8-grams (sequences of 8 words), sorted by their hashes, and whole documents of 1 to 7 words.
    """

    hashes: NDArray[np.uint64]  # (R,) sorted
    document: NDArray[np.int32]  # (R,) index of the document of each 8-gram
    documents: Sequence[Document]
    """The documents of the training set."""
    short: dict[bytes, str]
    """Names of the documents of 1 to 7 words that also occur in other splits, by their word hashes."""

    @classmethod
    def of(cls, documents: Sequence[Document], hasher: _WordHasher, held_out: Sequence[_Words]) -> _Index:
        """Finds the 8-grams and the short documents of the training set that also occur in the validation or test set.

        - `documents`: the documents of the training set.
        - `hasher`: assigns a hash to each word.
        - `held_out`: the words of the validation set and of the test set.
        """
        wanted = np.unique(np.concatenate([words.ngrams()[0] for words in held_out]))
        wanted_short = {key for words in held_out for _, _, key in words.short_documents()}
        short: dict[bytes, str] = {}
        kept_hashes, kept_documents = [np.empty(0, np.uint64)], [np.empty(0, np.int32)]
        for batch in _batches(documents):
            words = _Words.of(documents[batch], hasher)
            hashes, starts = words.ngrams()
            is_wanted = _is_in(hashes, wanted)
            kept_hashes.append(hashes[is_wanted])
            kept_documents.append(words.document[starts[is_wanted]] + np.int32(batch.start))
            for index, _, key in words.short_documents():
                if key in wanted_short:
                    short[key] = documents[batch.start + index].name
        hashes = np.concatenate(kept_hashes)
        order = np.argsort(hashes)
        return cls(hashes[order], np.concatenate(kept_documents)[order], documents, short)

    def nearest(self, hashes: NDArray[np.uint64]) -> str:
        """Returns the name of the training document that shares the most 8-grams with another document.

        `hashes` (R,) are the hashes of the R 8-grams of the other document that also occur in the training set.
        """
        # Each different 8-gram is looked up once: R occurrences times their occurrences in training could be very many.
        hashes, weights = np.unique(hashes, return_counts=True)
        first = np.searchsorted(self.hashes, hashes, side="left")
        counts = np.searchsorted(self.hashes, hashes, side="right") - first
        # The indices first .. first + count of every 8-gram, in one array.
        indices = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        nearest = np.bincount(self.document[indices], np.repeat(weights, counts)).argmax()
        return self.documents[int(nearest)].name


def _batches(documents: Sequence[Document]) -> Iterator[slice]:
    """Splits a list of documents into batches of at least a million characters; only the last may have fewer.

    Yields each batch as a slice of the list.
    """
    start = size = 0
    for index, document in enumerate(documents):
        size += len(document.text)
        if size >= _BATCH_CHARACTERS or index == len(documents) - 1:
            yield slice(start, index + 1)
            start, size = index + 1, 0


def _is_in(hashes: NDArray[np.uint64], sorted_hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Returns a mask that is True for each of the `hashes` that also occurs in the sorted array `sorted_hashes`."""
    if not sorted_hashes.size:
        return np.zeros(hashes.shape, np.bool_)
    order = np.argsort(hashes)  # sorted look-ups use the processor's cache: ten times faster
    occurs = np.empty(hashes.shape, np.bool_)
    indices = np.searchsorted(sorted_hashes, hashes[order])
    occurs[order] = sorted_hashes[np.minimum(indices, sorted_hashes.size - 1)] == hashes[order]
    return occurs


def _compare(
    words: _Words,
    train: _Index,
    documents: Sequence[Document],
    n_exact: int,
    n_worst: int,
) -> NearDuplicates:
    hashes, starts = words.ngrams()
    in_train = _is_in(hashes, train.hashes)
    shared_hashes, shared_starts = hashes[in_train], starts[in_train]
    # An 8-gram that starts at t covers the words t .. t + 7: add 1 at t, subtract 1 at t + 8, and sum cumulatively.
    steps = np.zeros(len(words.hashes) + N_WORDS, np.int32)
    steps[shared_starts] += 1
    steps[shared_starts + N_WORDS] -= 1
    covered = np.cumsum(steps[: len(words.hashes)]) > 0  # (T,)
    repeated = {}
    for index, positions, key in words.short_documents():
        if key in train.short:
            covered[positions] = True
            repeated[index] = train.short[key]
    per_document = np.bincount(words.document, weights=covered, minlength=len(documents))  # (D,)
    shares = per_document / np.maximum(words.lengths, 1)
    worst = []
    for index in np.argsort(-shares, kind="stable")[:n_worst].tolist():
        if shares[index] > 0:
            nearest = repeated.get(index) or train.nearest(shared_hashes[words.document[shared_starts] == index])
            n_words = int(words.lengths[index])
            worst.append(DuplicateDocument(documents[index].name, float(shares[index]), n_words, nearest))
    return NearDuplicates(
        share=float(covered.mean()) if covered.size else 0.0,
        n_words=len(words.hashes),
        exact=n_exact,
        worst=tuple(worst),
    )
