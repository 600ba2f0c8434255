"""`compare`: results, reuse and failures."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_runs import SPECIES, figures

from lmzoo import Predictor, zoo
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus
from lmzoo.errors import SavedModelError, UsageError
from lmzoo.evaluation.records import read_records
from lmzoo.evaluation.scores import load_scores
from lmzoo.experiments.compare import compare
from lmzoo.experiments.fitting import Fit
from lmzoo.experiments.run_folder import scores_path

REQUEST: dict[str, Any] = {"species": ["unigram"], "tokenizer": "byte"}


@pytest.fixture(scope="module")
def unigram_run(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one small model; tests that change the folder copy it first."""
    folder = tmp_path_factory.mktemp("runs") / "unigram"
    assert not compare(folder, corpus=corpus_folder, **REQUEST).failures
    return folder


def test_context_helps(run: Path) -> None:
    uniform, unigram, markov = (record.bits_per_byte or 0 for record in read_records(run / "results.jsonl"))
    assert uniform > unigram > markov > 0


def test_uniform_is_exact(run: Path) -> None:
    record = read_records(run / "results.jsonl")[0]
    assert record.total_nats == pytest.approx(record.n_tokens * math.log(record.vocab_size))
    assert record.bits_per_byte == pytest.approx(record.n_tokens * math.log2(record.vocab_size) / record.n_bytes)
    assert record.perplexity_per_token == pytest.approx(record.vocab_size)


def test_figures_are_those_of_the_text(run: Path, corpus_folder: Path) -> None:
    from lmzoo import load_corpus
    from lmzoo.tokenizers.words import count_words

    texts = [document.text for document in load_corpus(corpus_folder).test]
    record = read_records(run / "results.jsonl")[2]
    assert record.n_bytes == sum(len(text.encode()) for text in texts)
    assert record.n_words == sum(count_words(text) for text in texts)
    assert record.n_documents == len(texts)
    predictor = Predictor.load(run / "predictors" / "markov")
    bits = sum(surprisal.surprisal_bits for text in texts for surprisal in predictor.surprisals(text))
    assert record.bits_per_byte == pytest.approx(bits / record.n_bytes)


def test_scores_are_kept_and_intervals_hold_the_figure(run: Path) -> None:
    encoded = EncodedCorpus.load(run / "encoded")
    record = read_records(run / "results.jsonl")[2]
    stats = load_scores(run / "scores" / "markov" / "test.safetensors", record.n_tokens)
    expected = Predictor.load(run / "predictors" / "markov").model.token_stats(encoded.test.stream)
    for name in ("log_probs", "ranks", "entropies", "top_log_probs"):
        np.testing.assert_allclose(getattr(stats, name), getattr(expected, name), rtol=1e-6)
    assert record.bits_per_byte_low < record.bits_per_byte < record.bits_per_byte_high
    with pytest.raises(SavedModelError):
        load_scores(run / "scores" / "markov" / "test.safetensors", record.n_tokens + 1)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"half")], ids=["gone", "damaged"])
