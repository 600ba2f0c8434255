"""Long texts: encoding in segments gives the same ids, and the work of training and encoding grows linearly."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmzoo import Tokenizer, train_tokenizer
from lmzoo.tokenizers import segments, tokenizer, training
from lmzoo.tokenizers.segments import SegmentEncoder, parts

TRAINING = ["the cat sat on the mat.\nthe cat, the hat", "l'été  était\tlà", "don't  stop\n\n\n  now 12 34"] * 3
SPECS = ["char", "byte", "bpe:280", "bpe:300", "word:1", "word-space:1"]
TRAINED = {spec: train_tokenizer(spec, TRAINING) for spec in SPECS}
# White space of several definitions, and characters that tokenizers treat in a special way beside white space.
hostile_text = st.text(
    st.sampled_from(" \n\t\r\v\f\x00\x1c\x85\xa0\u1680\u180e\u2028\u200b\u3000\ufeffa'sé\u03011.²_中😀")
)


def ids_of_the_library(trained: Tokenizer, text: str) -> list[int]:
    return trained._backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("spec", SPECS)
@given(text=hostile_text)
@example(text="a\t  b \u00a0 c\x1c d\r\n\ne")
@example(text="  \n \n")
def test_segments_give_the_ids_of_the_whole_text(spec: str, text: str) -> None:
    assert TRAINED[spec].encode(text).tolist() == ids_of_the_library(TRAINED[spec], text)


@pytest.mark.parametrize("spec", SPECS)
def test_parts_and_forgotten_segments_change_nothing(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "the cat  sat\n\non a\t mat, it's the 12 été " * 20
    expected = ids_of_the_library(TRAINED[spec], text)
    monkeypatch.setattr(tokenizer, "_BATCH_CHARACTERS", 7)
    monkeypatch.setattr(segments, "_MEMORY_CHARACTERS", 20)
    encoded = TRAINED[spec].encode_batch(["", text, "the", text])
    assert [ids.tolist() for ids in encoded[1::2]] == [expected, expected]
    assert encoded[0].size == 0
    assert len(list(TRAINED[spec].encode_parts([text]))) > 50


@given(text=hostile_text, n_characters=st.integers(1, 20))
def test_parts_join_to_the_text(text: str, n_characters: int) -> None:
    cut = list(parts(text, n_characters))
    assert "".join(part.text for part in cut) == text
    assert [part.is_last for part in cut] == [False] * (len(cut) - 1) + [True]


def test_each_different_segment_is_encoded_once() -> None:
    encoded: list[str] = []

    def encode(texts: list[str]) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
        encoded.extend(texts)
        return [np.array([len(text)], np.int32) for text in texts]

    encoder = SegmentEncoder(encode)
    for _ in range(3):
        assert [ids.tolist() for ids in encoder.encode(["a bc a", "", "a bc"])] == [[1, 3, 2], [], [1, 3]]
    assert encoded == ["a", " bc", " a"]


def test_the_memory_for_segments_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text whose words are all different, as in tables of random numbers, must not fill the memory."""
    monkeypatch.setattr(tokenizer, "_BATCH_CHARACTERS", 1 << 12)
    monkeypatch.setattr(segments, "_MEMORY_CHARACTERS", 1 << 14)

    def peak(n_words: int) -> int:
        text = " ".join(map(str, range(10**6, 10**6 + n_words)))
        tracemalloc.start()
        for _ in TRAINED["byte"].encode_parts([text]):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(40_000) < 1.5 * peak(20_000)


@pytest.mark.parametrize("stretch", ["a", "ACGTTGCA", "日本", "1", " ", "\n", "!?"])
def test_the_learner_of_byte_pairs_reads_no_long_run(stretch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    cut_long_runs = training._cut_long_runs

    def recorded(text: str) -> Any:
        for part in cut_long_runs(text):
            read.append(part)
            yield part

    monkeypatch.setattr(training, "_cut_long_runs", recorded)
    text = f"some words {stretch * 5000} and others"
    train_tokenizer("bpe:300", [text])
    assert "".join(read) == text
    assert max(len(run) for part in read for run in part.split()) <= 1000
    assert max(len(part) for part in read) < 1100


def test_ordinary_text_is_not_cut_for_the_learner() -> None:
    for text in ["", " ", "x" * 1000 + " " * 1000 + "y" * 1000, "the cat\n\n" * 10_000]:
        assert list(training._cut_long_runs(text)) == [text]
