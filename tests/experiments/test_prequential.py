"""Prequential coding: lengths against independent loops, runs and records."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prequential_runs import prequential, record_of, stops_of, texts_of

from lmzoo import zoo
from lmzoo.errors import ConfigurationError, SavedModelError, UsageError
from lmzoo.evaluation.code_records import CodeRecord, read_code_records
from lmzoo.evaluation.records import write_records
from lmzoo.experiments.blocks import training_data
from lmzoo.experiments.budgets import as_assignments, scaled
from lmzoo.experiments.compressors import COMPRESSORS
from lmzoo.experiments.plan import RunPlan
from lmzoo.experiments.prequential import RECORDS
from lmzoo.experiments.result import RunResult
from lmzoo.report.prequential import ranked, rows, write_report
from lmzoo.stream import TokenStream
from lmzoo.tokenizers import train_tokenizer

V = 257
"""The bytes and the end of text."""


SMALL: dict[str, dict[str, Any]] = {
    "hmm": {"n_states": 4, "n_iterations": 3},
    "class-hmm": {"n_states": 16, "n_classes": 8},
    "low-rank-hmm": {"n_states": 16, "rank": 4},
    "transformer-2017": {"d_model": 16, "n_layers": 1},
    "gpt2": {"d_model": 16, "n_layers": 1},
    "transformer": {"d_model": 16, "n_layers": 1},
    **{
        name: {"settings": {"d_model": 16, "n_layers": 1, "training": {"tokens": 200, "batch_size": 2}}}
        for name in ("gpt-3.5", "chat", "gpt-4")
    },
}


def as_ids(texts: list[str]) -> list[list[int]]:
    tokenizer = train_tokenizer("byte", [])
    return [[*tokenizer.encode(text).tolist(), 0] for text in texts]


def test_uniform_is_exact(coding: RunResult[CodeRecord], corpus_folder: Path) -> None:
    n_tokens = sum(map(len, as_ids(texts_of(corpus_folder))))
    record = record_of(coding, "uniform")
    assert record.total_bits == pytest.approx(64 + n_tokens * math.log2(V))
    n_bytes = sum(len(text.encode()) for text in texts_of(corpus_folder))
    assert record.n_bytes == sum(record.block_bytes) == n_bytes
    assert record.bits_per_byte == pytest.approx(record.total_bits / n_bytes)
    assert n_tokens == n_bytes + record.n_documents


@pytest.mark.parametrize("species", ["markov", "ngram"])
def test_lengths_are_sums_of_surprisals(coding: RunResult[CodeRecord], corpus_folder: Path, species: str) -> None:
    """A decoder predicts one token at a time, from the model of the earlier blocks and the document so far."""
    documents = as_ids(texts_of(corpus_folder))
    record = record_of(coding, species)
    bits, start = 64.0, 0
    for stop in stops_of(list(map(len, documents)), 2):
        past = [token_id for document in documents[:start] for token_id in document]
        if past:
            split = training_data(TokenStream(np.array(past)))
            assert [*split.train.ids.tolist(), *split.valid.ids.tolist()] == past
            model = zoo.create(species, V, **record.settings).fit(split)
        else:
            model = zoo.create("uniform", V).fit(training_data(TokenStream(np.array(documents[0]))))
        for document in documents[start:stop]:
            for position, token_id in enumerate(document):
                bits -= model.predict_distribution(document[:position]).log_prob(token_id) / math.log(2)
        start = stop
    assert record.total_bits == pytest.approx(bits, rel=1e-8)


def test_unigram_by_counting(coding: RunResult[CodeRecord], corpus_folder: Path) -> None:
    """Computes P(w) = (c(w) + alpha) / (n + alpha V) from counts of the train split, without lmzoo's models."""
    alpha = zoo.defaults("unigram")["alpha"]
    documents = as_ids(texts_of(corpus_folder))
    bits, start = 64.0, 0
    for stop in stops_of(list(map(len, documents)), 2):
        present = [token_id for document in documents[start:stop] for token_id in document]
        sizes = list(map(len, documents[:start]))
        if not start:
            bits += len(present) * math.log2(V)
        else:
            # Valid are the documents from the one in which the last tenth begins, or that tenth if they are too many.
            tenth = sum(sizes) * 9 // 10
            first = max(number for number in range(start) if sum(sizes[:number]) <= tenth)
            cut = sum(sizes[:first]) if 2 * sum(sizes[:first]) > sum(sizes) else tenth
            counts = Counter([token_id for document in documents[:start] for token_id in document][:cut])
            bits -= sum(math.log2((counts[token_id] + alpha) / (cut + alpha * V)) for token_id in present)
        start = stop
    assert record_of(coding, "unigram").total_bits == pytest.approx(bits)


