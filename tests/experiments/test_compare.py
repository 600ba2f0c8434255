"""compare: results, resuming, reuse, failures, report."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import multiprocessing
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import psutil
import pytest
from rich.console import Console

from lmzoo import Predictor, zoo
from lmzoo.cli.tables import leaderboard_table
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus
from lmzoo.errors import CorpusError, LmzooError, SavedModelError, UsageError
from lmzoo.evaluation.evaluate import evaluate
from lmzoo.evaluation.records import EvalRecord, read_records, write_records
from lmzoo.evaluation.scores import load_scores
from lmzoo.experiments.compare import compare
from lmzoo.experiments.run_folder import scores_path
from lmzoo.report import write_report
from lmzoo.report.leaderboard import ADAPTIVE_NOTE, COLUMNS, seed_rows
from lmzoo.system.jobs import Outcome
from lmzoo.system.provenance import machine

SPECIES = ["uniform", "unigram", "markov"]


@pytest.fixture(scope="session")
def run(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    comparison = compare(folder, species=SPECIES, corpus=corpus_folder, tokenizer="bpe:300", command="lmzoo compare")
    assert [record.species for record in comparison.records] == SPECIES
    assert not comparison.failures
    write_report(folder)
    return folder


def figures(record: EvalRecord) -> tuple[object, ...]:
    return record.species, record.total_nats, record.bits_per_byte, record.top1_accuracy, record.n_tokens


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

    texts = [document.text for document in load_corpus(corpus_folder).test]
    record = read_records(run / "results.jsonl")[2]
    assert record.n_bytes == sum(len(text.encode()) for text in texts)
    assert record.n_words == sum(len(text.split()) for text in texts)
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


def test_scores_that_are_gone_are_made_again_and_nothing_is_fitted(corpus_folder: Path, tmp_path: Path) -> None:
    request = {"species": ["unigram"], "corpus": corpus_folder, "tokenizer": "byte"}
    first = compare(tmp_path / "run", **request).records[0]
    scores = tmp_path / "run" / "scores" / "unigram" / "test.safetensors"
    scores.unlink()
    second = compare(tmp_path / "run", **request)
    assert not second.outcomes[0].reused
    assert scores.exists()
    assert second.records[0].fit_seconds == first.fit_seconds


def test_a_second_run_reuses_everything(run: Path, corpus_folder: Path) -> None:
    before = (run / "results.jsonl").read_bytes()
    comparison = compare(run, species=SPECIES, corpus=corpus_folder, tokenizer="bpe:300")
    assert all(outcome.reused for outcome in comparison.outcomes)
    assert (run / "results.jsonl").read_bytes() == before


def test_other_settings_are_fitted_again(corpus_folder: Path, tmp_path: Path) -> None:
    request = {"species": ["unigram"], "corpus": corpus_folder, "tokenizer": "byte"}
    first = compare(tmp_path / "run", **request)
    second = compare(tmp_path / "run", **request, settings={"unigram": {"alpha": 100.0}})
    assert not second.outcomes[0].reused
    assert figures(first.records[0]) != figures(second.records[0])
    assert len(read_records(tmp_path / "run" / "results.jsonl")) == 1


def test_a_run_folder_belongs_to_one_request(run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a run with tokenizer 'bpe:300', not 'byte': choose another folder"):
        compare(run, species=SPECIES, corpus=corpus_folder, tokenizer="byte")
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files"):
        compare(tmp_path, species=SPECIES, corpus=corpus_folder)


def test_one_process_at_a_time_works_in_a_folder(corpus_folder: Path, tmp_path: Path) -> None:
    request: dict[str, Any] = {"species": ["unigram"], "corpus": corpus_folder, "tokenizer": "byte"}
    heard = []

    def second(outcome: Outcome[EvalRecord]) -> None:
        heard.append(outcome.name)
        with pytest.raises(UsageError, match=r"another process is at work in .*: wait"):
            compare(tmp_path / "run", **request)

    compare(tmp_path / "run", **request, on_outcome=second)
    assert heard == ["unigram"]
    assert compare(tmp_path / "run", **request).outcomes[0].reused


def test_damaged_scores_are_made_again(corpus_folder: Path, tmp_path: Path) -> None:
    request: dict[str, Any] = {"species": ["unigram"], "corpus": corpus_folder, "tokenizer": "byte"}
    compare(tmp_path / "run", **request)
    scores_path(tmp_path / "run", "unigram", "test").write_bytes(b"half")
    assert not compare(tmp_path / "run", **request).outcomes[0].reused
    assert compare(tmp_path / "run", **request).outcomes[0].reused


def test_a_seed_of_two_runs_counts_once(run: Path) -> None:
    record = dataclasses.replace(read_records(run / "results.jsonl")[0], bits_per_byte=2.0)
    other = dataclasses.replace(record, seed=1, bits_per_byte=3.0)
    assert seed_rows([record, dataclasses.replace(record)]) == []
    ((_, n_seeds, mean, *_),) = seed_rows([record, dataclasses.replace(record), other])
    assert (n_seeds, mean) == ("2", "2.5000")


@pytest.mark.parametrize(("variable", "n_threads"), [("3", 3), ("2,1", 2), ("", None), ("many", None)])
def test_threads_as_openmp_takes_them(variable: str, n_threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert machine()["n_threads"] == (n_threads or psutil.cpu_count(logical=False) or 1)


def test_records_hold_any_character(run: Path, tmp_path: Path) -> None:
    records = [dataclasses.replace(record, corpus="a\u2028b\x85c") for record in read_records(run / "results.jsonl")]
    write_records(tmp_path / "results.jsonl", records)
    assert read_records(tmp_path / "results.jsonl") == records
    (tmp_path / "results.jsonl").write_bytes(b"\xff")
    with pytest.raises(SavedModelError, match="not UTF-8"):
        read_records(tmp_path / "results.jsonl")


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


def test_one_failure_leaves_the_rest(corpus_folder: Path, tmp_path: Path) -> None:
    comparison = compare(
        tmp_path / "run",
        species=["unigram", "markov"],
        corpus=corpus_folder,
        tokenizer="byte",
        settings={"unigram": {"alpha": -1}},
    )
    assert [outcome.name for outcome in comparison.failures] == ["unigram"]
    assert "alpha must be a finite number above 0" in comparison.failures[0].error
    assert [record.species for record in comparison.records] == ["markov"]
    assert not (tmp_path / "run" / "predictors" / "unigram").exists()


def test_a_species_of_this_process_takes_part(corpus_folder: Path, tmp_path: Path) -> None:
    card = zoo.Card("louder-unigram", "lmzoo.models.floors:unigram", "Mine", 2026, "-", "-", "-", "-", "-", "-")
    zoo.register(card)
    try:
        comparison = compare(tmp_path / "run", species=[card.name], corpus=corpus_folder, tokenizer="byte")
        assert [record.species for record in comparison.records] == [card.name]
    finally:
        del zoo._registered[card.name]


def test_killed_and_started_again(corpus_folder: Path, tmp_path: Path) -> None:
    """kill -9 at several moments; the same command then ends with the figures of a run that was left in peace."""
    request = ["--corpus", str(corpus_folder), "--tokenizer", "bpe:300", "--species", *SPECIES]
    command = [sys.executable, "-m", "lmzoo", "compare", *request, "--out", str(tmp_path / "run")]
    for delay in (1.0, 2.5, 4.0):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        process.wait()
    finished = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    records = [EvalRecord(**json.loads(line)) for line in finished.stdout.splitlines()]
    peaceful = compare(tmp_path / "peace", species=SPECIES, corpus=corpus_folder, tokenizer="bpe:300").records
    assert [figures(record) for record in records] == [figures(record) for record in peaceful]
    assert not list((tmp_path / "run").rglob("*.tmp"))


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Interrupts do here what they do in a terminal: a job in the background of a shell ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_says_how_to_go_on(corpus_folder: Path, tmp_path: Path) -> None:
    # With the largest budget, so that it cannot be done before the signal comes.
    request = ["--corpus", str(corpus_folder), "--species", "lstm", "gru", "--budget", "thorough"]
    command = [sys.executable, "-m", "lmzoo", "compare", *request, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / "run" / "encoded").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted; the same command goes on" in errors
    assert "Traceback" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_at_the_start_ends_every_fit(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes while the jobs are handed out, when some run and are not yet known."""
    submit = ThreadPoolExecutor.submit

    def submit_and_interrupt(pool: ThreadPoolExecutor, *job: Any) -> Any:
        submitted = submit(pool, *job)
        signal.raise_signal(signal.SIGINT)
        return submitted

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "run", species=["lstm", "gru"], corpus=corpus_folder, budget="thorough")
    assert not multiprocessing.active_children()


