"""Near-duplicates: the definition by brute force, a worked example, and the King James Bible."""

from __future__ import annotations

import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from corpora_on_disk import load, toy
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.corpora import Corpus, Document, duplicates, near_duplicates


def shares_by_hand(corpus: Corpus, name: str) -> tuple[float, dict[str, float]]:
    """Computes the shares of duplicate words of a split by the definition, word by word."""

    def words(document: Document) -> list[str]:
        return re.findall(r"\w+", document.text.lower())

    short = [w for w in map(words, corpus.train) if len(w) < 8]
    seen = {tuple(w[i : i + 8]) for w in map(words, corpus.train) for i in range(len(w) - 7)}
    shares, total, covered = {}, 0, 0
    for document in corpus.splits[name]:
        w = words(document)
        marked = {i + k for i in range(len(w) - 7) if tuple(w[i : i + 8]) in seen for k in range(8)}
        if w in short:
            marked = set(range(len(w)))
        shares[document.name] = len(marked) / len(w) if w else 0.0
        total, covered = total + len(w), covered + len(marked)
    return (covered / total if total else 0.0), {name: share for name, share in shares.items() if share}


few_words = st.one_of(st.lists(st.sampled_from(["a", "b", "A,"]), max_size=length).map(" ".join) for length in (2, 40))
some_documents = st.lists(few_words, min_size=1, max_size=4)


@settings(max_examples=40)
@given(some_documents, some_documents, some_documents)
def test_near_duplicates_are_those_of_the_definition(train: list[str], valid: list[str], test: list[str]) -> None:
    corpus = toy(train, valid, test)
    for name, found in near_duplicates(corpus).items():
        share, shares = shares_by_hand(corpus, name)
        assert found.share == pytest.approx(share)
        assert {document.name: document.share for document in found.worst} == pytest.approx(shares)
        assert found.exact == sum(document.text in train for document in corpus.splits[name])


def test_near_duplicates_by_hand() -> None:
    train = ["zero one two three four five six seven eight nine", "a b c d e f g h"]
    # Ten words, of which the run "one ... eight" covers eight; then a run that lies across two documents of train.
    test = ["X, One two three; four five six seven EIGHT x", "eight nine a b c d e f", "a b c d e f g h"]
    found = near_duplicates(toy(train, ["nothing"], test))["test"]
    assert found.share == (8 + 0 + 8) / 26
    assert [(document.name, document.share, document.nearest) for document in found.worst] == [
        ("test 2", 1.0, "train 1"),
        ("test 0", 0.8, "train 0"),
    ]
    assert found.exact == 1
    assert len(near_duplicates(toy(train, ["nothing"], test), n_worst=1)["test"].worst) == 1


def test_combining_marks_are_parts_of_words() -> None:
    # Eight words, of which four in a row are shared. Without its marks, each word would be two or three words.
    train, test = "हम सब बाज़ार से किताब लाए थे कल", "वे भी बाज़ार से किताब लाए होंगे आज"
    found = near_duplicates(toy([train], ["शालोम"], [test]))["test"]
    assert (found.n_words, found.share) == (8, 0.0)
    for text in ("e\u0301te\u0301 " * 7, "שָׁלוֹם " * 7, "مَرْحَبًا " * 7):
        assert near_duplicates(toy(["a"], ["b"], [text]))["test"].n_words == 7


def test_short_documents_are_seen_if_a_training_document_has_the_same_words() -> None:
    train = ["yes it is", "no", "a longer text in which no short document counts as seen"]
    found = near_duplicates(toy(train, ["Yes, it is!", "no"], ["yes it", "no", "short document", "?"]))
    assert (found["valid"].share, found["valid"].exact) == (1.0, 1)
    assert (found["test"].share, found["test"].exact) == (1 / 5, 1)
    assert [(one.name, one.share, one.nearest) for one in found["test"].worst] == [("test 1", 1.0, "train 1")]


def test_near_duplicates_report_progress() -> None:
    seen = []
    near_duplicates(toy(["a", "bb"], ["b"], ["c"]), on_progress=seen.append)
    assert [(progress.done, progress.total) for progress in seen] == [(1, 5), (2, 5), (3, 5), (5, 5)]


def test_batches_and_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train = [f"{'a b c d ' * n} x{n} e f g h i j k l m" for n in range(20)]
    held_out = ["a b c d e f g h i j", "x3 e", "no"], ["d e f g h i j k l m", train[7], "no", "yes", train[7]]
    corpus = toy([*train, "no", "x3 e", "no"], *held_out)
    expected = near_duplicates(corpus)
    monkeypatch.setattr(duplicates, "_BATCH_CHARACTERS", 10)
    monkeypatch.setattr(duplicates, "_PART_WORDS", 10)
    assert near_duplicates(corpus) == expected


def test_documents_need_little_more_memory_than_the_hashes_of_their_8_grams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BATCH_CHARACTERS", 1000)
    monkeypatch.setattr(duplicates, "_PART_WORDS", 1000)
    monkeypatch.setattr("lmzoo.system.growing.MEMORY_BYTES", 4000)
    rng = np.random.default_rng(0)
    valid, test = ([" ".join(line) for line in rng.integers(500, size=(3000, 12)).astype(str)] for _ in range(2))
    corpus = toy(test[:100], valid, test)
    near_duplicates(corpus)  # modules are loaded before the measurement
    tracemalloc.start()
    try:
        found = near_duplicates(corpus)["test"]
        assert tracemalloc.get_traced_memory()[1] < 2 * 8 * 2 * 3000 * 5
    finally:
        tracemalloc.stop()
    assert (found.share, found.exact) == (100 / 3000, 100)


def test_the_work_grows_linearly_with_a_text_that_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """One 8-gram that occurs n times in training and in testing must not be compared n times n times."""
    sizes = []
    bincount = np.bincount

    def counted(values: Any, *arguments: Any, **options: Any) -> Any:
        sizes.append(len(values))
        return bincount(values, *arguments, **options)

    monkeypatch.setattr(np, "bincount", counted)
    total = []
    for n in (500, 1000):
        sizes.clear()
        near_duplicates(toy(["la " * n], ["x"], ["la " * n]))
        total.append(sum(sizes))
    assert total[1] < 2.1 * total[0]


def test_kjv_parallel_passages_are_found() -> None:
    by_name = {document.name: document for split in load("kjv").splits.values() for document in split}
    twins = {"Isaiah 37": "2 Kings 19", "Psalms 53": "Psalms 14", "Nehemiah 7": "Ezra 2", "2 Samuel 22": "Psalms 18"}
    test = [by_name.pop(name) for name in twins]
    valid = [by_name.pop("Ruth 1")]
    corpus = Corpus("kjv", "", "", "", "", list(by_name.values()), valid, test)
    found = near_duplicates(corpus)["test"]
    assert {document.name: document.nearest for document in found.worst} == twins
    shares = {document.name: document.share for document in found.worst}
    assert shares["Isaiah 37"] > 0.85
    assert min(shares.values()) > 0.5


def test_kjv_splits_share_what_is_published_of_them() -> None:
    found = near_duplicates(load("kjv"))
    assert round(found["valid"].share, 3) == 0.101
    assert round(found["test"].share, 3) == 0.090
    assert (found["valid"].exact, found["test"].exact) == (0, 0)
    assert found["test"].worst[0].name == "Nehemiah 7"
    assert [document.share for document in found["test"].worst] == sorted(
        (document.share for document in found["test"].worst), reverse=True
    )