def test_a_model_that_learns_after_every_token(corpus_folder: Path, tmp_path: Path) -> None:
    """The predictions are (c + 1) / (t + V), and their product is prod c_w! / (V (V + 1) .. (V + T - 1)).

    The length does not depend on the blocks, which only divide it.
    """
    card = zoo.Card("laplace", "online_species:laplace_unigram", "Mine", 2026, "-", "-", "-", "-", "-", "-")
    counts = Counter(token_id for document in as_ids(texts_of(corpus_folder)) for token_id in document)
    nats = math.lgamma(V + counts.total()) - math.lgamma(V) - sum(math.lgamma(c + 1) for c in counts.values())
    zoo.register(card)
    try:
        for growth in (2.0, 4.0):
            folder = tmp_path / str(growth)
            done = prequential(folder, species=["laplace", "markov"], corpus=corpus_folder, growth=growth)
            record, other = record_of(done, "laplace"), record_of(done, "markov")
            assert record.total_bits == pytest.approx(64 + nats / math.log(2))
            assert record.block_bytes == other.block_bytes
            assert len(record.block_nats) == len(record.block_bytes)
            assert (record.online, other.online) == (True, False)
            assert len(record.block_seconds) == 1
        again = prequential(folder, species=["laplace"], corpus=corpus_folder, growth=growth)
        assert again.outcomes[0].reused
    finally:
        del zoo._registered[card.name]
    pages = [path.read_text(encoding="utf-8") for path in write_report(folder)]
    assert all(re.search("Learn after every token, in one pass: .*laplace", page) for page in pages)


def test_later_blocks_are_shorter(coding: RunResult[CodeRecord]) -> None:
    first, *others = record_of(coding, "ngram").block_bits_per_byte
    assert first == pytest.approx(8.0, abs=0.1)
    assert others[-1] < others[0] / 2
    lengths = [record_of(coding, name).total_bits or 0 for name in ("uniform", "unigram", "markov", "ngram")]
    assert lengths == sorted(lengths, reverse=True)


def test_an_alphabet_is_part_of_the_length(corpus_folder: Path, tmp_path: Path) -> None:
    done = prequential(tmp_path / "run", species=["uniform"], corpus=corpus_folder, tokenizer="char")
    record = record_of(done, "uniform")
    texts = texts_of(corpus_folder)
    alphabet = set("".join(texts))
    n_tokens = sum(len(text) + 1 for text in texts)
    assert record.header_bits == 64 + 21 * (len(alphabet) + 1)
    assert record.total_bits == pytest.approx(record.header_bits + n_tokens * math.log2(V + len(alphabet)))


def test_a_token_of_probability_0_has_no_length(corpus_folder: Path, tmp_path: Path) -> None:
    done = prequential(
        tmp_path / "run",
        species=["ngram", "unigram"],
        corpus=corpus_folder,
        settings={"ngram": {"smoothing": "mle", "order": 3}},
    )
    record = record_of(done, "ngram")
    assert (record.total_bits, record.bits_per_byte) == (None, None)
    assert record.n_impossible > 0
    assert None in record.block_nats
    assert "Infinity" not in (tmp_path / "run" / RECORDS).read_text(encoding="utf-8")
    assert ranked(done.records)[-1] == record
    assert rows(done.records)[-1][:3] == ["ngram", "–", "–"]
    write_report(done.folder)


@pytest.mark.slow
def test_same_seed_same_length(coding: RunResult[CodeRecord], corpus_folder: Path, tmp_path: Path) -> None:
    settings = {name: record_of(coding, name).settings for name in ("rnn", "ngram")}

    def nats(seed: int) -> list[list[float | None]]:
        done = prequential(
            tmp_path / str(seed), species=list(settings), corpus=corpus_folder, settings=settings, seed=seed
        )
        return [record_of(done, name).block_nats for name in settings]

    same, other = nats(0), nats(1)
    assert same == [record_of(coding, name).block_nats for name in settings]
    assert same[0] != other[0]
    assert same[1] == other[1]


@pytest.mark.parametrize("species", zoo.built_in_names())
def test_every_species_learns_from_little(species: str) -> None:
    """The text before the block is one document, and its beginning is the train split."""
    ids = np.array(as_ids(["The cat that I saw was near the river.\n" * 8])[0])
    split = training_data(TokenStream(ids))
    assert split.train.ids[-1] != 0
    settings = dict(SMALL.get(species, {}))
    if "training" in zoo.defaults(species):
        settings["training"] = {"tokens": 200, "batch_size": 2}
    model = zoo.create(species, V, **settings).fit(split)
    log_probs = model.log_probs(TokenStream(np.array(as_ids(["Zebras, too."])[0])))
    assert np.isfinite(log_probs).all()


