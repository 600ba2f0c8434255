"""Splits by the names of files: test text never becomes training text, and names that do not decide are refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from corpora_on_disk import json_lines, names, write

from lmzoo.corpora import load_corpus
from lmzoo.corpora.split_names import splits_by_name
from lmzoo.errors import CorpusError

CLEAR = [
    ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
    ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
    ("train-00000-of-00001.jsonl", "validation-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"),
    ("train_en.jsonl", "dev_en.jsonl", "test_en.jsonl"),
    ("en_train.txt", "en_val.txt", "en_test.txt"),
    ("data/train/part0.jsonl", "data/valid/part0.jsonl", "data/test/part0.jsonl"),
    ("en/train.txt", "en/dev.txt", "en/test.txt"),
    ("TRAIN.txt", "Valid.txt", "TEST.txt"),
    ("train1.txt", "val1.txt", "test2.txt"),
    ("2019train.txt", "2020dev.txt", "2021test.txt"),
    ("train.en", "newsdev2016.en", "newstest2014.en"),
    ("wikiTrain.txt", "wikiDev.txt", "wikiTest.txt"),
    ("trainset.txt", "devset.txt", "testset.txt"),
    ("training data.txt", "development data.txt", "testing data.txt"),
    ("train.txt", "dev.txt", "devtest.txt"),
    ("train.txt", "valid.txt", "held-out.txt"),
    ("train.txt", "dev.txt", "eval.txt"),
    ("train.txt", "eval.txt", "test.txt"),
    ("train.txt", "hold_out.txt", "test.txt"),
    ("train.txt.gz", "validation(1).txt.gz", "[test].txt.gz"),
    ("trn/a.txt", "devel/a.txt", "tst/a.txt"),
    ("日本語train.txt", "日本語dev.txt", "日本語test.txt"),
    ("ｔｒａｉｎ.txt", "ｄｅｖ.txt", "ｔｅｓｔ.txt"),
    ("train/latest.txt", "valid/contest.txt", "test/greatest.txt"),
    ("train-test-split/train.txt", "train-test-split/valid.txt", "train-test-split/test.txt"),
    ("dev/train.txt", "dev/valid.txt", "dev/test.txt"),
    ("dev/validation.txt", "train/training.txt", "test/test.txt"),
]
UNCLEAR = [
    (("train_test.txt", "valid.txt", "test.txt"), r"the split of train_test.txt is not clear, .* test and train"),
    (("train/a.txt", "train/test/a.txt", "valid/a.txt"), r"the split of train/test/a.txt is not clear"),
    (("train.txt", "valid.txt", "test.txt", "more.txt"), r"but more.txt has none: rename"),
    (("train.txt", "valid.txt", "latest.txt"), r"train.txt, valid.txt have the name of a split .* latest.txt has none"),
    (("test.txt", "a.txt", "b.txt"), r"test.txt has the name of a split .* but a.txt, b.txt have none"),
    (("train.txt", "test.txt"), r"has a train and a test split but no valid split .*: add valid.txt"),
    (("train.txt",), r"has a train split but no valid and no test split"),
    (("train-0.jsonl", "train-1.jsonl"), r"has a train split but no valid and no test split"),
    (("data/train/0.jsonl", "data/train/1.jsonl"), r"has a train split but no valid and no test split"),
    (("valid.txt", "test.txt"), r"has a valid and a test split but no train split"),
    (("train.txt", "eval.txt"), r"not clear whether eval.txt is for validation or for test"),
    (("train.txt", "valid.txt", "test.txt", "eval.txt"), r"not clear whether eval.txt"),
    (("eval.txt", "heldout.txt", "train.txt"), r"not clear whether eval.txt, heldout.txt are"),
    (("mytrain.txt", "myvalid.txt", "mytest.txt"), r"mytrain.txt and my(valid|test).txt look like two splits"),
    (("dev-test.txt", "train.txt", "valid.txt"), r"the split of dev-test.txt is not clear"),
]


@pytest.mark.parametrize("files", CLEAR, ids=" ".join)
def test_clear_names(files: tuple[str, str, str]) -> None:
    expected = ["valid", "train", "test"] if files[0].startswith("dev/v") else ["train", "valid", "test"]
    assert splits_by_name(files, "c") == expected
    assert splits_by_name(files[::-1], "c") == expected[::-1]


@pytest.mark.parametrize(("files", "message"), UNCLEAR, ids=[" ".join(files) for files, _ in UNCLEAR])
def test_unclear_names_are_refused_in_one_line(files: tuple[str, ...], message: str) -> None:
    with pytest.raises(CorpusError, match=message) as raised:
        splits_by_name(files, "c")
    assert "\n" not in str(raised.value)
    assert "rename" in str(raised.value) or "add" in str(raised.value)


@pytest.mark.parametrize(
    "files",
    [
        ("latest.txt", "contest.txt", "protest.txt"),
        ("constrained.txt", "restrain.txt", "strain.txt"),
        ("evaluate.txt", "invalid.txt", "devil.txt"),
        ("teśt.txt", "tést.txt", "detest.txt"),
        ("a.txt", "b.txt"),
    ],
)
def test_parts_of_other_words_are_no_splits(files: tuple[str, ...]) -> None:
    assert splits_by_name(files, "c") is None


def test_files_about_the_corpus_belong_to_no_split() -> None:
    files = ("train.txt", "valid.txt", "test.txt", "README.txt", "LICENSE.txt")
    assert splits_by_name(files, "c") == ["train", "valid", "test", None, None]


@pytest.mark.parametrize(
    "files",
    [("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"), ("data/train/0.txt", "data/val/0.txt", "data/test/0.txt")],
)
def test_no_document_changes_its_split(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        write(tmp_path / name, f"this is {name}")
    corpus = load_corpus(tmp_path)
    assert [names(split) for split in corpus.splits.values()] == [[name] for name in files]
    assert all(name in corpus.protocol for name in files)


@pytest.mark.parametrize("spec", ["{}", "{}/*.jsonl", "{}/**/*.jsonl"])
def test_shards_of_a_hub_are_not_pooled(tmp_path: Path, spec: str) -> None:
    for split in ("train", "validation", "test"):
        for shard in range(2):
            texts = (f"{split} {shard} {number}" for number in range(8))
            write(tmp_path / f"{split}-0000{shard}-of-00002.jsonl", json_lines(*texts))
    corpus = load_corpus(spec.format(tmp_path))
    for split, documents in corpus.splits.items():
        assert {document.text.split()[0] for document in documents} == {{"valid": "validation"}.get(split, split)}
        assert len(documents) == 16


def test_several_names_keep_the_folders_that_tell_their_splits(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        write(tmp_path / split / "part0.jsonl", json_lines(split))
    specs = [tmp_path / split / "part0.jsonl" for split in ("test", "train", "dev")]
    for given in (specs, [path.parent for path in specs]):
        corpus = load_corpus(given)
        assert [documents[0].text for documents in corpus.splits.values()] == ["train", "dev", "test"]


def test_the_name_of_the_folder_itself_tells_nothing(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "test" / f"{number}.txt", f"text {number}")
    assert names(load_corpus(tmp_path / "test").train) == ["0.txt"]


def test_a_log_message_tells_which_files_went_where(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lmzoo")
    for name in ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt", "README.txt", "data.csv", "picture.png"):
        write(tmp_path / name, f"this is {name}")
    load_corpus(tmp_path)
    not_read, splits = caplog.messages
    assert not_read.endswith("not read: README.txt, data.csv, picture.png")
    assert splits.endswith("train from ptb.train.txt, valid from ptb.valid.txt, test from ptb.test.txt")