def test_lossy_tokenizers_have_no_bits_per_byte(corpus_folder: Path, tmp_path: Path) -> None:
    record = compare(tmp_path / "run", species=["unigram"], corpus=corpus_folder, tokenizer="word:2").records[0]
    assert not record.lossless
    assert record.bits_per_byte is None
    assert record.perplexity_per_token is not None


def test_evaluate_refuses_another_tokenizer(markov_predictor: Predictor, corpus_folder: Path) -> None:
    from lmzoo import load_corpus

    with pytest.raises(CorpusError, match="another tokenizer"):
        evaluate(markov_predictor, encode_corpus(load_corpus(corpus_folder), "byte"))


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


def test_records_survive_and_name_damaged_lines(run: Path, tmp_path: Path) -> None:
    records = read_records(run / "results.jsonl")
    write_records(tmp_path / "copy.jsonl", records)
    assert read_records(tmp_path / "copy.jsonl") == records
    with (tmp_path / "copy.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"species": "half')
    with pytest.raises(SavedModelError, match=r"copy.jsonl:4 is not a record"):
        read_records(tmp_path / "copy.jsonl")
    later = dataclasses.asdict(records[0]) | {"record_version": 99}
    (tmp_path / "later.jsonl").write_text(json.dumps(later), encoding="utf-8")
    with pytest.raises(SavedModelError, match="later lmzoo"):
        read_records(tmp_path / "later.jsonl")


def test_report_is_whole_and_self_contained(run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    markdown = (run / "report.md").read_text(encoding="utf-8")
    for record in read_records(run / "results.jsonl"):
        assert f"{record.bits_per_byte:.3f}" in html
        assert f"{record.bits_per_byte:.3f}" in markdown
    assert html.count("<svg") == html.count("<figure>") > 1
    links = re.findall(r"!\[.+\]\((.+)\)", markdown)
    assert len(links) == html.count("<figure>")
    assert all((run / unquote(link)).is_file() for link in links)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", html), "nothing may be loaded from outside"
    assert len(html.encode()) < 1_000_000


def test_records_of_earlier_versions_still_read(run: Path, tmp_path: Path) -> None:
    old = dataclasses.asdict(read_records(run / "results.jsonl")[0])
    del old["adapts_on_test"], old["label"]
    (tmp_path / "old.jsonl").write_text(json.dumps(old), encoding="utf-8")
    (record,) = read_records(tmp_path / "old.jsonl")
    assert record.adapts_on_test is False
    assert record.name == record.species


def test_models_that_adapt_are_not_ranked_with_others(corpus_folder: Path, tmp_path: Path) -> None:
    settings = {"cache": {"static": "markov"}}
    folder = tmp_path / "run"
    comparison = compare(
        folder, species=["unigram", "cache"], corpus=corpus_folder, tokenizer="bpe:300", settings=settings
    )
    unigram, cache = read_records(folder / "results.jsonl")
    assert (unigram.adapts_on_test, cache.adapts_on_test) == (False, True)
    assert (cache.bits_per_byte or 9) < (unigram.bits_per_byte or 0), "else this test shows nothing"
    write_report(folder)
    console = Console(width=200, file=io.StringIO())
    console.print(leaderboard_table(comparison.records, 200))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    for page in (
        (folder / "report.md").read_text(encoding="utf-8"),
        (folder / "report.html").read_text(encoding="utf-8").partition("<h2>One prompt")[0],
        printed,
    ):
        places = [page.index(text) for text in (f"{unigram.bits_per_byte:.3f}", ADAPTIVE_NOTE)]
        assert places == sorted(places)
        assert f"{cache.bits_per_byte:.3f}" not in page[page.index(COLUMNS[1].title) : places[1]]
        assert f"{cache.bits_per_byte:.3f}" in page[places[1] :]
    assert "Lowest: **unigram**" in (folder / "report.md").read_text(encoding="utf-8")


def test_report_escapes_hostile_text(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(30):
        (corpus / f"{number}.txt").write_text("<script>alert(1)</script> | `x` \x1b[2J" * 5, encoding="utf-8")
    compare(tmp_path / "run", species=["markov"], corpus=corpus, tokenizer="bpe:300")
    write_report(tmp_path / "run")
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    markdown = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert html.count("<script") == 1, "that of the page"
    assert "\x1b" not in html + markdown
    assert "␛" in html
    assert all(line.startswith("    ") or "`" in line for line in markdown.splitlines() if "<script" in line)


def test_a_report_goes_on_without_what_it_cannot_read(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "predictors" / "markov" / "arrays.safetensors").write_bytes(b"damaged")
    shutil.rmtree(folder / "predictors" / "uniform")
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    gone = {**json.loads(lines[0]), "species": "visitor"}  # of a plug-in that is not installed any more
    (folder / "results.jsonl").write_text("\n".join([*lines, json.dumps(gone)]), encoding="utf-8")
    write_report(folder)
    for name in ("report.md", "report.html"):
        page = (folder / name).read_text(encoding="utf-8")
        figures, said = page.split("One prompt, every era")
        assert all(species in figures for species in [*SPECIES, "visitor"])
        said, eras = said.split("The eras", 1)
        for damaged in ("markov", "uniform", "visitor"):
            assert re.search(rf"{damaged}(`|</code>): \S", said), said
        assert "no saved predictor in" in said
        assert eras.count("· Unigram") == 1
        assert "· Markov chain" not in eras


def test_other_seeds_are_repeats_of_one_entry(corpus_folder: Path, tmp_path: Path) -> None:
    request: dict[str, Any] = {"species": ["hmm", "unigram"], "corpus": corpus_folder, "tokenizer": "byte"}
    request["settings"] = {"hmm": {"n_states": 8, "n_iterations": 2}}
    comparison = compare(tmp_path / "run", **request, seeds=3)
    names = [record.name for record in comparison.records]
    assert names == [f"{name}{seed}" for name in request["species"] for seed in ("", ",seed=1", ",seed=2")]
    assert [record.seed for record in comparison.records] == [0, 1, 2, 0, 1, 2]
    hmm = [record.bits_per_byte for record in comparison.records[:3] if record.bits_per_byte]
    assert len(set(hmm)) == 3
    write_report(tmp_path / "run")
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    spread = f"| hmm | 3 | {statistics.mean(hmm):.4f} | {statistics.stdev(hmm):.4f} | {min(hmm):.4f} |"
    assert spread in report
    assert "| unigram | 3 |" in report
    assert "seed=1 |" not in report.partition("## How much")[0], "repeats are not ranked beside their first seed"
    again = compare(tmp_path / "run", **request, seeds=3)
    assert all(outcome.reused for outcome in again.outcomes)


def test_report_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(LmzooError, match="there are no results"):
        write_report(tmp_path)
