"""Models that are fitted while the playground runs: their progress, their order, and what a second start reuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

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
    assert seen[0][0] == {"name": "markov", "state": "fitting", "share": 0.25, "message": "counting"}
    assert seen[0][1] == {"name": "rnn", "state": "waiting", "share": None, "message": ""}
    failed = client.get("/playground/training").json()[0]
    assert (failed["state"], failed["message"]) == ("failed", "no memory")
    assert models.names == []
    assert not training.is_finished


def test_without_a_training_the_list_is_empty() -> None:
    app = FastAPI()
    app.include_router(training_router(None))
    assert TestClient(app).get("/playground/training").json() == []
