"""Learning curves: runs, resumption, what is read out of them, and how it is shown."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmzoo import load_corpus, zoo
from lmzoo.cli import run as run_command
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import SavedModelError, UsageError
from lmzoo.evaluation.records import EvalRecord, read_records, write_records
from lmzoo.experiments.compare import compare
from lmzoo.experiments.curves import _with_training_tokens, curves, nested_shares
from lmzoo.experiments.learning_curves import loss_of, read_curves, share_folder
from lmzoo.experiments.plan import RunPlan
from lmzoo.report.curves import best_by_size, crossings, header, law_rows, rows, write_page
from lmzoo.system.jobs import Outcome

pytestmark = pytest.mark.slow  # the curves that the tests share take half a minute

SPECIES = ["unigram", "markov", "rnn"]
SETTINGS: dict[str, dict[str, Any]] = {
    "rnn": {"d_embed": 8, "d_hidden": 8, "training": {"tokens": 1000, "batch_size": 2, "chunk_size": 8, "bf16": False}}
}
SIZES = {"rnn": {"d_hidden": [16]}}


def a_run(folder: Path, corpus: Path, **changes: Any) -> list[EvalRecord]:
    options: dict[str, Any] = {"shares": 4} | {
        name: changes.pop(name) for name in ("shares", "on_outcome") if name in changes
    }
    request: dict[str, Any] = {"species": SPECIES, "corpus": corpus, "tokenizer": "bpe:300", "settings": SETTINGS}
    result = curves(folder, RunPlan(**(request | changes)), **options)
    assert not result.failures
    return result.records


@pytest.fixture(scope="module")
def run(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "curves"
    a_run(folder, corpus_folder, sweeps=SIZES, command="lmzoo curves")
    write_page(folder)
    return folder


def figures(records: list[EvalRecord]) -> list[tuple[object, ...]]:
    return [
        (one.name, one.train_share, one.total_nats, one.n_train_tokens, one.n_tokens_read, one.n_parameters)
        for one in records
    ]


# ---- Runs --------------------------------------------------------------------------------------------


def test_points_are_those_of_compare(run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    """The largest share is the corpus itself; each share is a corpus of its own with the same tokenizer."""
    records = read_records(run / "curves.jsonl")
    assert [record.train_share for record in records] == np.repeat([1 / 4, 1 / 2, 1], 4).tolist()
    assert [record.name for record in records] == ["unigram", "markov", "rnn", "rnn,d_hidden=16"] * 3
    peaceful = compare(
        tmp_path / "run", species=SPECIES, corpus=corpus_folder, tokenizer="bpe:300", settings=SETTINGS
    ).records
    assert [one.total_nats for one in records[-4:-1]] == [one.total_nats for one in peaceful]
    corpus = load_corpus(corpus_folder)
    for share, part in nested_shares(corpus, 4).items():
        encoded = EncodedCorpus.load(share_folder(run, share) / "encoded")
        assert encoded.fingerprint == part.fingerprint
        assert encoded.tokenizer.fingerprint == EncodedCorpus.load(tmp_path / "run" / "encoded").tokenizer.fingerprint


def test_networks_read_each_share_equally_often(run: Path) -> None:
    for record in read_records(run / "curves.jsonl"):
        if record.species == "rnn":
            assert record.train_share is not None
            assert record.n_tokens_read is not None
            # A document more or less, and the last chunk, which is read whole.
            assert record.settings["training"]["tokens"] == pytest.approx(1000 * record.train_share, rel=0.15)
            assert 0 <= record.n_tokens_read - record.settings["training"]["tokens"] < 2 * 2 * 8
        else:
            assert record.n_tokens_read is None


@pytest.mark.parametrize("species", ["rnn", "hybrid"])
def test_training_tokens_that_are_not_given_are_those_of_the_budget(species: str) -> None:
    tokens = zoo.presets(species)["standard"]["training"]["tokens"]
    plan = RunPlan(budget="standard", settings={species: {"d_hidden": 8}})
    assert _with_training_tokens(species, plan) == {"d_hidden": 8, "training": {"tokens": tokens}}


def test_a_second_run_fits_only_what_is_missing(run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    before = (folder / "curves.jsonl").read_bytes()
    shutil.rmtree(folder / "share-2" / "predictors" / "markov")
    fitted = []

    def note(share: float, outcome: Outcome[EvalRecord]) -> None:
        if not outcome.reused:
            fitted.append((share, outcome.name))

    again = a_run(folder, corpus_folder, sweeps=SIZES, command="lmzoo curves", on_outcome=note)
    assert fitted == [(1 / 2, "markov")]
    assert figures(again) == figures(read_records(run / "curves.jsonl"))
    fitted.clear()
    a_run(folder, corpus_folder, sweeps=SIZES, on_outcome=note)
    assert not fitted
    assert len((folder / "curves.jsonl").read_bytes()) == pytest.approx(len(before), abs=100)


def test_later_runs_add_to_what_is_there(run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    before = read_records(folder / "curves.jsonl")
    added = a_run(folder, corpus_folder, species=["uniform"], settings={})
    assert {record.name for record in added} == {"uniform"}
    after = read_records(folder / "curves.jsonl")
    assert sorted(figures(after), key=str) == sorted(figures([*before, *added]), key=str)
    assert [record.train_share for record in after] == np.repeat([1 / 4, 1 / 2, 1], 5).tolist()


@pytest.mark.parametrize("share", [1 / 4, 1])
def test_a_job_that_died_and_was_fitted_again_changes_nothing(
    share: float, run: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    """The point is missing in the first run; after the second, records and page are those of a peaceful run."""
    folder = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(share_folder(folder, share) / "predictors" / "unigram")
    for path in (folder / "curves.jsonl", share_folder(folder, share) / "results.jsonl"):
        records = read_records(path)
        write_records(path, [one for one in records if (one.name, one.train_share) != ("unigram", share)])
    a_run(folder, corpus_folder, sweeps=SIZES, command="lmzoo curves")
    assert figures(read_records(folder / "curves.jsonl")) == figures(read_records(run / "curves.jsonl"))
    write_page(folder)
    assert facts_of(folder) == facts_of(run)


def facts_of(folder: Path) -> list[str]:
    lines = (folder / "curves.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith(("#", "- corpus", "- protocol"))]


def test_the_page_names_the_corpus_not_a_share(run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    """Also if the records have another order, or the whole text has no point because every model failed on it."""
    folder = shutil.copytree(run, tmp_path / "run")
    records = read_records(folder / "curves.jsonl")
    corpus = load_corpus(corpus_folder)
    for kept in ([*records[4:], *records[:4]], [one for one in records if one.train_share != 1]):
        write_records(folder / "curves.jsonl", kept)
        page = "\n".join(path.read_text(encoding="utf-8") for path in write_page(folder))
        assert page.count(corpus.fingerprint) == 2
        assert "of train, 1/" not in page
        assert facts_of(folder) == facts_of(run)


def test_killed_and_started_again(run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    request = ["--corpus", str(corpus_folder), "--tokenizer", "bpe:300", "--shares", "2"]
    command = [sys.executable, "-m", "lmzoo", "curves", *request, "--out", str(tmp_path / "run")]
    command += ["--species", "unigram", "markov"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (share_folder(tmp_path / "run", 1) / "encoded").exists():
        time.sleep(0.05)
    process.kill()
    process.wait()
    finished = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert finished.stderr.count("reused") >= 2
    points = [
        (point["name"], point["n_train_tokens"], point["loss"]) for point in json.loads(finished.stdout)["points"]
    ]
    assert points == [
        (record.name, record.n_train_tokens, loss_of(record))
        for record in read_records(run / "curves.jsonl")
        if record.species != "rnn" and (record.train_share or 0) >= 1 / 2
    ]
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_wrong_requests_show_before_any_work(run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    for changed, message in (
        ({"species": ["ngrm"]}, "did you mean 'ngram'"),
        ({"settings": {"ngrm": {}}}, "did you mean 'ngram'"),
        ({"sweeps": {"rnn": {"training.tokens": [1, 2]}}}, "proportional to the share"),
        ({"settings": {"rnn": {"training": {"tokens": -1}}}}, "tokens must be"),
        ({"shares": 1}, "shares must be"),
        ({"shares": 10}, "shares must be a power of two"),
        ({"jobs": 0}, "jobs must be at least 1"),
    ):
        with pytest.raises(UsageError, match=message):
            a_run(tmp_path / "run", corpus_folder, **changed)
        assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="holds a run with tokenizer 'bpe:300', not 'byte'"):
        a_run(run, corpus_folder, tokenizer="byte")
    with pytest.raises(UsageError, match="holds a run with seed 0, not 1"):
        a_run(run, corpus_folder, seed=1)


# ---- Reading -----------------------------------------------------------------------------------------


def test_curves_have_the_losses_of_the_records(run: Path) -> None:
    found = read_curves(run)
    assert found.losses.shape == (4, 3)
    assert (np.diff(found.n_train_tokens) > 0).all()
    assert (np.diff(found.losses[:, -1]) >= 0).all(), "the best on all of the text is first"
    by_point = {(record.name, record.n_train_tokens): record.bits_per_byte for record in found.records}
    for name, losses in zip(found.names, found.losses, strict=True):
        np.testing.assert_array_equal(losses, [by_point[name, n] for n in found.n_train_tokens])
    markov = found.losses[found.names.index("markov")]
    assert markov[-1] < markov[0]


def test_resampled_losses_lie_around_the_losses(run: Path) -> None:
    found = read_curves(run)
    assert found.resampled.shape == (1000, 4, 3)
    np.testing.assert_allclose(found.resampled.mean(axis=0), found.losses, rtol=0.02)
    # The same documents are drawn for all: what is hard for one is hard for the other.
    markov, unigram = (found.resampled[:, found.names.index(name), -1] for name in ("markov", "unigram"))
    assert (markov - unigram).std() < markov.std() + unigram.std()


def test_points_that_are_missing_are_left_out(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    records = read_records(folder / "curves.jsonl")
    missing = ("markov", 1 / 2)
    write_records(folder / "curves.jsonl", [one for one in records if (one.name, one.train_share) != missing])
    shutil.rmtree(folder / "share-4" / "scores")
    found = read_curves(folder)
    row = found.losses[found.names.index("markov")]
    assert np.isnan(row).tolist() == [False, True, False]
    assert "markov" not in {name for _, name in found.leaders()}
    assert np.isnan(found.resampled[:, :, 0]).all()
    crossed = [one for pair in (("markov", "unigram"), ("rnn", "unigram")) for one in found.crossings(*pair)]
    assert all(crossing.interval is None for crossing in crossed)
    for page in write_page(folder):
        assert "–" in page.read_text(encoding="utf-8")


def test_laws_are_against_what_was_spent(run: Path) -> None:
    laws = {(one.name, one.against): one for one in read_curves(run).laws()}
    assert laws["markov", "tokens"].n_points == 3
    assert laws["markov", "tokens"].law is None, "three points are too few"
    assert 1 <= laws["rnn", "parameters"].n_points <= 2
    assert 1 <= laws["rnn", "FLOPs"].n_points <= 6
    assert ("markov", "FLOPs") not in laws
    assert ("markov", "parameters") not in laws


def made_up(run: Path, folder: Path, table: dict[str, list[float]], **changes: Any) -> Path:
    """Returns a run folder with the given losses on 1/8, 1/4, 1/2 and all of 1,024 tokens."""
    folder.mkdir()
    record = dataclasses.replace(read_records(run / "curves.jsonl")[0], **changes)
    points = [
        dataclasses.replace(record, label=name, bits_per_byte=bits, train_share=1 / n, n_train_tokens=1024 // n)
        for name, losses in table.items()
        for n, bits in zip((8, 4, 2, 1), losses, strict=True)
    ]
    write_records(folder / "curves.jsonl", points)
    return folder


def test_changes_in_words(run: Path, tmp_path: Path) -> None:
    table = {"a": [2.0, 2.0, 2.0, 2.0], "b": [4.0, 3.0, 1.5, 1.0], "c": [2.5, 1.9, 2.5, 1.9], "d": [9.0, 9.0, 9.0, 9.0]}
    found = read_curves(made_up(run, tmp_path / "run", table))
    sentences = [change.sentence for change in crossings(found)]
    # a and b: from 1 behind at 256 to 0.5 ahead at 512: at 256 x 2^(2/3) = 406.
    assert "a is better than b below 406 tokens" in sentences
    # a and c: 0.5, -0.1, 0.5, -0.1 behind: 128 x 2^(5/6) = 228, 256 x 2^(1/6) = 287, 512 x 2^(5/6) = 912.
    assert "the curves of c and a cross at 228, 287 and 912 tokens; with more text, c is better" in sentences
    # c and b: 1.1 behind at 256, 1 ahead at 512: at 256 x 2^(1.1 / 2.1) = 368.
    assert "c is better than b below 368 tokens" in sentences
    assert len(sentences) == 3
    # a, c from 228 on, a again from 287 on, b from 406 on.
    assert best_by_size(found) == ["below 228 tokens: a", "below 287 tokens: c", "below 406 tokens: a", "above: b"]
    assert found.names == ["b", "c", "a", "d"]
    assert header(found) == ["model", "1/8: 128", "1/4: 256", "1/2: 512", "all: 1.02 k"]
    assert rows(found)[0] == ["b", "4.000", "3.000", "1.500", "1.000"]


def test_models_that_adapt_to_the_test_text_are_not_compared(run: Path, tmp_path: Path) -> None:
    folder = made_up(run, tmp_path / "run", {"a": [2.0, 2.0, 2.0, 2.0], "b": [4.0, 3.0, 1.5, 1.0]})
    adaptive = [
        dataclasses.replace(one, adapts_on_test=one.name == "b") for one in read_records(folder / "curves.jsonl")
    ]
    write_records(folder / "curves.jsonl", adaptive)
    found = read_curves(folder)
    assert crossings(found) == []
    assert best_by_size(found) == ["at every size: a"]


def test_laws_in_words(run: Path, tmp_path: Path) -> None:
    sizes = np.array([128, 256, 512, 1024])
    noise = np.array([0.99, 1.01, 1.01, 0.99])
    table = {"a": (1 + 20 * sizes**-0.5).tolist(), "b": (8 * sizes**-0.2 * noise).tolist(), "c": [1.0, 2.0, 3.0, 4.0]}
    with_floor, without, rising = law_rows(read_curves(made_up(run, tmp_path / "run", table)).laws())
    assert [with_floor[place] for place in (0, 1, 2, 4, 6, 7)] == ["a", "tokens", "1.00", "0.50", "20", "0.0%"]
    assert without[0] == "b"
    assert without[2].endswith(", or 0") or without[2] == "0"
    assert without[3].startswith("0.00 to ")
    assert rising == ["c", "tokens", *["–"] * 6]
    page = write_page(tmp_path / "run")[0].read_text(encoding="utf-8")
    assert "E does not differ significantly from 0, so the limit of the curve is unknown, for b." in page
    assert "the loss does not decrease: c (against tokens)" in page


def test_a_tokenizer_with_losses_is_measured_per_token(run: Path, tmp_path: Path) -> None:
    changes_: dict[str, Any] = {"lossless": False, "perplexity_per_token": 8.0}
    folder = made_up(run, tmp_path / "run", {"a": [2.0, 2.0, 2.0, 2.0]}, **changes_)
    found = read_curves(folder)
    assert found.unit == "bits/token"
    np.testing.assert_allclose(found.losses, 3.0)


def test_nothing_to_read(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match="no learning curves in"):
        read_curves(tmp_path)
    write_records(tmp_path / "curves.jsonl", [])
    with pytest.raises(SavedModelError, match="no point with a loss"):
        read_curves(tmp_path)


# ---- How it is shown ---------------------------------------------------------------------------------


def test_the_page_is_whole_and_self_contained(run: Path) -> None:
    html, markdown = ((run / name).read_text(encoding="utf-8") for name in ("curves.html", "curves.md"))
    for row in rows(read_curves(run)):
        assert all(cell in html and cell in markdown for cell in row)
    assert html.count("<svg") == 3, "against tokens, operations and parameters"
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", html), "nothing may be loaded from outside"
    assert "lmzoo curves" in markdown
    assert "rnn,d_hidden=16" in html


def test_curves_of_counting_models(run: Path, tmp_path: Path) -> None:
    """Without networks, the page has no figures of FLOPs or sizes, and does not mention missing scores."""
    html = write_page(made_up(run, tmp_path / "run", {"a": [2.0, 2.0, 2.0, 2.0]}))[1].read_text(encoding="utf-8")
    assert html.count("<svg") == 1
    assert "networks" not in html
    assert "No law" in html
    assert "No two curves cross" in html


@pytest.mark.usefixtures("undrawn")
def test_curves_from_the_command_line(
    unlucky: str, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["curves", "--corpus", str(corpus_folder), "--species", unlucky, "markov", "--tokenizer", "bpe:300"]
    asked += ["--shares", "2", "--out", str(tmp_path / "run"), "--set", f"{unlucky}.fails=false"]
    assert run_command(asked) == 0
    captured = capsys.readouterr()
    assert captured.out.index("markov") < captured.out.index(unlucky)
    assert f"1/2 · {unlucky}" in captured.err
    assert "curves.html" in captured.err
    assert run_command([*asked, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("reused") == 4
    found = json.loads(captured.out)
    assert found["unit"] == "bits/byte"
    assert len(found["points"]) == 4
    assert [law["law"] for law in found["laws"]] == [None, None], "two points are too few"
    assert run_command([*asked, "--set", f"{unlucky}.fails=true", "--json"]) == 1
    captured = capsys.readouterr()
    assert f"1/2 · {unlucky}: failed: bad luck" in captured.err
    assert {point["name"] for point in json.loads(captured.out)["points"]} == {"markov"}
