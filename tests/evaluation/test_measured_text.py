"""Which text is measured: all of it, or the split that the predictor was not trained on."""

from __future__ import annotations

import dataclasses
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import lmzoo
from lmzoo import Predictor, load_corpus
from lmzoo.cli import run
from lmzoo.corpora.encoded import encode_corpus
from lmzoo.errors import CorpusError, UsageError
from lmzoo.interchange.arpa import predictor_from_arpa

# p(</s>) = p(a) = 1/4, p(b) = 1/2, back-off weights of <s> and a 1/2, p(a|<s>) = 5/8, p(b|a) = 3/4
ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99 <s> -0.30103
-0.60206 </s>
-0.60206 a -0.30103
-0.30103 b

\\2-grams:
-0.20412 <s> a
-0.1249387 a b

\\end\\
"""
OF_ALL = 10 ** (5.17357 / 11)
"""Perplexity of the four sentences, by hand."""


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a predictor from an ARPA file."""
    home = tmp_path_factory.mktemp("arpa")
    (home / "m.arpa").write_text(ARPA, encoding="utf-8")
    return predictor_from_arpa(home / "m.arpa").save(home / "m")


def documents(path: Path, *texts: str) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def sentences(seed: int, n: int = 40) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices("abcdefgh", k=20)) for _ in range(n)]


