"""The nested shares of a training text that learning curves are computed on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lmzoo.corpora import Corpus, Document, stored
from lmzoo.errors import CorpusError, UsageError
from lmzoo.experiments.curves import nested_shares


def a_corpus(sizes: list[int]) -> Corpus:
    train = [Document(str(number), "x" * size) for number, size in enumerate(sizes)]
    return Corpus("c", "", "", "", "a rule", train, train[:1], train[:1])


def test_shares_are_nested_and_near_their_size() -> None:
    corpus = a_corpus(np.random.default_rng(0).integers(500, 1500, 300).tolist())
    shares = nested_shares(corpus, 64, seed=3)
    assert list(shares) == [1 / n_parts for n_parts in (1, 2, 4, 8, 16, 32, 64)]
    assert shares[1] is corpus
    total = sum(document.n_bytes for document in corpus.train)
    for share, part in shares.items():
        n_parts = round(1 / share)
        size = sum(document.n_bytes for document in part.train)
        assert abs(size - total / n_parts) <= 750, "to the nearest document"
        places = [corpus.train.index(document) for document in part.train]
        assert places == sorted(places), "documents stand in their order"
        if share < 1:
            assert set(places) < {corpus.train.index(document) for document in shares[2 * share].train}
            assert f"1/{n_parts}: {len(places)} documents, sampled with seed 3" in part.protocol
        assert (part.valid, part.test) == (corpus.valid, corpus.test)
    assert [part.train for part in nested_shares(corpus, 64, seed=4).values()] != [
        part.train for part in shares.values()
    ]
    with pytest.raises(UsageError, match=r"shares must be a power of two of at least 2.* got 10"):
        nested_shares(corpus, 10)


def test_shares_end_with_one_document() -> None:
    assert [len(part.train) for part in nested_shares(a_corpus([10] * 5), 64).values()] in ([5, 2, 1], [5, 3, 1])
    with pytest.raises(CorpusError, match="one document"):
        nested_shares(a_corpus([10]), 64)
    with pytest.raises(UsageError, match=r"shares must be a power of two of at least 2.* got 1"):
        nested_shares(a_corpus([10] * 5), 1)


def test_shares_of_a_text_in_a_temporary_file_stay_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = a_corpus(np.random.default_rng(1).integers(500, 1500, 40).tolist())
    monkeypatch.setattr(stored, "MEMORY_CHARACTERS", 1000)
    long = replace(corpus, train=stored.stored(corpus.train))
    expected, found = nested_shares(corpus, 8), nested_shares(long, 8)
    assert list(found) == list(expected)
    for share, part in found.items():
        assert isinstance(part.train, stored.StoredDocuments)
        assert list(part.train) == expected[share].train
