"""Context mixing: parts worked by hand, a slow implementation of the whole, and tables of a fixed size."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from slow_mixing import BYTES, Counter, SlowMixing, State, first_meaning

from lmzoo import Predictor, load_corpus
from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.models.bitwise.code import hash_combine
from lmzoo.models.bitwise.model import BitwiseModel
from lmzoo.models.context_mixing import context_mixing, reader
from lmzoo.models.context_mixing.contexts import (
    ENDINGS,
    FIRST,
    LONG,
    MARK,
    N_WORDS,
    SHORT,
    WORDS,
    update_words,
)
from lmzoo.models.context_mixing.counters import (
    NONE,
    Counters,
    claim,
    count_of,
    counted,
    find,
    first_meanings,
    slot_at,
    state_of,
)
from lmzoo.models.context_mixing.matches import common_length, least_length
from lmzoo.models.ppm import ppm
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

SMALL: dict[str, Any] = {"table_bits": 17}


def as_bytes(text: str) -> NDArray[np.int32]:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + 1


def fitted(ids: Any, vocab_size: int = BYTES, **settings: Any) -> BitwiseModel[Any]:
    stream = TokenStream(np.asarray(ids, np.int32))
    return context_mixing(vocab_size, **{**SMALL, **settings}).fit(TrainingData(stream, stream))


# ---- Counters -----------------------------------------------------------------------------------


def test_a_slot_by_hand() -> None:
    """Counts the bits 1, 1, 0. The share of ones, in 65536ths, moves from 32768 by 2/3, 2/5 and 2/7 of the rest.

    32768 + (2 (65535 - 32768)) // 3 = 54612; 54612 + (2 (65535 - 54612)) // 5 = 58981; 58981 - 16852 = 42129. After the
    leading 1, the last bits are 1, 11 and 110.
    """
    slot, found = np.uint32(0), []
    for bit in (1, 1, 0):
        slot = counted(slot, bit)
        found.append((int(slot) >> 16, count_of(slot), int(slot) & 511))
    assert found == [(54612, 1, 0b11), (58981, 2, 0b111), (42129, 3, 0b1110)]


@settings(max_examples=60)
@given(st.lists(st.integers(0, 1), max_size=200))
def test_slots_equal_lists_of_bits(bits: list[int]) -> None:
    counter, slot = Counter(), np.uint32(0)
    states: dict[State, int] = {}
    for bit in bits:
        slot = counted(slot, bit)
        counter.add(bit)
        assert int(slot) >> 16 == counter.share
        assert count_of(slot) == min(len(counter.bits), 127)
        state = state_of(slot)
        assert states.setdefault(counter.state, state) == state
        assert first_meanings()[state] == pytest.approx(first_meaning(counter.state))
    assert len(set(states.values())) == len(states)


def new_table(n_buckets: int) -> Counters:
    known = np.empty((0, 8), np.uint32)
    known.flags.writeable = False
    return Counters(np.zeros((n_buckets, 8), np.uint32), np.empty(0, np.int64), known)


def test_a_full_table_keeps_what_has_counted_most() -> None:
    """Four keys have the same three places. The bucket that has counted least is emptied for the fourth key."""
    table, n_used = new_table(8), np.zeros(1, np.int64)
    keys = [(check << 33) + 5 for check in range(4)]
    for key, count in zip(keys, (3, 1, 2), strict=False):
        row = claim(table, n_used, key)
        for _ in range(count):
            table.slots[row, 1] = counted(table.slots[row, 1], 1)
    rows = [find(table, key) for key in keys]
    assert sorted(rows[:3]) == sorted({5, 5 ^ 1, 5 ^ 2})
    assert rows[3] == NONE
    assert slot_at(table, NONE, 3) == 0
    new = claim(table, n_used, keys[3])
    assert new == rows[1]
    assert not table.slots[new, 1:].any()
    assert [find(table, key) for key in keys] == [rows[0], NONE, rows[2], new]
    assert np.count_nonzero(table.slots[:, 0]) == 3


def test_tables_have_a_fixed_size() -> None:
    """A random text with more contexts than buckets: no array grows, and the predictions are still distributions.

    Each of 9,000 tokens has 14 contexts with 3 buckets each, and most of the contexts are new.
    """
    ids = np.random.default_rng(0).integers(1, 300, 9000).astype(np.int32)
    model, small = fitted([*ids, EOT], 300), fitted([1, EOT], 300)
    arrays, n_buckets = model.arrays(), 2 ** SMALL["table_bits"]
    assert 0.8 * n_buckets < len(arrays["buckets"]) <= n_buckets
    sizes = {name: array.shape for name, array in small.arrays().items()}
    for name in sizes.keys() - {"buckets", "slots", "ids"}:
        assert arrays[name].shape == sizes[name]
    assert model.predict_distribution([5, 6]).probs.sum() == pytest.approx(1, abs=1e-12)


# ---- Contexts and matches ------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.text(st.sampled_from("aBé .,\n'"), max_size=30))
def test_words(text: str) -> None:
    """The hash values of words are those of their small letters, and those of empty words are 0."""
    ids, slow = as_bytes(text), SlowMixing(BYTES, n_curve_rows=256)
    slow.document = ids.tolist()
    found = np.zeros(N_WORDS, np.int64)
    for token_id in ids:
        update_words(found, token_id)
    words, old = slow.words(), slow.words()[1:]
    for number, word in enumerate(words[:5]):
        assert found[WORDS + number] == hashed_word(word)
        assert found[ENDINGS + number] == int.from_bytes(word[-3:].encode("latin-1"), "big")
    assert found[SHORT] == hashed_word(next((word for word in old if 0 < len(word) <= 3), ""))
    assert found[LONG] == hashed_word(next((word for word in old if len(word) >= 5), ""))
    assert found[FIRST] == hashed_word(slow.first_word())
    assert found[MARK] == (ord(slow.mark()) + 1 if slow.mark() else 0)
    update_words(found, EOT)
    assert not found.any()


def hashed_word(word: str) -> int:
    value = 0
    for letter in word:
        value = hash_combine(value + 0x2545F491, ord(letter))
    return value


def test_matches_by_hand() -> None:
    known, ids = np.array([1, 2, 3, 4, EOT], np.int32), np.array([9, 3, 2, 3], np.int32)
    # Before place 3 stand 1 2 3, and before the end of `ids` 3 2 3: the last two tokens agree.
    assert common_length(known, ids, 0, 4, 3) == 2
    assert common_length(known, ids, 3, 4, 3) == 1  # the document begins with the last token
    assert [least_length(which, 257) for which in (0, 1)] == [12, 7]
    assert [least_length(which, 4096) for which in (0, 1)] == [8, 5]  # 12 bits a token


# ---- The whole -----------------------------------------------------------------------------------


def texts() -> list[tuple[int, list[int]]]:
    rng = np.random.default_rng(5)
    bible = as_bytes("In the beginning was the Word, and the Word was with God, and")
    phrase = rng.integers(1, 5, 20).tolist()
    return [
        (5, [*phrase, 2, *phrase, EOT, *phrase[:9], 3, *rng.integers(1, 5, 40).tolist(), EOT, EOT, *phrase]),
        (9, rng.choice(9, 130, p=[0.04] * 8 + [0.68]).tolist()),
        (300, [*([7, 290, 7, 8, 299, 3, 200] * 6), EOT, *([290, 7, 8, 299, 3, 1] * 5)]),
        (BYTES, [*bible, EOT, *bible[25:], *bible[:30], EOT, 256, *bible[3:20]]),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "words"), [(0, True), (1, True), (2, True), (3, True), (3, False)])
def test_equals_a_slow_implementation(number: int, words: bool) -> None:
    vocab_size, ids = texts()[number]
    slow = SlowMixing(vocab_size, n_curve_rows=1 << 13, words=words)
    expected = []
    for token_id in ids:
        expected.append(math.log(slow.prob(token_id)))
        slow.learn(token_id)
    found = context_mixing(vocab_size, words=words).online_log_probs(ids)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_compresses_better_than_ppm() -> None:
    ids = np.concatenate([np.append(as_bytes(document.text), EOT) for document in load_corpus("kjv").train[:8]])
    mixing, matching = (make(BYTES).online_log_probs(ids).mean() for make in (context_mixing, ppm))
    assert mixing > matching + 0.02


# ---- Documents -----------------------------------------------------------------------------------


def test_distributions_are_exact_and_change_nothing() -> None:
    ids = np.concatenate([as_bytes("In the beginning God created the heaven and the earth. " * 3), [EOT]])
    model = fitted(ids)
    document = model._new_document()
    document.read(ids[:100])
    before = {name: array.copy() for name, array in document.arrays().items()}
    now = document._now.copy()
    row = document.next_log_probs()
    assert np.exp(row).sum() == pytest.approx(1, abs=1e-13)
    assert row.argmax() == ids[100]
    np.testing.assert_array_equal(row, document.next_log_probs())
    np.testing.assert_array_equal(document._now, now)
    for name, array in document.arrays().items():
        np.testing.assert_array_equal(array, before[name])
    log_probs = np.empty(1)
    document.read(ids[100:101], log_probs)
    assert log_probs[0] == pytest.approx(row[ids[100]], abs=1e-12)


def test_a_document_continues_the_training_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document changes copies of what was learned: its predictions are those of a reader that reads on."""
    data = toy_data(12, 60)
    monkeypatch.setattr(reader, "_FIRST_ROWS", 1)  # the copies are moved to larger tables many times
    model = context_mixing(12, **SMALL).fit(data)
    before = {name: array.copy() for name, array in model.arrays().items()}
    for document in islice(data.valid.documents(), 4):
        joined = model.online_log_probs(np.concatenate([data.train.ids, document]))
        np.testing.assert_array_equal(model.log_probs(document), joined[len(data.train) :])
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_static_model_does_not_learn() -> None:
    data = toy_data(12)
    static, adaptive = (context_mixing(12, adaptive=flag, **SMALL).fit(data) for flag in (False, True))
    assert (static.adapts_on_test, adaptive.adapts_on_test) == (False, True)
    np.testing.assert_array_equal(static.learned.arrays()["weights"], adaptive.learned.arrays()["weights"])
    text = TokenStream(np.tile(np.array([9, 1, 9], np.int32), 30))
    assert adaptive.log_probs(text)[45:].mean() > static.log_probs(text)[45:].mean() + 0.3


