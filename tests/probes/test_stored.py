"""Probes as files of a run folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from shared_runs import SETTINGS, SPECIES

from lmzoo import Predictor
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import SavedModelError
from lmzoo.evaluation.ranking import entries
from lmzoo.evaluation.records import read_records
from lmzoo.experiments.compare import compare
from lmzoo.experiments.stored_ensemble import load_ensemble, measure_ensemble
from lmzoo.models.hidden_states import HasHiddenStates
from lmzoo.probes.context_use import context_use
from lmzoo.probes.gradient_flow import gradient_flow
from lmzoo.probes.stored import SAMPLE_SEED, are_stored, load_probes, measure, probes_path
from lmzoo.report import write_report


def test_a_run_stores_what_the_probes_measure(run_folder: Path) -> None:
    encoded = EncodedCorpus.load(run_folder / "encoded")
    for name in SPECIES:
        predictor, stored = Predictor.load(run_folder / "predictors" / name), load_probes(probes_path(run_folder, name))
        context = context_use(predictor.model, encoded.valid.stream)
        assert stored.context is not None
        for array in ("positions", "documents", "whole", "cut", "shuffled"):
            np.testing.assert_allclose(getattr(stored.context, array), getattr(context, array), rtol=1e-4, atol=1e-6)
        assert (stored.gradients is not None) == (name == "rnn")
        if stored.gradients is not None:
            norms = gradient_flow(predictor.model, encoded.valid.stream).norms
            np.testing.assert_allclose(stored.gradients.norms, norms, rtol=1e-4, atol=1e-9)
        said = stored.predictions
        assert encoded.tokenizer.decode(next(encoded.valid.stream.documents())).startswith(said.prompt.split()[0])
        expected = predictor.top_tokens(said.prompt, 5)
        assert [token for token, _ in said.next_tokens] == [token for token, _ in expected]
        assert said.n_states == len(said.states) == (SETTINGS["hmm"]["n_states"] if name == "hmm" else 0)
        if isinstance(predictor.model, HasHiddenStates):
            masses = [state.summary.mass for state in said.states]
            assert masses == sorted(masses, reverse=True)
    assert SAMPLE_SEED == 0


@pytest.mark.slow
def test_an_old_run_is_completed_without_training(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    before = {record.name: record.total_nats for record in read_records(folder / "results.jsonl")}
    saved = (folder / "predictors" / "rnn" / "arrays.safetensors").stat().st_mtime_ns
    shutil.rmtree(folder / "probes")
    (folder / "ensemble.json").unlink()
    write_report(folder)
    for name in ("report.md", "report.html"):
        page = (folder / name).read_text(encoding="utf-8")
        assert "Measurements that are missing" in page
        assert "no model is trained again" in page
        for section in ("One prompt", "How far gradients", "How much context", "All models combined", "Inside the"):
            assert section not in page
    corpus = json.loads((folder / "run.json").read_text(encoding="utf-8"))["corpus"]
    again = compare(folder, species=SPECIES, corpus=corpus, tokenizer="bpe:300", settings=SETTINGS)
    assert not again.failures
    assert {record.name: record.total_nats for record in again.records} == before
    assert (folder / "predictors" / "rnn" / "arrays.safetensors").stat().st_mtime_ns == saved
    assert all(are_stored(probes_path(folder, name)) for name in SPECIES)
    write_report(folder)
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "Measurements that are missing" not in page
    assert "All models combined" in page


def test_the_ensemble_belongs_to_its_records(run_folder: Path) -> None:
    records = entries(read_records(run_folder / "results.jsonl"))
    stored = load_ensemble(run_folder, records)
    assert stored is not None
    assert {member.name for member in stored.members} == set(SPECIES) - {"cache"}, "a cache learns from the test text"
    assert sum(member.weight for member in stored.members) == pytest.approx(1)
    assert sum(member.constant_weight for member in stored.members) == pytest.approx(1)
    assert load_ensemble(run_folder, records[1:]) is None
    path = run_folder / "ensemble.json"
    written = path.stat().st_mtime_ns
    measure_ensemble(run_folder, records, EncodedCorpus.load(run_folder / "encoded"))
    assert path.stat().st_mtime_ns == written, "nothing is computed twice"


def test_documents_too_short_for_context(corpus_folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(f'{{"text": "{letter}"}}\n' for letter in "abcdefghij" * 3), encoding="utf-8")
    predictor = Predictor.fit("unigram", corpus, tokenizer="char")
    from lmzoo.corpora import load_corpus
    from lmzoo.corpora.encoded import encode_corpus

    measure(predictor, encode_corpus(load_corpus(corpus), predictor.tokenizer), tmp_path / "probes")
    stored = load_probes(tmp_path / "probes")
    assert stored.context is None
    assert stored.gradients is None


def test_damaged_files_are_named(run_folder: Path, tmp_path: Path) -> None:
    home = shutil.copytree(probes_path(run_folder, "rnn"), tmp_path / "rnn")
    (home / "gradients.safetensors").write_bytes(b"damaged")
    with pytest.raises(SavedModelError, match=r"gradients.safetensors is damaged"):
        load_probes(home)
    (home / "predictions.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SavedModelError, match=r"predictions.json is damaged"):
        load_probes(home)
    (home / "predictions.json").unlink()
    with pytest.raises(SavedModelError, match=r"predictions.json is missing"):
        load_probes(home)
