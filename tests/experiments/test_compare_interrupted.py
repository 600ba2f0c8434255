"""`compare`: runs that are killed, interrupted, or in use by another process."""

from __future__ import annotations

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from compare_runs import SPECIES, figures

from lmzoo.errors import UsageError
from lmzoo.evaluation.records import EvalRecord, read_records
from lmzoo.experiments.compare import compare
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
    for delay in (1.5, 3.5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        process.wait()
    finished = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    records = [EvalRecord(**json.loads(line)) for line in finished.stdout.splitlines()]
    assert [figures(record) for record in records] == [
        figures(record) for record in read_records(run / "results.jsonl")
    ]
    assert not list((tmp_path / "run").rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_says_how_to_continue(corpus_folder: Path, tmp_path: Path) -> None:
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
    assert "interrupted; repeat the command to continue" in errors
    assert "Traceback" not in errors


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
