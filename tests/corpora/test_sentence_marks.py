"""The words `<s>`, `</s>` and `<unk>` in a text are told of."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from lmzoo import train_tokenizer
from lmzoo.cli import run
from lmzoo.corpora.sentence_marks import report_marks
from lmzoo.tokenizers import word_tokenizer

MARKED = ["<s> a b </s>", "<s> b <unk> </s>", "x<s> <s>y"]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if "other programs use as marks" in record.getMessage()]
    caplog.clear()
    return found


def test_marks_are_counted_and_their_reading_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lmzoo")
    report_marks(MARKED, train_tokenizer("word-space:1", MARKED))
    (learned,) = messages(caplog)
    assert "</s> (2 times) as an ordinary word, <s> (2 times) as an ordinary word" in learned
    assert "<unk> (1 times) as an unknown word" in learned
    assert "remove <s> and </s>" in learned
    report_marks(MARKED[:1], word_tokenizer(["a", "b", "<unk>"]))
    assert "<s> (1 times) as an unknown word" in messages(caplog)[0]
    report_marks(MARKED[:1], train_tokenizer("word:1", MARKED))
    assert "<s> (1 times) as 3 ordinary words" in messages(caplog)[0]
    for texts, tokenizer in ((MARKED, "char"), (["x<s> a", "s"], "word:1")):
        report_marks(texts, train_tokenizer(tokenizer, texts))
        assert messages(caplog) == []


def test_fit_and_evaluate_tell_of_them_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, folder = tmp_path / "t.jsonl", str(tmp_path / "m")
    path.write_text("".join(json.dumps({"text": f"<s> a b {n} </s>"}) + "\n" for n in range(20)), encoding="utf-8")
    assert run(["fit", "unigram", "--corpus", str(path), "--tokenizer", "word-space:1", "--out", folder]) == 0
    assert capfd.readouterr().err.count("</s> (20 times) as an ordinary word") == 1
    assert run(["evaluate", folder]) == 0
    assert capfd.readouterr().err.count("</s> (2 times) as an ordinary word") == 1
    assert run(["predict", "<s> a", "-p", folder]) == 0
    assert capfd.readouterr().err.count("<s> (1 times) as an ordinary word") == 1
