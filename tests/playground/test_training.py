"""Models that are fitted while the playground runs: their progress, their order, and what a second start reuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lmzoo import Predictor
from lmzoo.experiments.plan import RunPlan
from lmzoo.playground import training as module
from lmzoo.playground.training import Training, training_router
from lmzoo.server.models import ServedModels
from lmzoo.system.jobs import Outcome
from lmzoo.system.progress import Progress

TINY = {"rnn": {"d_embed": 4, "d_hidden": 4, "training": {"tokens": 500, "batch_size": 2, "chunk_size": 8}}}


def new_training(folder: Path, corpus: Path, models: ServedModels) -> Training:
    plan = RunPlan(species=["rnn", "markov"], corpus=corpus, tokenizer="char", settings=TINY, jobs=1, device="cpu")
    return Training(folder, plan.checked(), models)


def run_in_this_process(jobs, *, at_a_time, on_outcome, on_progress) -> None:
    for job in jobs:
        on_outcome(Outcome(job.name, job.do(lambda progress, name=job.name: on_progress(name, progress))))


def test_models_are_fitted_and_a_second_start_reuses_them(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_jobs", run_in_this_process)
    monkeypatch.setattr("os.nice", lambda increment: 0)
    models = ServedModels({})
    training = new_training(tmp_path / "run", corpus_folder, models)
    assert [fit.state for fit in training.fits] == ["waiting", "waiting"]
    assert not training.is_finished
    training.run()
    assert training.is_finished
    assert [(fit.name, fit.state, fit.share) for fit in training.fits] == [("markov", "ready", 1), ("rnn", "ready", 1)]
    assert models.names == ["markov", "rnn"]
    assert models.get("rnn").predict_distribution("The").probs.sum() == pytest.approx(1)

    monkeypatch.setattr(module, "run_jobs", lambda jobs, **arguments: pytest.fail("fitted again") if jobs else None)
    again = ServedModels({})
    new_training(tmp_path / "run", corpus_folder, again).run()
    assert again.names == ["markov", "rnn"]


def test_progress_and_failures_are_reported(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ServedModels({})
    training = new_training(tmp_path / "run", corpus_folder, models)
    app = FastAPI()
    app.include_router(training_router(training))
    client = TestClient(app)
    seen = []

    def fail(jobs, *, at_a_time, on_outcome, on_progress) -> None:
        on_progress("markov", Progress(1, 4, "steps", "counting"))
        seen.append(client.get("/playground/training").json())
        on_outcome(Outcome("markov", error="no memory"))

    monkeypatch.setattr(module, "run_jobs", fail)
    training.run()
    assert seen[0][0]["title"] == "Markov chain"
    facts = ("name", "state", "share", "seconds_left", "message")
    assert [seen[0][0][fact] for fact in facts] == ["markov", "fitting", 0.25, None, "counting"]
    assert [seen[0][1][fact] for fact in facts] == ["rnn", "waiting", None, None, ""]
    failed = client.get("/playground/training").json()[0]
    assert (failed["state"], failed["message"]) == ("failed", "no memory")
    assert models.names == []
    assert not training.is_finished


def test_the_time_that_is_left(corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that continues at 50 of 100 steps and makes 10 in 2 s needs 8 s for the other 40; steps start anew."""
    training = new_training(tmp_path / "run", corpus_folder, ServedModels({}))
    clock = iter([100.0, 102.0, 110.0, 111.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    left = []

    def report(jobs, *, at_a_time, on_outcome, on_progress) -> None:
        for progress in (Progress(50, 100, "steps"), Progress(60, 100, "steps"), Progress(0, 8, "texts")):
            on_progress("markov", progress)
            left.append(training.fits[0].seconds_left)
        on_progress("markov", Progress(2, 8, "texts"))
        left.append(training.fits[0].seconds_left)

    monkeypatch.setattr(module, "run_jobs", report)
    training.run()
    assert left == [None, 8.0, None, 3.0]


def test_a_name_that_is_taken_gets_the_folder(corpus_folder: Path, tmp_path: Path, markov_predictor: Predictor) -> None:
    training = new_training(tmp_path / "run", corpus_folder, ServedModels({"markov": markov_predictor}))
    assert {fit.name for fit in training.fits} == {"run/markov", "rnn"}


def test_without_a_training_the_list_is_empty() -> None:
    app = FastAPI()
    app.include_router(training_router(None))
    assert TestClient(app).get("/playground/training").json() == []
