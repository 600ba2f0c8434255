"""Runs that several tests of the experiments share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from compare_runs import SPECIES
from prequential_runs import prequential
from shared_runs import made_once

from lmzoo.evaluation.code_records import CodeRecord
from lmzoo.experiments.compare import compare
from lmzoo.experiments.result import RunResult
from lmzoo.report import write_report


@pytest.fixture(scope="session")
def run(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        plan = {"species": SPECIES, "corpus": corpus_folder, "tokenizer": "bpe:300", "command": "lmzoo compare"}
        comparison = compare(folder, **plan)
        assert [record.species for record in comparison.records] == SPECIES
        assert not comparison.failures
        write_report(folder)

    return made_once("small-run", make, tmp_path_factory)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Restores the default handler of interrupts, which a job in the background of a shell ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def coding(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult[CodeRecord]:
    training = {"tokens": 3000, "batch_size": 4, "chunk_size": 16}

    def code(folder: Path) -> RunResult[CodeRecord]:
        return prequential(
            folder,
            species=["uniform", "unigram", "markov", "ngram", "rnn"],
            corpus=corpus_folder,
            settings={"rnn": {"d_embed": 8, "d_hidden": 16, "training": training}},
            command="lmzoo prequential",
        )

    done = code(made_once("prequential-run", code, tmp_path_factory))  # reads the records of the run
    assert not done.failures
    return done
