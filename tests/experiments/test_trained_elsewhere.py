"""`compare` with predictors that were trained before the run."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmzoo import Predictor
from lmzoo.cli import run as lmzoo
from lmzoo.errors import SavedModelError, UsageError
from lmzoo.evaluation.records import EvalRecord, read_records, write_records
from lmzoo.experiments.compare import compare
from lmzoo.experiments.result import RunResult
from lmzoo.report import write_report
from lmzoo.report.merged import write_merged

REQUEST: dict[str, Any] = {"species": ["unigram", "markov"], "tokenizer": "byte"}


@pytest.fixture(scope="module")
def old(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor that was trained on the corpus of the run, with another tokenizer; tests that change it copy it."""
    predictor = Predictor.fit("markov", corpus_folder, tokenizer="bpe:300", seed=3)
    return predictor.save(tmp_path_factory.mktemp("old") / "predictors" / "markov")


@pytest.fixture(scope="module")
def result(old: Path, corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult[EvalRecord]:
    """A run with one predictor that was trained before; tests that change its folder copy it first."""
    folder = tmp_path_factory.mktemp("runs") / "with"
    result = compare(folder, corpus=corpus_folder, with_predictors=[old], **REQUEST)
    assert not result.failures
    return result


def test_the_same_text_is_measured_with_another_tokenizer(
    result: RunResult[EvalRecord], old: Path, corpus_folder: Path
) -> None:
    ours, other = result.records[1:]
    assert [record.name for record in result.records] == ["unigram", "markov", "predictors-markov"]
    assert (other.tokenizer, other.split) == ("bpe:300", "test")
    for name in ("corpus", "corpus_fingerprint", "protocol", "n_bytes", "n_words", "n_documents"):
        assert getattr(other, name) == getattr(ours, name)
    texts = [document.text for document in read_corpus(corpus_folder)]
    bits = sum(token.surprisal_bits for text in texts for token in Predictor.load(old).surprisals(text))
    assert other.bits_per_byte == pytest.approx(bits / other.n_bytes)
    assert other.training_text == "the train split of the same corpus"
    assert other.peak_memory_bytes


def read_corpus(folder: Path) -> Any:
    from lmzoo import load_corpus

    return load_corpus(folder).test


@pytest.mark.usefixtures("undrawn")
def test_such_models_are_not_ranked(result: RunResult[EvalRecord]) -> None:
    assert [record.trained_elsewhere for record in result.records] == [False, False, True]
    assert not result.records[2].is_ranked
    assert (result.records[2].bits_per_byte or 9) < (result.records[1].bits_per_byte or 0), "else this test shows less"
    ensemble = json.loads((result.folder / "ensemble.json").read_text(encoding="utf-8"))
    assert {member["name"] for member in ensemble["members"]} == {"unigram", "markov"}
    write_report(result.folder)
    page = (result.folder / "report.md").read_text(encoding="utf-8")
    assert page.splitlines()[2].startswith("**markov** predicts")
    assert "\n2 models, trained and tested on the same text" in page
    leaderboard, _, elsewhere = page.partition("## Models trained elsewhere")
    assert "predictors-markov" not in leaderboard
    (row,) = [line for line in elsewhere.splitlines() if line.startswith("| predictors-markov")]
    assert [cell.strip() for cell in row.split("|")][5] == "–", "no perplexity per token"
    assert "the train split of the same corpus (predictors-markov)" in elsewhere
    assert elsewhere.count("predictors-markov") == 2, "in no other section"
    html = result._repr_html_()
    assert html.index("<td>markov</td>") < html.index("<td>predictors-markov</td>")


@pytest.mark.usefixtures("undrawn")
def test_a_merged_report_keeps_them_apart(result: RunResult[EvalRecord], run: Path, tmp_path: Path) -> None:
    write_merged([result.folder, run], tmp_path / "merged")
    page = (tmp_path / "merged" / "merged.md").read_text(encoding="utf-8")
    leaderboard, _, elsewhere = page.partition("Models trained elsewhere")
    assert "predictors-markov" not in leaderboard
    assert "| predictors-markov" in elsewhere


def test_results_are_reused_until_a_file_changes(
    result: RunResult[EvalRecord], old: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(result.folder, tmp_path / "run")
    again = compare(folder, corpus=corpus_folder, with_predictors=[old], **REQUEST)
    assert [outcome.reused for outcome in again.outcomes] == [True, True, True]
    changed = shutil.copytree(old, tmp_path / "predictors" / "markov")
    compare(folder, corpus=corpus_folder, with_predictors=[changed], **REQUEST)
    (first,) = [record for record in read_records(folder / "results.jsonl") if record.trained_elsewhere]
    assert compare(folder, corpus=corpus_folder, with_predictors=[changed], **REQUEST).outcomes[2].reused
    os.utime(changed / "arrays.safetensors", ns=(1, 1))
    assert not compare(folder, corpus=corpus_folder, with_predictors=[changed], **REQUEST).outcomes[2].reused
    (second,) = [record for record in read_records(folder / "results.jsonl") if record.trained_elsewhere]
    assert second.predictor_digest != first.predictor_digest
    assert second.total_nats == first.total_nats


def test_the_share_seen_in_train_is_the_one_of_the_run(
    result: RunResult[EvalRecord], old: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(result.folder, tmp_path / "run")
    ours = result.records[0].seen_in_train
    assert ours is not None
    records = read_records(folder / "results.jsonl")
    other = replace(records[2], seen_in_train=0.123)
    write_records(folder / "results.jsonl", [other])  # the other models are measured again
    again = compare(folder, corpus=corpus_folder, with_predictors=[old], **REQUEST)
    assert [record.seen_in_train for record in again.records] == [ours, ours, 0.123]


def test_a_model_of_the_run_does_not_reuse_such_a_record(
    result: RunResult[EvalRecord], corpus_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(result.folder, tmp_path / "run")
    records = read_records(folder / "results.jsonl")
    write_records(folder / "results.jsonl", [records[0], replace(records[1], trained_elsewhere=True)])
    again = compare(folder, corpus=corpus_folder, **REQUEST)
    assert [outcome.reused for outcome in again.outcomes] == [True, False]


def test_mistakes_show_before_any_work(old: Path, corpus_folder: Path, tmp_path: Path) -> None:
    for sources, error, message in [
        ([tmp_path / "nothing"], SavedModelError, "no saved predictor in"),
        ([old, str(old)], UsageError, "a predictor is given twice"),
        ([old.parent.parent], SavedModelError, "is a run folder: choose one of the predictors"),
        ([corpus_folder / "000.txt"], SavedModelError, "is not a GGUF file"),
    ]:
        with pytest.raises(error, match=message):
            compare(tmp_path / "run", corpus=corpus_folder, with_predictors=sources, **REQUEST)
    assert not (tmp_path / "run").exists()


def test_one_that_fails_leaves_the_rest(old: Path, corpus_folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(old, tmp_path / "broken")
    (broken / "arrays.safetensors").write_bytes(b"half")
    result = compare(tmp_path / "run", corpus=corpus_folder, with_predictors=[broken], **REQUEST)
    assert [record.name for record in result.records] == ["unigram", "markov"]
    assert "arrays.safetensors is damaged" in result.failures[0].error


@pytest.mark.usefixtures("undrawn")
def test_only_such_a_model_is_left(old: Path, unlucky: str, corpus_folder: Path, tmp_path: Path) -> None:
    result = compare(
        tmp_path / "run",
        species=[unlucky],
        corpus=corpus_folder,
        tokenizer="byte",
        with_predictors=[old],
    )
    assert [record.name for record in result.records] == ["markov"]
    write_report(result.folder)
    page = (result.folder / "report.md").read_text(encoding="utf-8")
    assert page.splitlines()[2].startswith("**No model** of this run was trained on ")


@pytest.mark.usefixtures("undrawn")
def test_the_command(old: Path, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "--species", "unigram", "--corpus", str(corpus_folder), "--tokenizer", "byte"]
    arguments += ["--out", str(tmp_path / "run"), "--with", str(old)]
    assert lmzoo(arguments) == 0
    captured = capsys.readouterr()
    assert "  markov: " in captured.err
    assert "bits/byte, evaluated in " in captured.err
    assert "Models trained elsewhere" in captured.out
    assert lmzoo(arguments) == 0
    assert "bits/byte, reused" in capsys.readouterr().err.partition("  markov: ")[2]
