"""The TokenStream class: documents and their boundaries."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from lmzoo import EOT, TokenStream
from lmzoo.errors import TokenIdError
from lmzoo.system import growing


def test_documents_end_with_eot() -> None:
    stream = TokenStream.from_documents([[5, 6], [], [7]])
    assert stream.ids.tolist() == [5, 6, EOT, EOT, 7, EOT]
    assert stream.starts.tolist() == [0, 3, 4]
    assert stream.ends.tolist() == [3, 4, 6]
    assert [document.tolist() for document in stream.documents()] == [[5, 6, 0], [0], [7, 0]]
    assert stream.previous_ids().tolist() == [0, 5, 6, 0, 0, 7]


def test_the_last_document_may_lack_its_eot() -> None:
    stream = TokenStream(np.array([5, EOT, 6, 7]))
    assert stream.n_documents == 2
    assert [document.tolist() for document in stream.documents()] == [[5, 0], [6, 7]]


def test_many_documents_need_no_memory_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 100_000
    ids = np.tile(np.array([5, EOT], np.int32), n)
    expected = TokenStream(ids)
    monkeypatch.setattr(growing, "MEMORY_BYTES", 4000)
    monkeypatch.setattr("lmzoo.mapped._BLOCK", 1000)
    tracemalloc.start()
    try:
        stream = TokenStream(ids)
        n_read = sum(document.size for document in stream.documents())
        assert tracemalloc.get_traced_memory()[1] < n
    finally:
        tracemalloc.stop()
    assert n_read == 2 * n
    assert np.array_equal(stream.starts, expected.starts)
    assert np.array_equal(stream.ends, expected.ends)


def test_empty() -> None:
    stream = TokenStream(np.empty(0, np.int32))
    assert (len(stream), stream.n_documents, list(stream.documents())) == (0, 0, [])
    assert stream.previous_ids().size == 0
    assert TokenStream(np.array([])).ids.dtype == np.int32


def test_a_stream_cannot_be_changed() -> None:
    ids = np.array([1, 2, EOT], np.int32)
    with pytest.raises(ValueError, match="read-only"):
        TokenStream(ids).ids[0] = 9
    ids[0] = 9  # the caller's own array stays writeable


@pytest.mark.parametrize("bad", [np.array([0.5]), np.array([[1]]), np.array([2**40])])
def test_wrong_ids_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(TokenIdError):
        TokenStream(bad)


def test_masks_select_positions() -> None:
    stream = TokenStream(np.array([5, EOT, 6, 7]))
    assert stream.mask(None).tolist() == [True] * 4
    assert stream.mask(np.array([1, 3])).tolist() == [False, True, False, True]


def test_eot_inside_a_document_is_refused() -> None:
    with pytest.raises(TokenIdError, match="end-of-text"):
        TokenStream.from_documents([[1, EOT, 2]])
