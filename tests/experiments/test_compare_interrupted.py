"""`compare`: runs that are killed, interrupted, or in use by another process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from compare_runs import SPECIES, figures

from lmzoo.cli import ADVICE
from lmzoo.errors import UsageError
from lmzoo.evaluation.records import EvalRecord, read_records
from lmzoo.experiments.compare import compare
from lmzoo.system.interrupts import MESSAGE
from lmzoo.system.jobs import Outcome


def test_one_process_at_a_time_works_in_a_folder(corpus_folder: Path, tmp_path: Path) -> None:
    request: dict[str, Any] = {"species": ["unigram"], "corpus": corpus_folder, "tokenizer": "byte"}
    heard = []

    def second(outcome: Outcome[EvalRecord]) -> None:
        heard.append(outcome.name)
        with pytest.raises(UsageError, match=r"another process is using .*: wait"):
            compare(tmp_path / "run", **request)

    compare(tmp_path / "run", **request, on_outcome=second)
    assert heard == ["unigram"]
    assert compare(tmp_path / "run", **request).outcomes[0].reused


@pytest.mark.slow
def test_killed_and_started_again(run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    """After kill -9 at several moments, the same command has the results of a run that was not killed."""
    request = ["--corpus", str(corpus_folder), "--tokenizer", "bpe:300", "--species", *SPECIES]
    command = [sys.executable, "-m", "lmzoo", "compare", *request, "--out", str(tmp_path / "run")]
    for moment in ("encoded", "predictors/*"):  # before any training, and after the first
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not [*(tmp_path / "run").glob(moment)]:
            assert process.poll() is None, "it must not end before it is killed"
            time.sleep(0.02)
        process.kill()
        process.wait()
    finished = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    records = [EvalRecord(**json.loads(line)) for line in finished.stdout.splitlines()]
    assert [figures(record) for record in records] == [
        figures(record) for record in read_records(run / "results.jsonl")
    ]
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_checkpoint_that_a_kill_left_beside_its_predictor_is_deleted(corpus_folder: Path, tmp_path: Path) -> None:
    """A kill after the predictor was saved and before its checkpoint was deleted."""
    request: dict[str, Any] = {"species": ["unigram"], "corpus": corpus_folder, "tokenizer": "byte"}
    compare(tmp_path / "run", **request)
    (tmp_path / "run" / "results.jsonl").unlink()
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "unigram.safetensors").touch()
    compare(tmp_path / "run", **request)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize(("name", "whole_group"), [("SIGINT", True), ("SIGTERM", False), ("SIGHUP", True)])
def test_a_signal_says_how_to_continue(name: str, whole_group: bool, corpus_folder: Path, tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to all processes at once, and the main process sends it to its jobs again."""
    number = getattr(signal, name)
    # Small networks start to train soon; with the largest budget, they cannot be done before the signal comes.
    request = ["--corpus", str(corpus_folder), "--species", "lstm", "gru", "--budget", "thorough", "--jobs", "2"]
    request += ["--set", "lstm.d_hidden=16", "--set", "gru.d_hidden=16"]
    log = tmp_path / "steps.jsonl"
    request += ["--log", f"jsonl:{log}"]
    command = [sys.executable, "-m", "lmzoo", "compare", *request, "--out", str(tmp_path / "run")]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)
    try:
        while not (are_training(log) if whole_group else (tmp_path / "run" / "encoded").exists()):
            assert process.poll() is None, "it must not end before the signal comes"
            time.sleep(0.05)
        jobs = psutil.Process(process.pid).children(recursive=True)
        (os.killpg if whole_group else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + number, errors
    said = [line for line in errors.splitlines() if not line.startswith("corpus ")]
    assert said == [MESSAGE + ADVICE]
    assert not psutil.wait_procs(jobs, timeout=5)[1]
    saved = sorted(
        path.name for path in (tmp_path / "run").rglob("*") if "checkpoints" in path.parts and path.is_file()
    )
    assert not whole_group or saved == ["gru.safetensors", "lstm.safetensors"]


def are_training(log: Path) -> bool:
    """Returns True if a log of training steps has a step of both networks."""
    steps = log.read_text() if log.exists() else ""
    return '"name": "lstm"' in steps and '"name": "gru"' in steps


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_at_the_start_ends_every_fit(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt while jobs are submitted also ends the jobs that have just started."""
    submit = ThreadPoolExecutor.submit

    def submit_and_interrupt(pool: ThreadPoolExecutor, *job: Any) -> Any:
        submitted = submit(pool, *job)
        signal.raise_signal(signal.SIGINT)
        return submitted

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "run", species=["lstm", "gru"], corpus=corpus_folder, budget="thorough")
    assert not multiprocessing.active_children()