def test_scores_are_made_again_and_nothing_is_fitted(
    damage: Callable[[Path], Any], unigram_run: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(unigram_run, tmp_path / "run")
    (first,) = read_records(folder / "results.jsonl")
    damage(scores_path(folder, "unigram", "test"))
    second = compare(folder, corpus=corpus_folder, **REQUEST)
    assert not second.outcomes[0].reused
    load_scores(scores_path(folder, "unigram", "test"), first.n_tokens)
    assert second.records[0].fit_seconds == first.fit_seconds
    assert compare(folder, corpus=corpus_folder, **REQUEST).outcomes[0].reused


def test_a_second_run_reuses_everything(run: Path, corpus_folder: Path) -> None:
    before = (run / "results.jsonl").read_bytes()
    comparison = compare(run, species=SPECIES, corpus=corpus_folder, tokenizer="bpe:300")
    assert all(outcome.reused for outcome in comparison.outcomes)
    assert (run / "results.jsonl").read_bytes() == before


def test_other_settings_are_fitted_again(unigram_run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(unigram_run, tmp_path / "run")
    (first,) = read_records(folder / "results.jsonl")
    second = compare(folder, corpus=corpus_folder, **REQUEST, settings={"unigram": {"alpha": 100.0}})
    assert not second.outcomes[0].reused
    assert figures(first) != figures(second.records[0])
    assert len(read_records(folder / "results.jsonl")) == 1


def test_a_run_folder_belongs_to_one_request(run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a run with tokenizer 'bpe:300', not 'byte': choose another folder"):
        compare(run, species=SPECIES, corpus=corpus_folder, tokenizer="byte")
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files"):
        compare(tmp_path, species=SPECIES, corpus=corpus_folder)


def test_typos_show_before_any_work(corpus_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'lstm'"):
        compare(tmp_path / "run", species=["unigram", "lsmt"], corpus=corpus_folder)
    with pytest.raises(UsageError, match="unknown budget 'quik': did you mean 'quick'"):
        compare(tmp_path / "run", budget="quik", corpus=corpus_folder)
    with pytest.raises(UsageError, match="not among the species"):
        compare(tmp_path / "run", species=["unigram"], settings={"lstm": {}}, corpus=corpus_folder)
    with pytest.raises(UsageError, match="seeds must be a whole number of at least 1, got 0"):
        compare(tmp_path / "run", seeds=0, corpus=corpus_folder)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"settings": {"unigram": {"alpha": -1}}}, "unigram: alpha must be a finite number above 0, got -1"),
        ({"settings": {"unigram": {"alpha": "one"}}}, "unigram: alpha must be"),
        ({"sweeps": {"hmm": {"n_states": [2, "8x"]}}}, "hmm,n_states=8x: n_states must be a whole number"),
        ({"sweeps": {"rnn": {"training.tokns": [5]}}}, "rnn,training.tokns=5: .*did you mean 'tokens'"),
        ({"sweeps": {"rnn": {"training.tokens": ["many"]}}}, "rnn,training.tokens=many: tokens must be"),
    ],
)
def test_wrong_settings_show_before_any_work(
    wrong: dict[str, Any], message: str, corpus_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        compare(tmp_path / "run", species=["unigram"], corpus=corpus_folder, **wrong)
    assert not (tmp_path / "run").exists()


def test_one_failure_leaves_the_rest(unlucky: str, corpus_folder: Path, tmp_path: Path) -> None:
    comparison = compare(tmp_path / "run", species=[unlucky, "markov"], corpus=corpus_folder, tokenizer="byte")
    assert [outcome.name for outcome in comparison.failures] == [unlucky]
    assert "bad luck" in comparison.failures[0].error
    assert [record.species for record in comparison.records] == ["markov"]
    assert not (tmp_path / "run" / "predictors" / unlucky).exists()


def test_a_species_of_this_process_takes_part(corpus_folder: Path, tmp_path: Path) -> None:
    card = zoo.Card("louder-unigram", "lmzoo.models.baselines:unigram", "Mine", 2026, "-", "-", "-", "-", "-", "-")
    zoo.register(card)
    try:
        comparison = compare(tmp_path / "run", species=[card.name], corpus=corpus_folder, tokenizer="byte")
        assert [record.species for record in comparison.records] == [card.name]
    finally:
        del zoo._registered[card.name]


def test_lossy_tokenizers_have_no_bits_per_byte(corpus_folder: Path, tmp_path: Path) -> None:
    record = compare(tmp_path / "run", species=["unigram"], corpus=corpus_folder, tokenizer="word:2").records[0]
    assert not record.lossless
    assert record.bits_per_byte is None
    assert record.perplexity_per_token is not None


def test_encoded_corpus_survives_saving(run: Path, corpus_folder: Path) -> None:
    from lmzoo import load_corpus

    loaded = EncodedCorpus.load(run / "encoded")
    fresh = encode_corpus(load_corpus(corpus_folder), loaded.tokenizer)
    for split in ("train", "valid", "test"):
        assert (getattr(loaded, split).stream.ids == getattr(fresh, split).stream.ids).all()
        assert (getattr(loaded, split).document_bytes == getattr(fresh, split).document_bytes).all()
    assert (loaded.name, loaded.fingerprint, loaded.protocol) == (fresh.name, fresh.fingerprint, fresh.protocol)
    decoded = loaded.tokenizer.decode(next(loaded.test.stream.documents()))
    assert decoded == load_corpus(corpus_folder).test[0].text


def test_each_network_gets_a_gpu_of_a_cluster() -> None:
    fits = {name: Fit(Path(), zoo.card(name), "", {}, 0, "cuda") for name in ("lstm", "low-rank-hmm", "hmm")}
    assert {name: fit.n_gpus for name, fit in fits.items()} == {"lstm": 1, "low-rank-hmm": 1, "hmm": 0}
