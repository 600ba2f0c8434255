"""Evaluation from Python: predictors and folders, names, paths and corpora; unknown facts are None."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import lmzoo
from lmzoo import Predictor, load_corpus
from lmzoo.corpora import Document
from lmzoo.corpora.encoded import encode_corpus
from lmzoo.errors import CorpusError, UsageError
from lmzoo.evaluation import token_sums
from lmzoo.evaluation.measured_text import MeasuredText
from lmzoo.language_model import TokenStats
from lmzoo.provenance import Provenance
from lmzoo.system import growing
from lmzoo.system.progress import Progress


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


@pytest.mark.parametrize("n_documents", [40, 9])
def test_a_text_that_is_scored_in_parts_has_the_record_of_the_whole(
    n_documents: int, markov_predictor: Predictor, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [*load_corpus(corpus_folder).train][:n_documents]
    text = MeasuredText.of_documents("a text", documents)
    seen: list[Progress] = []
    whole = lmzoo.evaluate(markov_predictor, text)
    monkeypatch.setattr(token_sums, "_PART_TOKENS", 300)
    parts = list(token_sums._parts(encoded := text.encode(markov_predictor), 300))
    assert len(parts) > 1
    assert all(len(part.stream) >= 300 for part in parts[:-1])
    assert [token for part in parts for token in part.stream.ids.tolist()] == encoded.stream.ids.tolist()
    found = lmzoo.evaluate(markov_predictor, text, on_progress=seen.append)
    scored = [progress for progress in seen if progress.unit == "tokens"]
    assert scored[-1].done == scored[-1].total == found.n_tokens
    for field in dataclasses.fields(found):
        expected = getattr(whole, field.name)
        if field.name in ("created", "evaluate_seconds", "tokens_per_second"):
            continue
        if isinstance(expected, float):
            assert getattr(found, field.name) == pytest.approx(expected, rel=1e-12)
        else:
            assert getattr(found, field.name) == expected


@pytest.mark.parametrize("species", ["unigram", "markov", "ngram", "class-ngram", "skip-ngram"])
def test_a_long_document_is_scored_in_pieces_with_the_scores_of_the_whole(
    species: str, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = load_corpus(corpus_folder)
    predictor = Predictor.fit(species, corpus, tokenizer="bpe:300", seed=3)
    joined = "\n".join(document.text for document in corpus.train)
    text = MeasuredText.of_documents("long and short", [*corpus.test, Document("long", joined), *corpus.valid])
    whole = lmzoo.evaluate(predictor, text, scores=tmp_path / "whole")
    monkeypatch.setattr(token_sums, "_PART_TOKENS", 300)
    monkeypatch.setattr(growing, "MEMORY_BYTES", 1000)
    sizes: list[int] = []
    score = predictor.model.token_stats

    def observed(ids: Any, *arguments: Any, **options: Any) -> TokenStats:
        sizes.append(len(ids))
        return score(ids, *arguments, **options)

    monkeypatch.setattr(predictor.model, "token_stats", observed)
    found = lmzoo.evaluate(predictor, text, scores=tmp_path / "pieces")
    assert max(sizes) <= 300 + (predictor.model.context_size or 0)
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()
    for field in dataclasses.fields(found):
        if field.name not in ("created", "evaluate_seconds", "tokens_per_second"):
            assert getattr(found, field.name) == getattr(whole, field.name)
