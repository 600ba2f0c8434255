"""benchmarks/bengio.py chooses settings on the validation split, keeps what it measured, and mixes all models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo import zoo
from lmzoo.corpora import Corpus, Document
from lmzoo.corpora.encoded import encode_corpus
from lmzoo.models.ngram import ngram
from lmzoo.stream import TokenStream

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bengio(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program as a module, with three rows on a toy corpus in place of its own."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bengio  # pyright: ignore[reportMissingImports]

    rng = np.random.default_rng(0)
    train, valid, test = (
        [Document(f"{split} {i}", " ".join(rng.choice(list("abcde"), 30))) for i in range(n)]
        for split, n in (("train", 20), ("valid", 8), ("test", 8))
    )
    corpus = Corpus("toy", "Toy", "none", "", "by hand", train, valid, test)
    monkeypatch.setattr(bengio, "load_corpus", lambda name: corpus)
    rows = {
        "orders": bengio.Row("ngram", [{"order": order} for order in (5, 1, 4)]),
        "unigram": bengio.Row("unigram"),
        "cache": bengio.Row("cache"),
    }
    monkeypatch.setattr(bengio, "COUNTS", rows)
    monkeypatch.setattr(bengio, "ROWS", rows)
    return bengio


def run(bengio: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: object) -> Any:
    """Runs the program, and returns the perplexities that it prints."""
    monkeypatch.setattr(sys, "argv", ["bengio.py", *map(str, options)])
    bengio.main()
    return json.loads(capsys.readouterr().out.splitlines()[-1])["bengio_perplexity"]


def test_every_row_has_settings_of_its_species(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from bengio import ROWS  # pyright: ignore[reportMissingImports]

    for name, row in ROWS.items():
        for settings in row.candidates:
            model = zoo.create(row.species, 1000, **settings)
            assert model.adapts_on_test == (name == "cache")


def test_settings_are_chosen_on_the_validation_split(bengio: Any, tmp_path: Path) -> None:
    corpus = encode_corpus(bengio.load_corpus("toy"))
    scores = bengio.scored("orders", corpus, tmp_path)
    models = [ngram(corpus.tokenizer.vocab_size, order=order).fit(corpus.training_data) for order in (5, 1, 4)]
    best = max(models, key=lambda model: model.log_probs(corpus.valid.stream).sum())
    assert scores.settings == {"order": best.order} != bengio.ROWS["orders"].candidates[0]
    np.testing.assert_array_equal(scores.valid, best.log_probs(corpus.valid.stream))
    np.testing.assert_array_equal(scores.test, best.log_probs(corpus.test.stream))


def test_what_was_measured_is_kept_unless_settings_change(
    bengio: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(bengio, monkeypatch, capsys, "--out", tmp_path)
    assert set(first) == {"orders", "unigram", "cache", "all, constant weights", "all, gate"}
    assert not list(tmp_path.glob("*.checkpoint.*"))
    with monkeypatch.context() as patched:
        patched.setattr(bengio.zoo, "create", None)  # nothing is fitted again
        assert run(bengio, monkeypatch, capsys, "--out", tmp_path) == first
        assert run(bengio, monkeypatch, capsys, "--out", tmp_path, "--mixture") == first
        bengio.ROWS["unigram"] = bengio.Row("ngram", [{"order": 2}])
        assert "unigram" not in run(bengio, monkeypatch, capsys, "--out", tmp_path, "--mixture")
        with pytest.raises(TypeError):
            run(bengio, monkeypatch, capsys, "--out", tmp_path)
    assert run(bengio, monkeypatch, capsys, "--out", tmp_path)["unigram"] != first["unigram"]


def test_a_mixture_has_all_members_and_is_no_worse_on_the_validation_split(bengio: Any, tmp_path: Path) -> None:
    corpus = encode_corpus(bengio.load_corpus("toy"))
    members = {name: bengio.scored(name, corpus, tmp_path) for name in ("orders", "unigram")}
    figures = bengio.mixture(members, corpus)
    weights = bengio.learn_weights(np.stack([each.valid for each in members.values()], axis=1))
    by_hand = np.log(sum(weight * np.exp(each.test) for weight, each in zip(weights, members.values(), strict=True)))
    assert figures["constant weights"] == pytest.approx(np.exp(-by_hand.mean()), abs=0.05)


def test_the_interval_holds_the_perplexity(bengio: Any) -> None:
    rng = np.random.default_rng(1)
    log_probs, stream = rng.normal(-3, 1, 400), TokenStream.from_documents(np.ones((40, 9), np.int32))
    low, high = bengio.interval(log_probs, stream)
    assert low < np.exp(-log_probs.mean()) < high
    assert high - low < 6
