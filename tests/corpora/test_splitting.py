"""The rules that cut texts into documents and documents into splits, for any input."""

from __future__ import annotations

import codecs
import io

from corpora_on_disk import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.corpora import (
    Corpus,
    Document,
)
from lmzoo.corpora.splitting import every_tenth, in_order, passages
from lmzoo.corpora.text_files import blocks_of


@settings(max_examples=40)
@given(st.text(max_size=800) | st.lists(st.sampled_from(["word ", "\n", "\n\n", "日本"]), max_size=600).map("".join))
def test_passages_lose_nothing(text: str) -> None:
    pieces = [document.text for document in passages("t", text)]
    assert "".join(pieces) == text
    assert all(pieces)
    if len(text) >= 400:
        assert len(pieces) >= 2
        least = max(100, len(text) // 20)
        assert max(map(len, pieces)) <= 2 * least + least // 2 + 2


def test_passages_prefer_blank_lines_to_lines_to_spaces() -> None:
    # At least 100 characters, then the best mark within the next 100.
    text = "a" * 120 + " " + "b" * 20 + "\n" + "c" * 20 + "\n\n" + "d" * 400
    first, second, *_ = [document.text for document in passages("t", text)]
    assert first == text[:164]
    assert second == "d" * 200  # no mark at all: cut where the passage is twice as long as it should be


@settings(max_examples=40)
@given(st.integers(min_value=0, max_value=200))
def test_split_rules_use_every_document_once(n: int) -> None:
    documents = [Document(str(number), "x") for number in range(n)]
    for rule in (every_tenth, in_order):
        splits = rule(documents)
        assert sorted(int(document.name) for split in splits for document in split) == list(range(n))
        if n >= 3:
            assert all(splits)
        if n >= 10:
            assert len(splits.train) >= 0.7 * n


@settings(max_examples=40)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_decoding_gives_back_what_was_encoded(text: str) -> None:
    expected = text.removeprefix("\ufeff").replace("\r\n", "\n")
    for data in (text.encode(), codecs.BOM_UTF8 + expected.encode()):
        assert "".join(blocks_of(io.BytesIO(data), "a")) == expected


def test_fingerprint_tells_names_texts_and_splits_apart() -> None:
    corpora = [
        toy(["ab"], ["c"], ["d"]),
        toy(["a", "b"], ["c"], ["d"]),
        toy(["a"], ["bc"], ["d"]),
        Corpus(
            "toy", "", "", "", "", [Document("train", " 0ab")], [Document("valid 0", "c")], [Document("test 0", "d")]
        ),
    ]
    assert len({corpus.fingerprint for corpus in corpora}) == len(corpora)