def test_a_loaded_model_goes_on() -> None:
    """The training text is longer than the match model may look back, so that its beginning is dropped."""
    rng = np.random.default_rng(2)
    phrases = rng.integers(1, 12, (40, 30))
    ids = phrases[rng.integers(0, 40, 4600)].ravel()
    model = fitted([*ids, EOT], 12)
    arrays = model.arrays()
    assert arrays["ids"].size == 2**17 < ids.size
    loaded = context_mixing(12, **SMALL).load_arrays(arrays)
    text = [*phrases[3], *phrases[8], EOT, *phrases[1]]
    np.testing.assert_array_equal(loaded.log_probs(text), model.log_probs(text))
    assert model.log_probs(text)[20:30].mean() > -0.1
    for name, array in loaded.arrays().items():
        np.testing.assert_array_equal(array, arrays[name])


def test_it_is_saved_and_loaded(corpus_folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.fit("context-mixing", corpus_folder, tokenizer="byte", **SMALL)
    loaded = Predictor.load(predictor.save(tmp_path / "mixing"))
    expected = predictor.predict_distribution("the").log_probs
    np.testing.assert_array_equal(loaded.predict_distribution("the").log_probs, expected)


# ---- The laws, bad settings ----------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", [True, False])
def test_laws(adaptive: bool) -> None:
    check_language_model(lambda vocab_size: context_mixing(vocab_size, adaptive=adaptive, **SMALL))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"table_bits": 16}, "table_bits must be a whole number from 17 to 28"),
        ({"table_bits": 22.5}, "table_bits must be a whole number from 17 to 28"),
        ({"words": 1}, "words must be"),
        ({"adaptive": "no"}, "adaptive must be"),
    ],
)
def test_bad_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        context_mixing(3, **wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [("buckets", 2**17), ("weights", np.nan), ("meanings", 1.5), ("n_meanings", -1), ("places", 10**6), ("ids", 12)],
)
def test_damaged_models_are_refused(name: str, value: float) -> None:
    arrays = fitted(toy_data(12).train.ids, 12).arrays()
    arrays[name] = arrays[name].copy()
    arrays[name].flat[3] = value
    with pytest.raises(SavedModelError, match="context mixing model is damaged"):
        context_mixing(12, **SMALL).load_arrays(arrays)