@pytest.fixture
def fitted(tmp_path: Path) -> tuple[Path, Path]:
    """A file of 40 documents, and the folder of a predictor that was trained on it."""
    path = documents(tmp_path / "t.jsonl", *sentences(0))
    return path, Predictor.fit("markov", path, tokenizer="char").save(tmp_path / "m")


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(["evaluate", *map(str, arguments), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# ---- Measuring is not splitting --------------------------------------------------------------------


def test_all_of_a_text_is_measured(arpa: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = documents(tmp_path / "t.jsonl", "a b", "b a b", "a", "b")
    (record,) = evaluated(capsys, arpa, "--corpus", path)
    assert record["perplexity_per_token"] == pytest.approx(OF_ALL, rel=1e-5)
    assert (record["split"], record["n_documents"], record["n_tokens"], record["n_bytes"]) == ("all", 4, 11, 10)
    assert lmzoo.evaluate(arpa, path).perplexity_per_token == pytest.approx(OF_ALL, rel=1e-5)
    assert lmzoo.evaluate(arpa, load_corpus(path)).n_documents == 4
    encoded = encode_corpus(load_corpus(path), Predictor.load(arpa).tokenizer)
    assert lmzoo.evaluate(arpa, encoded).perplexity_per_token == pytest.approx(OF_ALL, rel=1e-5)
    assert lmzoo.evaluate(arpa, path, split="test").n_documents == 1
    assert run(["evaluate", str(arpa), "--corpus", str(path)]) == 0
    assert "t.jsonl, whole text: 4 documents, 7 words, 10 bytes, 11 tokens" in capsys.readouterr().out


def test_one_document_can_be_measured(arpa: Path, fitted: tuple[Path, Path], tmp_path: Path) -> None:
    path = documents(tmp_path / "one.jsonl", "a b")
    for folder in (arpa, fitted[1]):
        record = lmzoo.evaluate(folder, path)
        assert (record.n_documents, record.split) == (1, "all")
    with pytest.raises(CorpusError, match="but a corpus needs at least three: add documents"):
        lmzoo.evaluate(arpa, path, split="test")


def test_standard_input_is_measured_whole(
    fitted: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = fitted
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a b c")))
    (record,) = evaluated(capsys, folder, "--corpus", "-")
    assert (record["n_documents"], record["n_bytes"]) == (1, 5)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
    (record,) = evaluated(capsys, folder, "--corpus", "-")
    assert record["n_documents"] == 40


def test_folders_with_splits_are_measured_whole(arpa: Path, tmp_path: Path) -> None:
    home = tmp_path / "corpus"
    home.mkdir()
    for split in ("train", "valid", "test"):
        documents(home / f"{split}.jsonl", "a b", "b a b")
    assert lmzoo.evaluate(arpa, home).n_documents == 6
    assert lmzoo.evaluate(arpa, home, split="test").n_documents == 2


def test_all_predictors_are_measured_on_the_same_text(
    arpa: Path, fitted: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = fitted
    other = Predictor.fit("unigram", documents(path.with_name("u.jsonl"), *sentences(1)), tokenizer="char")
    records = evaluated(capsys, folder, other.save(path.with_name("u")), "--corpus", path)
    assert [(record["split"], record["n_bytes"]) for record in records] == [("test", 156)] * 2


def test_each_text_has_a_table_and_no_row_is_lost(
    fitted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = fitted
    second = Predictor.fit("markov", path, tokenizer="char", seed=1).save(tmp_path / "second")
    other = Predictor.fit("markov", documents(tmp_path / "u.jsonl", *sentences(1)), tokenizer="char")
    assert run(["evaluate", str(folder), str(second), str(other.save(tmp_path / "other"))]) == 0
    out = capsys.readouterr().out
    assert out.count(" test split: 4 documents") == 2
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("m ", "second", "other"))] == [
        "m",
        "second",
        "other",
    ]


# ---- The text of the training ----------------------------------------------------------------------


def test_the_training_text_gives_its_test_split(fitted: tuple[Path, Path]) -> None:
    path, folder = fitted
    of_fit = lmzoo.evaluate(folder)
    assert (of_fit.split, of_fit.n_documents, of_fit.seen_in_train) == ("test", 4, 0)
    for corpus in (path, load_corpus(path), encode_corpus(load_corpus(path), Predictor.load(folder).tokenizer)):
        record = lmzoo.evaluate(folder, corpus)
        assert (record.split, record.total_nats) == ("test", of_fit.total_nats)


@pytest.mark.parametrize("change", [lambda lines: lines[1:], lambda lines: lines[::-1], lambda lines: [*lines, "{}"]])
def test_a_changed_corpus_is_refused(
    fitted: tuple[Path, Path], change: Callable[[list[str]], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = fitted
    lines = change(path.read_text(encoding="utf-8").splitlines())
    path.write_text("\n".join(lines).replace("{}", '{"text": "new"}') + "\n", encoding="utf-8")
    for command in (["evaluate", str(folder)], ["context", "-p", str(folder)]):
        assert run(command) == 1
        error = capsys.readouterr().err
        assert f"the corpus {path} has changed since this 'markov' was trained on it" in error
        assert "name another text with --corpus" in error
    with pytest.raises(CorpusError, match="has changed since"):
        lmzoo.evaluate(folder, split="all")
    assert run(["evaluate", str(folder), "--corpus", str(path)]) == 0
    captured = capsys.readouterr()
    assert "m was trained on an earlier version of" in captured.err
    assert "of this text also occurs in the training text" in captured.out


def test_gradients_notice_a_changed_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = documents(tmp_path / "t.jsonl", *sentences(0))
    folder = Predictor.fit("rnn", path, tokenizer="char", d_hidden=4, training={"tokens": 100}).save(tmp_path / "m")
    assert run(["gradients", "-p", str(folder), "--positions", "2", "--distance", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "valid"
    documents(path, *sentences(0)[1:])
    assert run(["gradients", "-p", str(folder)]) == 1
    assert "has changed since" in capsys.readouterr().err


def test_a_copy_of_the_training_text_is_noticed(fitted: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = fitted
    copy = path.with_name("copy.jsonl")
    copy.write_bytes(path.read_bytes())
    record = lmzoo.evaluate(folder, copy)
    assert record.split == "all"
    assert record.seen_in_train == pytest.approx(0.8, abs=0.01)
    assert run(["evaluate", str(folder), "--corpus", str(copy)]) == 0
    assert "About 80% of this text also occurs in the training text" in capsys.readouterr().out
    assert run(["context", "-p", str(folder), "--corpus", str(copy)]) == 0
    assert "m: about 80% of this text also occurs in the training text" in capsys.readouterr().err
    new = documents(path.with_name("new.jsonl"), *sentences(5))
    assert lmzoo.evaluate(folder, new).seen_in_train == 0


def test_context_says_which_text_it_is_about(fitted: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = fitted
    assert run(["context", "-p", str(folder)]) == 0
    assert f"Text: {path}, valid split." in capsys.readouterr().err
    new = documents(path.with_name("new.jsonl"), *sentences(5))
    assert run(["context", "-p", str(folder), "--corpus", str(new), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["corpus"], found["split"]) == (str(new), "all")
    assert found["n_documents"] > 30


def test_standard_input_is_not_read_again(markov_predictor: Predictor) -> None:
    provenance = dataclasses.replace(markov_predictor.provenance, corpus="-")
    with pytest.raises(UsageError, match="trained on standard input, which cannot be read again"):
        lmzoo.evaluate(dataclasses.replace(markov_predictor, provenance=provenance))


# ---- Other figures ---------------------------------------------------------------------------------


def test_unknown_words_are_counted(tmp_path: Path) -> None:
    path = documents(tmp_path / "t.jsonl", *["one one two"] * 8, "one two three", "two four five")
    predictor = Predictor.fit("unigram", path, tokenizer="word:2")
    record = lmzoo.evaluate(predictor)
    assert (record.tokenizer, record.n_unknown, record.n_tokens, record.unknown_share) == ("word:2", 2, 4, 0.5)
    again = lmzoo.evaluate(Predictor.load(predictor.save(tmp_path / "m")))
    assert again.tokenizer == "word:2"
    assert lmzoo.evaluate(Predictor.fit("unigram", path, tokenizer="char")).n_unknown is None


def test_memory_is_measured_in_a_process_of_its_own_only(markov_predictor: Predictor) -> None:
    assert lmzoo.evaluate(markov_predictor).peak_memory_bytes is None
    assert (lmzoo.evaluate(markov_predictor, with_costs=True).peak_memory_bytes or 0) > 10_000_000
