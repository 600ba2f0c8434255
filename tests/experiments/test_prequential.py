"""Prequential coding: lengths against independent loops, blocks, compressors, resuming, table and pages."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
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
from hypothesis import given
from hypothesis import strategies as st

from lmzoo import load_corpus, zoo
from lmzoo.cli import run
from lmzoo.errors import ConfigurationError, SavedModelError, UsageError
from lmzoo.evaluation.records import CodeRecord, read_code_records, write_records
from lmzoo.experiments.blocks import Block, cut_into_blocks, training_data
from lmzoo.experiments.budgets import scaled
from lmzoo.experiments.compressors import COMPRESSORS
from lmzoo.experiments.plan import RunPlan
from lmzoo.experiments.prequential import RECORDS, SEPARATOR
from lmzoo.experiments.prequential import prequential as run_prequential
from lmzoo.experiments.result import RunResult
from lmzoo.report import charts
from lmzoo.report.prequential import HEADER, ranked, rows, write_report
from lmzoo.stream import TokenStream
from lmzoo.tokenizers import train_tokenizer

V = 257
"""The bytes and the end of text."""
SMALL = {
    "hmm": {"n_states": 4, "n_iterations": 3},
    "class-hmm": {"n_states": 16, "n_classes": 8},
    "low-rank-hmm": {"n_states": 16, "rank": 4},
    "transformer-2017": {"d_model": 16, "n_layers": 1},
    "gpt2": {"d_model": 16, "n_layers": 1},
    "transformer": {"d_model": 16, "n_layers": 1},
}


def prequential(folder: Path, *, growth: float = 2.0, **plan: Any) -> RunResult[CodeRecord]:
    return run_prequential(folder, RunPlan(**plan), growth=growth)


def texts_of(folder: Path) -> list[str]:
    corpus = load_corpus(folder)
    return [document.text for split in (corpus.train, corpus.valid, corpus.test) for document in split]


def as_ids(texts: list[str]) -> list[list[int]]:
    tokenizer = train_tokenizer("byte", [])
    return [[*tokenizer.encode(text).tolist(), 0] for text in texts]


def stops_of(sizes: list[int], growth: float) -> list[int]:
    """How many documents there are up to the end of each block, found one document at a time."""
    total = sum(sizes)
    shares = [1.0]
    while shares[-1] > 1 / 1024:
        shares.append(shares[-1] / growth)
    stops = []
    for share in reversed(shares):
        seen, number = 0, 0
        while seen < min(total, max(256, share * total)):
            seen += sizes[number]
            number += 1
        if number not in stops:
            stops.append(number)
    return stops


@pytest.fixture(scope="module")
def coding(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult[CodeRecord]:
    folder = tmp_path_factory.mktemp("prequential") / "run"
    training = {"tokens": 3000, "batch_size": 4, "chunk_size": 16}
    done = prequential(
        folder,
        species=["uniform", "unigram", "markov", "ngram", "rnn"],
        corpus=corpus_folder,
        settings={"rnn": {"d_embed": 8, "d_hidden": 16, "training": training}},
        command="lmzoo prequential",
    )
    assert not done.failures
    return done


def record_of(coding: RunResult[CodeRecord], name: str) -> CodeRecord:
    return next(record for record in coding.records if record.name == name)


# ---- The code ----------------------------------------------------------------------------------------


def test_uniform_is_exact(coding: RunResult[CodeRecord], corpus_folder: Path) -> None:
    n_tokens = sum(map(len, as_ids(texts_of(corpus_folder))))
    record = record_of(coding, "uniform")
    assert record.total_bits == pytest.approx(64 + n_tokens * math.log2(V))
    n_bytes = sum(len(text.encode()) for text in texts_of(corpus_folder))
    assert record.n_bytes == sum(record.block_bytes) == n_bytes
    assert record.bits_per_byte == pytest.approx(record.total_bits / n_bytes)
    assert n_tokens == n_bytes + record.n_documents


@pytest.mark.parametrize("species", ["markov", "ngram"])
def test_the_code_is_what_predictions_of_the_past_cost(
    coding: RunResult[CodeRecord], corpus_folder: Path, species: str
) -> None:
    """One token at a time: whoever decodes has the model of the blocks before, and the document so far."""
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
    """Nothing of the package's models: P(w) = (c(w) + alpha) / (n + alpha V) with the counts of train."""
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


