"""Evaluation from Python: predictors and folders, names, paths and corpora; unknown facts are None."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import lmzoo
from lmzoo import Predictor, load_corpus
from lmzoo.corpora.encoded import encode_corpus
from lmzoo.errors import CorpusError, UsageError
from lmzoo.provenance import Provenance


def test_predictors_and_folders_and_all_kinds_of_corpora(
    markov_predictor: Predictor, saved: Path, corpus_folder: Path
) -> None:
    corpus = load_corpus(corpus_folder)
    encoded = encode_corpus(corpus, markov_predictor.tokenizer)
    first = lmzoo.evaluate(markov_predictor, encoded)
    for predictor, text in ((markov_predictor, corpus), (saved, corpus_folder), (str(saved), str(corpus_folder))):
        record = lmzoo.evaluate(predictor, text)
        assert (record.total_nats, record.seed) == (first.total_nats, 3)
    assert lmzoo.evaluate(saved, encoded, split="valid").split == "valid"


def test_facts_of_an_imported_model_are_unknown(markov_predictor: Predictor, corpus_folder: Path) -> None:
    imported = dataclasses.replace(markov_predictor, provenance=Provenance(source="model.arpa"))
    record = lmzoo.evaluate(imported, corpus_folder)
    assert (record.seed, record.n_train_tokens, record.fit_seconds) == (None, None, None)
    with pytest.raises(UsageError, match="training corpus of this 'markov' is unknown"):
        lmzoo.evaluate(imported)


def test_costs_label_and_share_are_part_of_the_record(markov_predictor: Predictor, corpus_folder: Path) -> None:
    record = lmzoo.evaluate(markov_predictor, corpus_folder, label="one", train_share=0.5, with_costs=True)
    assert (record.name, record.train_share) == ("one", 0.5)
    assert record.predict_seconds


def test_another_tokenizer_is_refused(markov_predictor: Predictor, corpus_folder: Path) -> None:
    with pytest.raises(CorpusError, match="another tokenizer"):
        lmzoo.evaluate(markov_predictor, encode_corpus(load_corpus(corpus_folder), "byte"))