@pytest.mark.slow
def test_killed_and_started_again(coding: RunResult[CodeRecord], corpus_folder: Path, tmp_path: Path) -> None:
    """After kill -9, finished blocks are kept, and the results are those of a run that was not killed."""
    peaceful = record_of(coding, "rnn")
    command = [sys.executable, "-m", "lmzoo", "prequential", "--corpus", str(corpus_folder), "--species", "rnn"]
    for name, value in as_assignments(peaceful.settings).items():
        command += ["--set", f"rnn.{name}={value}"]
    command += ["--json", "--out", str(tmp_path / "run")]
    kept = tmp_path / "run" / "blocks" / "rnn.json"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (kept.exists() and len(json.loads(kept.read_text())["blocks"]) >= 2):
            assert process.poll() is None, "it must not be done before it is killed"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    before = json.loads(kept.read_text())["blocks"]
    assert not (tmp_path / "run" / RECORDS).exists() or all(
        record.name != "rnn" for record in read_code_records(tmp_path / "run" / RECORDS)
    )
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    (found,) = [CodeRecord(**line) for line in map(json.loads, finished.stdout.splitlines()) if line["name"] == "rnn"]
    assert found.block_nats == peaceful.block_nats
    seconds = [round(block["seconds"], 3) for block in before]
    assert found.block_seconds[: len(before)] == seconds, "a block that is done is not fitted again"
    assert not list((tmp_path / "run").rglob("*.tmp"))
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_a_second_run_reuses_everything(coding: RunResult[CodeRecord], corpus_folder: Path) -> None:
    before = (coding.folder / RECORDS).read_bytes()
    again = prequential(coding.folder, species=["markov", "ngram"], corpus=corpus_folder)
    assert all(outcome.reused for outcome in again.outcomes)
    assert (coding.folder / RECORDS).read_bytes() == before


def test_other_settings_are_fitted_again(corpus_folder: Path, tmp_path: Path) -> None:
    first, second = (
        prequential(tmp_path, species=["ngram"], corpus=corpus_folder, settings={"ngram": {"order": order}})
        for order in (2, 3)
    )
    assert not second.outcomes[0].reused
    assert record_of(first, "ngram").block_nats != record_of(second, "ngram").block_nats
    names = [record.name for record in read_code_records(tmp_path / RECORDS)]
    assert sorted(names) == sorted(["ngram", *(compressor.name for compressor in COMPRESSORS)])


def test_a_failure_leaves_the_rest(unlucky: str, corpus_folder: Path, tmp_path: Path) -> None:
    done = prequential(tmp_path, species=[unlucky, "markov"], corpus=corpus_folder)
    assert [outcome.name for outcome in done.failures] == [unlucky]
    assert "bad luck" in done.failures[0].error
    assert record_of(done, "markov").total_bits


def test_wrong_requests_show_before_any_work(
    coding: RunResult[CodeRecord], corpus_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UsageError, match="did you mean 'lstm'"):
        prequential(folder, species=["lsmt"], corpus=corpus_folder)
    with pytest.raises(
        ConfigurationError, match=r"got 'bpe:4096': a vocabulary .* would be part of the compressed text"
    ):
        prequential(folder, tokenizer="bpe:4096", corpus=corpus_folder)
    with pytest.raises(ConfigurationError, match=r"growth must be a finite number of at least 1\.01, got 1"):
        prequential(folder, growth=1.0, corpus=corpus_folder)
    with pytest.raises(UsageError, match="not among the species"):
        prequential(folder, species=["unigram"], settings={"lstm": {}}, corpus=corpus_folder)
    with pytest.raises(UsageError, match="unigram: alpha must be a finite number above 0, got -1"):
        prequential(folder, species=["unigram"], settings={"unigram": {"alpha": -1}}, corpus=corpus_folder)
    assert not folder.exists()
    with pytest.raises(UsageError, match=r"holds a run with growth 2\.0, not 3\.0"):
        prequential(coding.folder, growth=3.0, corpus=corpus_folder)


@pytest.mark.parametrize("species", zoo.built_in_names())
def test_settings_for_bytes_make_every_species(species: str) -> None:
    settings = scaled(RunPlan().settings_of(species, "bytes"), lambda tokens: tokens // 32)
    assert zoo.create(species, V, **settings).vocab_size == V


def test_records_survive_and_name_damaged_lines(coding: RunResult[CodeRecord], tmp_path: Path) -> None:
    records = read_code_records(coding.folder / RECORDS)
    assert {record.name for record in records} == {record.name for record in coding.records}
    write_records(tmp_path / "copy.jsonl", records)
    assert read_code_records(tmp_path / "copy.jsonl") == records
    with (tmp_path / "copy.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"name": "half')
    with pytest.raises(SavedModelError, match=rf"copy.jsonl:{len(records) + 1} is not a record"):
        read_code_records(tmp_path / "copy.jsonl")


def test_a_species_of_this_process_takes_part(corpus_folder: Path, tmp_path: Path) -> None:
    card = zoo.Card("louder-unigram", "lmzoo.models.baselines:unigram", "Mine", 2026, "-", "-", "-", "-", "-", "-")
    zoo.register(card)
    try:
        done = prequential(tmp_path / "run", species=[card.name], corpus=corpus_folder)
        assert record_of(done, card.name).total_bits
    finally:
        del zoo._registered[card.name]