def test_learning_pays_block_by_block(coding: RunResult[CodeRecord]) -> None:
    first, *others = record_of(coding, "ngram").block_bits_per_byte
    assert first == pytest.approx(8.0, abs=0.1)
    assert others[-1] < others[0] / 2
    lengths = [record_of(coding, name).total_bits or 0 for name in ("uniform", "unigram", "markov", "ngram")]
    assert lengths == sorted(lengths, reverse=True)


def test_an_alphabet_is_part_of_the_code(corpus_folder: Path, tmp_path: Path) -> None:
    done = prequential(tmp_path / "run", species=["uniform"], corpus=corpus_folder, tokenizer="char")
    record = record_of(done, "uniform")
    texts = texts_of(corpus_folder)
    alphabet = set("".join(texts))
    n_tokens = sum(len(text) + 1 for text in texts)
    assert record.header_bits == 64 + 21 * (len(alphabet) + 1)
    assert record.total_bits == pytest.approx(record.header_bits + n_tokens * math.log2(V + len(alphabet)))


def test_what_is_impossible_has_no_code(corpus_folder: Path, tmp_path: Path) -> None:
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


def test_same_seed_same_code(coding: RunResult[CodeRecord], corpus_folder: Path, tmp_path: Path) -> None:
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


# ---- Blocks ------------------------------------------------------------------------------------------


def stream_of(sizes: list[int]) -> TokenStream:
    """Documents of so many tokens, their ends included."""
    return TokenStream.from_documents([np.ones(size - 1, np.int32) for size in sizes])


def test_blocks_double() -> None:
    # Of 2,048 tokens in documents of 128 the first block has the least size, 256 tokens, and 254 bytes of text.
    blocks = cut_into_blocks(stream_of([128] * 16), np.full(16, 127), 2.0)
    assert blocks == [Block(0, 256, 254), Block(256, 512, 254), Block(512, 1024, 508), Block(1024, 2048, 1016)]
    # Documents end at 300, 700, 1000: 256 is reached at 300, 500 at 700, 1000 at 1000.
    blocks = cut_into_blocks(stream_of([300, 400, 300]), np.array([299, 399, 299]), 2.0)
    assert blocks == [Block(0, 300, 299), Block(300, 700, 399), Block(700, 1000, 299)]


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60), st.floats(1.01, 5))
def test_blocks_are_runs_of_documents(sizes: list[int], growth: float) -> None:
    blocks = cut_into_blocks(stream_of(sizes), np.array(sizes) - 1, growth)
    ends = np.cumsum(sizes).tolist()
    assert [block.start for block in blocks] == [0, *(block.stop for block in blocks[:-1])]
    assert [ends.index(block.stop) + 1 for block in blocks] == stops_of(sizes, growth)
    assert blocks[-1].stop == ends[-1]
    assert sum(block.n_bytes for block in blocks) == sum(sizes) - len(sizes)


@pytest.mark.parametrize(
    ("sizes", "cut"),
    [
        ([60, 30, 5, 5], 90),  # a document starts where the last tenth does
        ([60, 28, 12], 88),  # one starts a little before
        ([60, 40], 60),
        ([40, 60], 90),  # from the start of the last document on it would be more than half
        ([100], 90),
    ],
)
def test_the_last_tenth_is_valid(sizes: list[int], cut: int) -> None:
    split = training_data(stream_of(sizes))
    assert (len(split.train), len(split.valid)) == (cut, 100 - cut)


@pytest.mark.parametrize("species", zoo.built_in_names())
def test_every_species_learns_from_little(species: str) -> None:
    """A past of one document, of which train is the unfinished beginning."""
    ids = np.array(as_ids(["The cat that I saw was near the river.\n" * 8])[0])
    split = training_data(TokenStream(ids))
    assert split.train.ids[-1] != 0
    settings = dict(SMALL.get(species, {}))
    if "training" in zoo.defaults(species):
        settings["training"] = {"tokens": 200, "batch_size": 2}
    model = zoo.create(species, V, **settings).fit(split)
    log_probs = model.log_probs(TokenStream(np.array(as_ids(["Zebras, too."])[0])))
    assert np.isfinite(log_probs).all()


# ---- Compressors -------------------------------------------------------------------------------------


def test_compressors_get_the_same_text(coding: RunResult[CodeRecord], corpus_folder: Path) -> None:
    texts = texts_of(corpus_folder)
    data = SEPARATOR.join(text.encode() for text in texts)
    assert not any(SEPARATOR in text.encode() for text in [*texts, "ÿ\U0010ffff"])
    for name, size in {
        "gzip": len(gzip.compress(data, 9)),
        "bzip2": len(bz2.compress(data, 9)),
        "xz": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }.items():
        record = record_of(coding, name)
        assert record.kind == "compressor"
        assert record.total_bits == pytest.approx(8 * size)
        assert record.bits_per_byte == pytest.approx(8 * size / sum(len(text.encode()) for text in texts))


