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
from functools import cached_property
from typing import Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from lmzoo.corpora.corpus import Corpus, Document
from lmzoo.corpora.stored import count_characters
from lmzoo.mapped import drop_read_only_pages
from lmzoo.system.growing import GrowingArray, concatenated
from lmzoo.system.progress import OnProgress, progress_counter
from lmzoo.tokenizers.segments import parts
from lmzoo.tokenizers.words import LEXICAL

N_WORDS: Final = 8
"""Length of the n-grams of words that are compared."""
_BATCH_CHARACTERS = 1 << 20
_PART_WORDS = 1 << 18
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
    the `n_worst` documents that overlap most with the training set. 8-grams and whole texts are compared by 64-bit
    hashes: the probability of any false match in 100 MB is about one in a million. All splits are read in batches. The
    memory holds 8 bytes for each 8-gram of the two splits, and 12 bytes for each of their 8-grams in the training set;
    the words of the two splits are kept in a temporary file if there are many.
    """
    total = sum(map(count_characters, corpus.splits.values()))
    hasher = _WordHasher(progress_counter(on_progress, total, "characters", "searching for near-duplicates"))
    held_out = {name: _Words.of(corpus.splits[name], hasher) for name in ("valid", "test")}
    train = _Index.of(corpus.train, hasher, list(held_out.values()))
    return {name: _compare(words, train, corpus.splits[name], n_worst) for name, words in held_out.items()}


def _hash(document: Document) -> int:
    """Returns a 64-bit hash of the text of a document."""
    return int.from_bytes(hashlib.sha256(document.text.encode()).digest()[:8], "little")


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
        ids_of_parts: list[NDArray[np.int32]] = []
        for part, _ in parts(text, _BATCH_CHARACTERS):
            words = cast(list[str], LEXICAL.findall(part.lower()))
            ids_of_parts.append(np.fromiter(map(self._ids.__getitem__, words), np.int32, len(words)))
            self._on_read(len(part))
        n_missing = len(self._ids) - self._hashes.size
        if n_missing > 0:
            n_new = max(n_missing, self._hashes.size)
            self._hashes = np.append(self._hashes, self._rng.integers(2**64, size=n_new, dtype=np.uint64))
        return self._hashes[np.concatenate(ids_of_parts)]


@dataclass(frozen=True, eq=False)
class _Words:
    """The words of D documents as 64-bit hashes, with all documents concatenated into one sequence of T words."""

    hashes: NDArray[np.uint64]  # (T,)
    lengths: NDArray[np.int64]  # (D,) in words
    texts: NDArray[np.uint64]  # (D,) hash of the whole text of each document

    @classmethod
    def of(cls, documents: Sequence[Document], hasher: _WordHasher) -> _Words:
        hashes, lengths, texts = GrowingArray(np.uint64), GrowingArray(np.int64), GrowingArray(np.uint64)
        for document in documents:
            of_document = hasher.hashes(document.text)
            hashes.extend(of_document)
            lengths.extend([len(of_document)])
            texts.extend([_hash(document)])
        return cls(hashes.finish(), lengths.finish(), texts.finish())

    @cached_property
    def document(self) -> NDArray[np.int32]:
        """The index (T,) of the document of each word."""
        return np.repeat(np.arange(len(self.lengths), dtype=np.int32), self.lengths)

    def parts(self) -> Iterator[tuple[int, _Words]]:
        """Yields consecutive parts of whole documents, each with the index of its first document.

        A part has at most 262,144 words, or one document.
        """
        ends = np.cumsum(self.lengths)
        first = 0
        while first < len(ends):
            start = int(ends[first] - self.lengths[first])
            last = max(first + 1, int(np.searchsorted(ends, start + _PART_WORDS, side="right")))
            here = slice(first, last)
            yield first, _Words(self.hashes[start : ends[last - 1]], self.lengths[here], self.texts[here])
            drop_read_only_pages(self.hashes)
            first = last

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

    def short_documents(self) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """Finds the documents of 1 to 7 words, which are too short to contain an 8-gram.

        Returns two arrays for S documents: the 64-bit hashes (S,) of their sequences of words, and their indices (S,).
        """
        indices = np.flatnonzero((self.lengths > 0) & (self.lengths < N_WORDS))
        lengths = self.lengths[indices]
        starts = np.cumsum(self.lengths)[indices] - lengths
        hashes = np.zeros(indices.size, np.uint64)
        for offset in range(N_WORDS - 1):
            has_word = lengths > offset
            hashes[has_word] = hashes[has_word] * _MULTIPLIER + self.hashes[starts[has_word] + offset]
        return hashes, indices


@dataclass(frozen=True, eq=False)
class _Index:
    """The parts of the training set that also occur in the validation or test set.

    These are 8-grams (sequences of 8 words), sorted by their hashes, whole documents of 1 to 7 words, and whole texts.
    """

    hashes: NDArray[np.uint64]  # (R,) sorted
    document: NDArray[np.int32]  # (R,) index of the document of each 8-gram
    documents: Sequence[Document]
    """The documents of the training set."""
    short: NDArray[np.uint64]
    """Hashes (S,) of the documents of 1 to 7 words of the other splits, sorted."""
    last_short: NDArray[np.int64]
    """(S,) index of the last training document with the same words as each of them; -1 if there is none."""
    texts: NDArray[np.uint64]
    """Hashes (N,) of the texts of the training set that are also texts of the other splits, sorted."""

    @classmethod
    def of(cls, documents: Sequence[Document], hasher: _WordHasher, held_out: Sequence[_Words]) -> _Index:
        """Finds the 8-grams, short documents and texts of the training set that also occur in the other splits.

        - `documents`: the documents of the training set.
        - `hasher`: assigns a hash to each word.
        - `held_out`: the words of the validation set and of the test set.
        """

        def parts() -> Iterator[_Words]:
            return (part for words in held_out for _, part in words.parts())

        wanted = np.sort(concatenated((part.ngrams()[0] for part in parts()), np.uint64))
        short = np.unique(np.concatenate([part.short_documents()[0] for part in parts()]))
        last_short = np.full(short.size, -1)
        texts = np.unique(np.concatenate([words.texts for words in held_out]))
        is_in_train = np.zeros(texts.size, bool)
        kept_hashes, kept_documents = [np.empty(0, np.uint64)], [np.empty(0, np.int32)]
        for batch in _batches(documents):
            words = _Words.of(documents[batch], hasher)
            hashes, starts = words.ngrams()
            is_wanted = _look_up(hashes, wanted) >= 0
            kept_hashes.append(hashes[is_wanted])
            kept_documents.append(words.document[starts[is_wanted]] + np.int32(batch.start))
            hashes, indices = words.short_documents()
            positions = _look_up(hashes, short)
            np.maximum.at(last_short, positions[positions >= 0], batch.start + indices[positions >= 0])
            positions = _look_up(words.texts, texts)
            is_in_train[positions[positions >= 0]] = True
        hashes = np.concatenate(kept_hashes)
        order = np.argsort(hashes)
        documents_of_hashes = np.concatenate(kept_documents)[order]
        return cls(hashes[order], documents_of_hashes, documents, short, last_short, texts[is_in_train])

    def nearest(self, hashes: NDArray[np.uint64]) -> int:
        """Returns the index of the training document that shares the most 8-grams with another document.

        `hashes` (R,) are the hashes of the R 8-grams of the other document that also occur in the training set.
        """
        # Each different 8-gram is looked up once: R occurrences times their occurrences in training could be very many.
        hashes, weights = np.unique(hashes, return_counts=True)
        first = np.searchsorted(self.hashes, hashes, side="left")
        counts = np.searchsorted(self.hashes, hashes, side="right") - first
        # The indices first .. first + count of every 8-gram, in one array.
        indices = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        documents, which = np.unique(self.document[indices], return_inverse=True)
        return int(documents[np.bincount(which, np.repeat(weights, counts)).argmax()])


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


def _look_up(hashes: NDArray[np.uint64], sorted_hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Returns the index of each of the `hashes` in the array `sorted_hashes`, the first one; -1 if it is not there."""
    positions = np.full(hashes.shape, -1)
    if sorted_hashes.size:
        order = np.argsort(hashes)  # sorted look-ups use the processor's cache: ten times faster
        indices = np.minimum(np.searchsorted(sorted_hashes, hashes[order]), sorted_hashes.size - 1)
        positions[order] = np.where(sorted_hashes[indices] == hashes[order], indices, -1)
    return positions


