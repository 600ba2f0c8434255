"""Counting n-grams: the trie, and fits on disk."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.errors import ConfigurationError, LmzooError
from lmzoo.models.ngram import ngram
from lmzoo.models.ngram.counting import sorting
from lmzoo.models.ngram.counting.sorting import count_ngrams
from lmzoo.models.ngram.counting.workspace import parse_bytes
from lmzoo.models.ngram.reference import count_ngrams as reference_counts
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.progress import Progress
from lmzoo.testing import toy_data

Ngram = tuple[int, ...]

streams = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(lambda ids: TokenStream(np.array(ids, np.int32)))


@given(stream=streams, order=st.integers(1, 6))
@settings(max_examples=60)
def test_the_trie_holds_every_ngram_once_in_order(stream: TokenStream, order: int) -> None:
    counted = count_ngrams(stream, 5, order)
    trie = counted.trie
    grams: list[Ngram] = [()]
    for context in range(trie.n_contexts):
        family = trie.children(context)
        assert family.start == len(grams)
        grams += [(*grams[context], int(token)) for token in trie.tokens[family]]
    assert len(grams) == trie.tokens.size
    for k in range(1, order + 1):
        level = trie.level(k)
        of_level = grams[level]
        expected = reference_counts([document.tolist() for document in stream.documents()], k, EOT)
        assert of_level == (sorted(expected) if k > 1 else [(token,) for token in range(5)])
        assert counted.counts[level].tolist() == [expected[gram] for gram in of_level]
    assert [grams[suffix] for suffix in trie.suffixes] == [gram[1:] for gram in grams]


@pytest.mark.parametrize("smoothing", ["kneser-ney", "stupid-backoff"])
def test_a_fit_on_disk_equals_one_in_memory(smoothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "_BUCKET", 100)
    data = toy_data(40, n_documents=200)
    in_memory, on_disk = (ngram(40, smoothing=smoothing, memory=memory).fit(data) for memory in ("1G", "1K"))
    for name, array in in_memory.arrays().items():
        np.testing.assert_array_equal(on_disk.arrays()[name], array, err_msg=name)


@pytest.mark.parametrize("memory", ["1G", "1K"])
def test_progress_moves_within_the_steps_of_a_fit(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "_BUCKET", 10)
    seen: list[Progress] = []
    ngram(40, order=3, memory=memory).fit(toy_data(40, n_documents=200), on_progress=seen.append)
    done = [progress.done for progress in seen]
    assert done == sorted(done)
    assert {progress.total for progress in seen} == {done[-1]}
    assert len({progress.done for progress in seen if progress.message == "sorting n-grams"}) > 20
    assert len({progress.done for progress in seen if progress.message == "building the trie"}) > 20


def test_a_full_disk_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(LmzooError, match=r"No space left on device.*TMPDIR"):
        ngram(12, memory="1K").fit(toy_data(12))


def test_sizes_of_memory() -> None:
    sizes = {"500M": 500 * 2**20, "1.5GB": 3 * 2**29, "2 KiB": 2048, "123B": 123, "2000000000": 2_000_000_000}
    assert {size: parse_bytes(size) for size in sizes} == sizes
    for wrong in ("", "-1G", "much", "1X", "500", "0", "  7 "):
        with pytest.raises(ConfigurationError, match=f"such as 500M or 2G; got '{wrong.strip()}'$"):
            parse_bytes(wrong)
