"""Tokens of texts are aligned with their words."""

from __future__ import annotations

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import models

from lmzoo import EOT, train_tokenizer
from lmzoo.tokenizers import adopt_tokenizer
from lmzoo.tokenizers.alignment import Aligner
from lmzoo.tokenizers.words import SEPARATORS, split_words

TRAINING = ["the cat sat on the mat.\nthe cat, the hat", "a cat and a hat: été", "low lower lowest newer newest"] * 3
ALIGNERS = {
    spec: Aligner(train_tokenizer(spec, TRAINING))
    for spec in ("char", "byte", "bpe:257", "bpe:280", "word:1", "word-space:1")
}
any_text = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(SEPARATORS + "\xa0été日"))
any_texts = st.lists(any_text, max_size=4)


@pytest.mark.parametrize("spec", ALIGNERS)
@given(texts=any_texts)
@example(texts=["", " \n", "the été 日本 😀\r\n\t low\0er ", "cat"])
def test_positions_are_those_of_the_pieces(spec: str, texts: list[str]) -> None:
    aligned = ALIGNERS[spec].align(texts)
    expected, offset = [], 0
    for text in texts:
        pieces = ALIGNERS[spec].tokenizer.pieces(text)
        expected += [(piece.token_id, offset + piece.start, offset + piece.end) for piece in pieces]
        offset += len(text)
        expected.append((EOT, offset, offset))
    found = zip(aligned.stream.ids.tolist(), aligned.starts.tolist(), aligned.ends.tolist(), strict=True)
    assert list(found) == expected
    assert aligned.text_starts.tolist() == [len("".join(texts[:k])) for k in range(len(texts) + 1)]


@pytest.mark.parametrize("spec", ALIGNERS)
@given(texts=any_texts)
@example(texts=["the cat,\n\n  saw\tlowest. ", "hat", " ", "low"])
def test_words_are_those_of_the_one_definition_and_have_their_tokens(spec: str, texts: list[str]) -> None:
    aligned = ALIGNERS[spec].align(texts)
    assert aligned.words == [word for text in texts for word in split_words(text)]
    assert aligned.text_of_word.tolist() == [k for k, text in enumerate(texts) for _ in split_words(text)]
    segment = aligned.segment_of_token
    assert (np.diff(segment) >= 0).all()
    assert segment[aligned.stream.ids == EOT].tolist() == aligned.end_segments.tolist()
    if spec == "word:1":  # which drops all white space, and knows NUL as punctuation
        return
    assert aligned.has_own_tokens.all()
    for word, start, end in zip(
        aligned.segment_of_word.tolist(), aligned.word_starts.tolist(), aligned.word_ends.tolist(), strict=True
    ):
        tokens = np.flatnonzero(segment == word)
        covered = {place for token in tokens for place in range(aligned.starts[token], aligned.ends[token])}
        assert set(range(start, end)) <= covered
        assert not "".join(texts)[min(covered) : start].strip(SEPARATORS), (
            "only white space before a word belongs to it"
        )
        assert max(covered) < end or spec.startswith("bpe")


def test_white_space_belongs_to_the_word_after_it_in_the_same_text() -> None:
    aligned = ALIGNERS["byte"].align(["\ta  b\n", "c"])
    assert aligned.segment_of_token.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 4], "2 and 4 are the ends of the texts"
    assert aligned.end_segments.tolist() == [2, 4]
    assert aligned.segment_of_word.tolist() == [0, 1, 3]


def test_tokens_that_end_words() -> None:
    aligner = ALIGNERS["bpe:280"]
    ending = {aligner.tokenizer.token_text(token_id) for token_id in np.flatnonzero(aligner.ends_word).tolist()}
    assert {" ", "\n", "\t", "\r", "\0", " the", "<|end of text|>"} <= ending
    assert not {"the", "\x0b", "."} & ending
    assert ALIGNERS["char"].begins_with_separator.sum() == 5 + 2, "the bytes, and the characters space and line feed"


def test_words_that_share_a_token_have_no_tokens_of_their_own() -> None:
    entries = ["<|endoftext|>", *tokenizers.pre_tokenizers.ByteLevel.alphabet(), "aĠ", "aĠb"]
    backend = tokenizers.Tokenizer(
        models.BPE({entry: index for index, entry in enumerate(entries)}, [("a", "Ġ"), ("aĠ", "b")])
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    aligner = Aligner(adopt_tokenizer(backend.to_str(), eot_id=0, vocab_size=len(entries)))
    aligned = aligner.align(["x", "c a b d a c"])
    ids = aligned.stream.ids
    assert [aligner.tokenizer.token_text(token_id) for token_id in ids.tolist() if token_id != EOT] == [
        "x", "c", " ", "a b", " ", "d", " ", "a ", "c"
    ]  # fmt: skip
    assert aligned.segment_of_token.tolist() == [0, 1, 2, 3, 3, 5, 5, 6, 6, 7, 8]
    assert aligned.has_own_tokens.tolist() == [True, True, True, False, False, True, True, True, True]
    assert aligner.ends_with_separator[ids].tolist() == [
        False, False, False, True, False, True, False, True, True, False, False
    ]  # fmt: skip