def test_compressors_lose_nothing(corpus_folder: Path) -> None:
    pyppmd, zstandard = pytest.importorskip("pyppmd"), pytest.importorskip("zstandard")
    data = SEPARATOR.join(text.encode() for text in texts_of(corpus_folder))
    back = {
        "gzip": gzip.decompress,
        "bzip2": bz2.decompress,
        "xz": lzma.decompress,
        "zstd": lambda code: zstandard.ZstdDecompressor().decompress(code),
        "ppmd-6": lambda code: pyppmd.decompress(code, max_order=6, mem_size=1 << 20, variant="I"),
        "ppmd-16": lambda code: pyppmd.decompress(code, max_order=16, mem_size=1 << 20, variant="I"),
    }
    assert set(back) == {compressor.name for compressor in COMPRESSORS}
    for compressor in COMPRESSORS:
        assert back[compressor.name](compressor.compress(data)) == data


def test_a_missing_compressor_is_left_out_with_the_reason(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    done = prequential(tmp_path / "run", species=["uniform"], corpus=corpus_folder)
    assert not done.failures
    reason = "compressing with PPMd needs the package 'pyppmd': pip install 'lmzoo[compressors]'"
    left_out = [(outcome.name, outcome.error) for outcome in done.outcomes if outcome.error]
    assert left_out == [("ppmd-6", reason), ("ppmd-16", reason)]
    for page in write_report(done.folder, left_out):
        assert "pip install" in page.read_text(encoding="utf-8")


# ---- Runs --------------------------------------------------------------------------------------------


def test_killed_and_started_again(corpus_folder: Path, tmp_path: Path) -> None:
    """kill -9 in the middle: finished blocks stay as they are, and the end is that of a run left in peace."""
    request = ["--corpus", str(corpus_folder), "--species", "rnn", "hmm", "--growth", "1.5"]
    request += ["-s", "rnn.training.tokens=20000", "-s", "rnn.d_hidden=32", "-s", "hmm.n_states=8"]
    program = [sys.executable, "-m", "lmzoo", "prequential", *request, "--json", "--out"]
    command = [*program, str(tmp_path / "run")]
    kept = tmp_path / "run" / "blocks" / "rnn.json"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (kept.exists() and len(json.loads(kept.read_text())["blocks"]) >= 3):
            assert process.poll() is None, "it must not be done before it is killed"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    before = json.loads(kept.read_text())["blocks"]
    assert not (tmp_path / "run" / RECORDS).exists() or all(
        record.name != "rnn" for record in read_code_records(tmp_path / "run" / RECORDS)
    )
    records, peaceful = (
        {line["name"]: CodeRecord(**line) for line in map(json.loads, finished.stdout.splitlines())}
        for finished in (
            subprocess.run([*program, str(tmp_path / name)], capture_output=True, text=True, check=True)
            for name in ("run", "peace")
        )
    )
    for name in ("rnn", "hmm"):
        assert records[name].block_nats == peaceful[name].block_nats
    seconds = [round(block["seconds"], 3) for block in before]
    assert records["rnn"].block_seconds[: len(before)] == seconds, "a block that is done is not fitted again"
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


def test_a_failure_leaves_the_rest(corpus_folder: Path, tmp_path: Path) -> None:
    done = prequential(
        tmp_path, species=["unigram", "markov"], corpus=corpus_folder, settings={"unigram": {"alpha": -1}}
    )
    assert [outcome.name for outcome in done.failures] == ["unigram"]
    assert "alpha must be" in done.failures[0].error
    assert record_of(done, "markov").total_bits


def test_wrong_requests_show_before_any_work(
    coding: RunResult[CodeRecord], corpus_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UsageError, match="did you mean 'lstm'"):
        prequential(folder, species=["lsmt"], corpus=corpus_folder)
    with pytest.raises(ConfigurationError, match=r"got 'bpe:4096': a vocabulary .* would have to be sent"):
        prequential(folder, tokenizer="bpe:4096", corpus=corpus_folder)
    with pytest.raises(ConfigurationError, match=r"growth must be a finite number of at least 1\.01, got 1"):
        prequential(folder, growth=1.0, corpus=corpus_folder)
    with pytest.raises(UsageError, match="not among the species"):
        prequential(folder, species=["unigram"], settings={"lstm": {}}, corpus=corpus_folder)
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


# ---- How it is shown ---------------------------------------------------------------------------------


def made_up(name: str, nats: list[float | None], kind: str = "species") -> CodeRecord:
    known = [each for each in nats if each is not None]
    bits = sum(known) / math.log(2) if len(known) == len(nats) else None
    return CodeRecord(
        name=name, kind=kind, settings={}, corpus="c", corpus_fingerprint="f", protocol="p", tokenizer="byte",
        n_bytes=10 * len(nats), n_documents=3, header_bits=0, block_bytes=[10] * len(nats), block_nats=nats,
        block_seconds=[0.5] * len(nats), total_bits=bits, bits_per_byte=bits and bits / (10 * len(nats)),
    )  # fmt: skip


def test_table() -> None:
    # 120 bits of 30 bytes: 15 bytes, 4 bits a byte, half of the original; the last block has 40 bits of 10 bytes.
    ln2 = math.log(2)
    records = [
        made_up("slow", [80 * ln2, 80 * ln2, 80 * ln2]),
        made_up("none", [1.0, None, 1.0]),
        made_up("zip", [60 * ln2], kind="compressor"),
        made_up("quick", [40 * ln2, 40 * ln2, 40 * ln2]),
    ]
    assert rows(records) == [
        ["zip", "8", "6.000", "75.0%", "", "0.5 s"],
        ["quick", "15", "4.000", "50.0%", "4.000", "1.5 s"],
        ["slow", "30", "8.000", "100.0%", "8.000", "1.5 s"],
        ["none", "–", "–", "–", "–", "1.5 s"],
    ]
    assert {len(row) for row in rows(records)} == {len(HEADER)}


def test_figure() -> None:
    ln2 = math.log(2)
    records = [
        made_up("quick", [80 * ln2, 40 * ln2, 20 * ln2]),
        made_up("zip", [60 * ln2], kind="compressor"),
        made_up("none", [1.0, None]),
    ]
    chart = charts.by_text_read(records)
    assert charts.as_svg(chart).startswith("<svg")
    points = [(row["coder"], row["read"], round(row["cost"], 9)) for row in chart.to_dict()["data"]["values"]]
    assert points == [("quick", 10, 4), ("quick", 20, 2), ("zip", 10, 6), ("zip", 20, 6)]


def test_pages_are_whole_and_self_contained(coding: RunResult[CodeRecord]) -> None:
    markdown, html = (path.read_text(encoding="utf-8") for path in write_report(coding.folder))
    for record in coding.records:
        for page in (markdown, html):
            assert record.name in page
            assert f"{record.bits_per_byte:.3f}" in page
    assert html.count("<svg") == 1
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", html), "nothing may be loaded from outside"
    assert len(html.encode()) < 1_000_000
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(HEADER) + 1}
    assert len(lines) == 2 + len(coding.records)


