"""The code words of tokens, and the states of models that predict bits."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmzoo.models.bitwise.code import is_inner, leaf_of, n_bits
from lmzoo.models.context_tree_weighting import context_tree_weighting
from lmzoo.stream import EOT, TokenStream
from lmzoo.testing import toy_data
from lmzoo.tokenizers import train_tokenizer


def code_word(token_id: int, vocab_size: int) -> str:
    return f"{leaf_of(token_id, vocab_size):b}"[1:]


def test_code_words_by_hand() -> None:
    """With 6 tokens, 4 <= 6 < 8, the first 8 - 6 = 2 have code words of 2 bits. The others are 2 + 2, .. 5 + 2."""
    words = [code_word(token_id, 6) for token_id in range(6)]
    assert words == ["111", "00", "01", "100", "101", "110"]


def test_code_words_of_bytes_are_their_bits() -> None:
    tokenizer = train_tokenizer("byte", [])
    ids = tokenizer.encode("aZ ü\n")
    words = [code_word(token_id, tokenizer.vocab_size) for token_id in ids.tolist()]
    assert words == [f"{byte:08b}" for byte in "aZ ü\n".encode()]
    assert [code_word(token_id, 257) for token_id in (256, EOT)] == ["111111110", "111111111"]


@given(st.integers(2, 600) | st.integers(2, 70_000))
def test_code_words_are_leaves_of_a_full_tree(vocab_size: int) -> None:
    ids = np.arange(vocab_size) if vocab_size < 600 else np.array([0, 1, 2, vocab_size // 3, vocab_size - 1])
    leaves = [leaf_of(token_id, vocab_size) for token_id in ids.tolist()]
    assert not any(is_inner(leaf, vocab_size) for leaf in leaves)
    for leaf in leaves:
        assert all(is_inner(leaf >> shift, vocab_size) for shift in range(1, n_bits(leaf) + 1))
        assert 2 ** n_bits(leaf) <= 2 * vocab_size
    if vocab_size < 600:
        assert len(set(leaves)) == vocab_size
        assert sum(2.0 ** -n_bits(leaf) for leaf in leaves) == 1


def test_a_state_whose_reader_went_on_reads_its_document_again() -> None:
    """Several threads may continue one state: only one of them gets the reader."""
    model = context_tree_weighting(12, depth=2).fit(toy_data(12))
    state = model.state_after(np.array([3, 4, 5], np.int32))
    expected = [model.next_log_probs(model.advance(state, token_id)) for token_id in range(8)]
    results: list[np.ndarray | None] = [None] * 8

    def work(token_id: int) -> None:
        for _ in range(20):
            results[token_id] = model.next_log_probs(model.advance(state, token_id))

    threads = [threading.Thread(target=work, args=(token_id,)) for token_id in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(results, expected)


def test_only_adaptive_models_learn_from_documents() -> None:
    data = toy_data(12)
    static, adaptive = (context_tree_weighting(12, depth=2, adaptive=flag).fit(data) for flag in (False, True))
    assert (static.adapts_on_test, adaptive.adapts_on_test) == (False, True)
    text = TokenStream(np.tile(np.array([9, 1, 9], np.int32), 30))
    assert adaptive.log_probs(text)[45:].mean() > static.log_probs(text)[45:].mean() + 1
    context = [3, 4]
    once, twice = (static.predict_distribution([*[9, 1, 9] * n, *context]).log_probs for n in (1, 9))
    assert static.predict_distribution(context).log_probs == pytest.approx(once)
    np.testing.assert_array_equal(once, twice)
