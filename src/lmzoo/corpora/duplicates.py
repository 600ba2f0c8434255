"""How much of valid and test a model has already read in train.

The measure is that of the decontamination of GPT-3 (Brown et al. 2020, appendix C) with n = 8: a word counts if it lies
in a run of eight words, case and punctuation aside, that also occurs in train. In a script without spaces a "word" is a
run of letters, so that only longer repetitions are seen.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from lmzoo.corpora.corpus import Corpus, Document
from lmzoo.system.progress import OnProgress, Progress

N_WORDS: Final = 8
"""Length of the runs that are looked for."""
_WORD = re.compile(r"\w+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no factor is lost; 2^64 divided by the golden ratio


@dataclass(frozen=True)
class DuplicateDocument:
    """A document of valid or test that repeats train."""

    name: str
    share: float
    """Share of its words that lie in a run of 8 words that also occurs in train, 0 to 1."""
    n_words: int
    nearest: str
    """The document of train that it shares the most runs with."""


@dataclass(frozen=True)
class NearDuplicates:
    """What a split of a corpus shares with train."""

    share: float
    """Share of its words that lie in a run of 8 words that also occurs in train, 0 to 1."""
    n_words: int
    exact: int
    """How many of its documents are, to the letter, also documents of train."""
    worst: tuple[DuplicateDocument, ...]
    """The documents with the highest shares, at most as many as were asked for."""


def near_duplicates(
    corpus: Corpus, *, n_worst: int = 10, on_progress: OnProgress | None = None
) -> dict[str, NearDuplicates]:
    """What "valid" and "test" share with train; 100 MB take about 10 s and 1 GB of memory.

    Runs are compared by 64-bit hashes: the odds of one false match in 100 MB are about one in a million.
    """
    word_ids: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    splits = {}
    for done, (name, documents) in enumerate(corpus.splits.items(), start=1):
        splits[name] = _Words.of(documents, word_ids)
        if on_progress:
            on_progress(Progress(done, len(corpus.splits), "splits"))
    # A random number a word: sums of multiples of small consecutive ids would collide. Fixed, so that results repeat.
    codes = np.random.default_rng(0).integers(2**64, size=max(1, len(word_ids)), dtype=np.uint64)
    train = _Index.of(splits.pop("train"), codes, corpus.train)
    texts_of_train = {document.text for document in corpus.train}
    return {
        name: _compare(words, codes, train, corpus.splits[name], texts_of_train, n_worst)
        for name, words in splits.items()
    }


@dataclass(frozen=True, eq=False)
class _Words:
    """The words of D documents, one after the other."""

    ids: NDArray[np.int32]  # (T,)
    document: NDArray[np.int32]  # (T,) which document each word is in
    lengths: NDArray[np.int64]  # (D,) in words

    @classmethod
    def of(cls, documents: Sequence[Document], word_ids: Mapping[str, int]) -> _Words:
        ids = [_word_ids(document.text, word_ids) for document in documents]
        lengths = np.array([len(one) for one in ids], np.int64)
        return cls(np.concatenate(ids), np.repeat(np.arange(len(ids), dtype=np.int32), lengths), lengths)

    def runs(self, codes: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """Hashes (R,) of all runs of words inside documents, and where they begin (R,)."""
        n = len(self.ids) - N_WORDS + 1
        if n <= 0:
            return np.empty(0, np.uint64), np.empty(0, np.intp)
        word_codes = codes[self.ids]  # (T,)
        hashes = np.zeros(n, np.uint64)
        for offset in range(N_WORDS):  # Horner's rule modulo 2^64, at all positions at once
            hashes *= _MULTIPLIER
            hashes += word_codes[offset : offset + n]
        begins = np.flatnonzero(self.document[:n] == self.document[N_WORDS - 1 :])
        return hashes[begins], begins


def _word_ids(text: str, word_ids: Mapping[str, int]) -> NDArray[np.int32]:
    words = cast(list[str], _WORD.findall(text.lower()))
    return np.fromiter(map(word_ids.__getitem__, words), np.int32, len(words))


@dataclass(frozen=True, eq=False)
class _Index:
    """The runs of train in the order of their hashes."""

    hashes: NDArray[np.uint64]  # (R,) sorted
    document: NDArray[np.int32]  # (R,) where each one is
    names: list[str]

    @classmethod
    def of(cls, words: _Words, codes: NDArray[np.uint64], documents: Sequence[Document]) -> _Index:
        hashes, begins = words.runs(codes)
        order = np.argsort(hashes)
        return cls(hashes[order], words.document[begins[order]], [document.name for document in documents])

    def contains(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(R,) whether each run occurs in train."""
        if not self.hashes.size:
            return np.zeros(hashes.shape, np.bool_)
        order = np.argsort(hashes)  # looked up in order, neighbours share the processor's cache: ten times faster
        found = np.empty(hashes.shape, np.bool_)
        places = np.searchsorted(self.hashes, hashes[order])
        found[order] = self.hashes[np.minimum(places, self.hashes.size - 1)] == hashes[order]
        return found

    def nearest(self, hashes: NDArray[np.uint64]) -> str:
        """The document of train that most of these runs, which all occur there, are in."""
        first = np.searchsorted(self.hashes, hashes, side="left")
        counts = np.searchsorted(self.hashes, hashes, side="right") - first
        # The places first .. first + count of every run, all in one array.
        places = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return self.names[np.bincount(self.document[places]).argmax()]


def _compare(
    words: _Words,
    codes: NDArray[np.uint64],
    train: _Index,
    documents: Sequence[Document],
    texts_of_train: set[str],
    n_worst: int,
) -> NearDuplicates:
    hashes, begins = words.runs(codes)
    in_train = train.contains(hashes)
    shared_hashes, shared_begins = hashes[in_train], begins[in_train]
    # A run that begins at t covers the words t .. t + 7: +1 there, -1 behind it, and sum up.
    steps = np.zeros(len(words.ids) + N_WORDS, np.int32)
    steps[shared_begins] += 1
    steps[shared_begins + N_WORDS] -= 1
    covered = np.cumsum(steps[: len(words.ids)]) > 0  # (T,)
    per_document = np.bincount(words.document, weights=covered, minlength=len(documents))  # (D,)
    shares = per_document / np.maximum(words.lengths, 1)
    worst = []
    for at in np.argsort(-shares, kind="stable")[:n_worst].tolist():
        if shares[at] > 0:
            nearest = train.nearest(shared_hashes[words.document[shared_begins] == at])
            worst.append(DuplicateDocument(documents[at].name, float(shares[at]), int(words.lengths[at]), nearest))
    return NearDuplicates(
        share=float(covered.mean()) if covered.size else 0.0,
        n_words=len(words.ids),
        exact=sum(document.text in texts_of_train for document in documents),
        worst=tuple(worst),
    )