def test_prequential_command(corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "prequential",
        "--corpus",
        str(corpus_folder),
        "--species",
        "markov",
        "unigram",
        "--out",
        str(tmp_path / "a"),
    ]
    assert run([*asked, "--json"]) == 0
    captured = capsys.readouterr()
    records = [CodeRecord(**json.loads(line)) for line in captured.out.splitlines()]
    assert [record.name for record in records][:3] == ["markov", "unigram", "gzip"]
    assert records == read_code_records(tmp_path / "a" / RECORDS)
    assert "markov: " in captured.err
    assert run(asked) == 0
    captured = capsys.readouterr()
    assert "reused" in captured.err
    assert [line.split()[0] for line in captured.out.splitlines()] == ["coder", *(row[0] for row in rows(records))]
    assert run([*asked, "--tokenizer", "word"]) == 2
    assert "would have to be sent" in " ".join(capsys.readouterr().err.split())
    assert run([*asked[:-1], str(tmp_path / "b"), "-s", "unigram.alpha=-1"]) == 1


def test_a_species_of_this_process_takes_part(corpus_folder: Path, tmp_path: Path) -> None:
    card = zoo.Card("louder-unigram", "lmzoo.models.floors:unigram", "Mine", 2026, "-", "-", "-", "-", "-", "-")
    zoo.register(card)
    try:
        done = prequential(tmp_path / "run", species=[card.name], corpus=corpus_folder)
        assert record_of(done, card.name).total_bits
    finally:
        del zoo._registered[card.name]