class _Repeating(NamedTuple):
    """A document of the validation or test set that shares text with the training set."""

    share: float
    """The share of the words of the document that lie in repeated text."""
    document: int
    """Index of the document in the validation or test set."""
    n_words: int
    ngrams: NDArray[np.uint64]
    """Hashes of the 8-grams of the document that the training set has, too."""
    repeated: int
    """If the document has at most 7 words: index of the last training document with the same words, or -1 if there is
    none. -1 for longer documents."""


def _compare(words: _Words, train: _Index, documents: Sequence[Document], n_worst: int) -> NearDuplicates:
    n_exact = n_covered = 0
    worst: list[_Repeating] = []
    for first, part in words.parts():
        hashes, starts = part.ngrams()
        in_train = _look_up(hashes, train.hashes) >= 0
        hashes, starts = hashes[in_train], starts[in_train]
        # An 8-gram that starts at t covers the words t .. t + 7: add 1 at t, subtract 1 at t + 8, and sum cumulatively.
        steps = np.zeros(len(part.hashes) + N_WORDS, np.int32)
        steps[starts] += 1
        steps[starts + N_WORDS] -= 1
        covered = np.cumsum(steps[: len(part.hashes)]) > 0
        per_document = np.bincount(part.document, weights=covered, minlength=len(part.lengths))
        short_hashes, short = part.short_documents()
        repeated = np.full(len(part.lengths), -1)
        repeated[short] = train.last_short[_look_up(short_hashes, train.short)]
        per_document[repeated >= 0] = part.lengths[repeated >= 0]
        shares = per_document / np.maximum(part.lengths, 1)
        for index in np.argsort(-shares, kind="stable")[:n_worst].tolist():
            if shares[index] > 0:
                shared = hashes[part.document[starts] == index]
                worst.append(
                    _Repeating(
                        float(shares[index]), first + index, int(part.lengths[index]), shared, int(repeated[index])
                    )
                )
        worst = sorted(worst, key=lambda one: -one.share)[:n_worst]
        n_covered += int(per_document.sum())
        n_exact += int((_look_up(part.texts, train.texts) >= 0).sum())
    return NearDuplicates(
        share=n_covered / len(words.hashes) if len(words.hashes) else 0.0,
        n_words=len(words.hashes),
        exact=n_exact,
        worst=tuple(
            DuplicateDocument(
                documents[one.document].name,
                one.share,
                one.n_words,
                train.documents[train.nearest(one.ngrams) if one.repeated < 0 else one.repeated].name,
            )
            for one in worst
        ),
    )
