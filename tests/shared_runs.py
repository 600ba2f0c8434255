"""Runs that many tests read, each made once for all workers of the test run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_texts import small_texts
from shared_folders import shared_folder

from lmzoo.experiments.compare import compare
from lmzoo.report import write_report

SPECIES = ["unigram", "markov", "trigram", "cache", "hmm", "rnn"]
SETTINGS: dict[str, dict[str, Any]] = {
    "cache": {"static": "markov"},
    "hmm": {"n_states": 4, "n_iterations": 2},
    "rnn": {"d_embed": 8, "d_hidden": 16, "training": {"tokens": 5000, "batch_size": 4, "chunk_size": 8}},
}


def made_once(name: str, make: Callable[[Path], object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns this worker's copy of a folder, which the first worker that needs it makes by `make(folder)`."""
    return Path(shutil.copytree(shared_folder(name, make), tmp_path_factory.mktemp("shared") / name))


def make_run_and_corpus(home: Path) -> None:
    """Compares models on texts with marks of HTML in them, and writes the report: `home` gets `corpus` and `run`."""
    (home / "corpus").mkdir(parents=True)
    for number, text in enumerate(small_texts()):
        content = f"{text}\n<b>and & {number:03}</b>"
        (home / "corpus" / f"{number:03}.txt").write_text(content, encoding="utf-8")
    assert not compare(
        home / "run", species=SPECIES, corpus=home / "corpus", tokenizer="bpe:300", settings=SETTINGS
    ).failures
    write_report(home / "run")
