"""Fits models on a text while the playground runs: the first are there within seconds, and networks follow.

Each model is fitted in a process of its own and saved in a run folder, as `lmzoo compare` does. A second start on the
same text continues what was interrupted and reuses what is finished.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

from fastapi import APIRouter
from pydantic import BaseModel

from lmzoo import zoo
from lmzoo.corpora.load import as_corpus
from lmzoo.experiments.fitting import FitJob, encoded_in
from lmzoo.experiments.plan import RunPlan
from lmzoo.experiments.run_folder import open_run
from lmzoo.predictor import Predictor
from lmzoo.server.models import ServedModels
from lmzoo.system.jobs import Outcome, run_jobs
from lmzoo.system.progress import OnProgress, Progress


class FitProgress(BaseModel):
    """The progress of the fit of one model."""

    name: str
    """Name that the model has on the server."""
    title: str
    state: Literal["waiting", "fitting", "ready", "failed"] = "waiting"
    share: float | None = None
    """Share of the present step of the fit that is done, from 0 to 1; None if it is unknown."""
    seconds_left: float | None = None
    """Estimated time until the end of the step; None if it is unknown."""
    message: str = ""
    """The step of the fit, such as the losses of a network; after a failure, the reason."""


class _Step(NamedTuple):
    """The first report of one step of a fit, from which the time that is left is estimated."""

    unit: str
    total: float | None
    first: float
    """Number of units that were done at the first report: those of an earlier, interrupted fit."""
    started: float

    def seconds_left(self, progress: Progress) -> float | None:
        """Returns the estimated time until the end of the step; None before any unit is done, or without a total."""
        done = progress.done - self.first
        if not self.total or done <= 0:
            return None
        return (self.total - progress.done) * (time.monotonic() - self.started) / done


@dataclass(frozen=True)
class _BackgroundFit(FitJob):
    """A fit whose process yields the processor to the server, so that the pages stay quick."""

    def do(self, on_progress: OnProgress) -> Path:
        if hasattr(os, "nice"):
            os.nice(10)
        return super().do(on_progress)


@final
class Training:
    """Fits the models of a plan in a run folder, and adds each to the models of a server when it is fitted.

    `plan` must have been checked. Models that are counted come first, since they are fitted within seconds. A model has
    the name of its species, or FOLDER/SPECIES if the server has a model of this name already.
    """

    def __init__(self, folder: Path, plan: RunPlan, models: ServedModels) -> None:
        self._folder, self._plan, self._models = folder, plan, models
        self._preparation = ""
        self._steps: dict[str, _Step] = {}
        self._fits = {
            species: FitProgress(
                name=f"{folder.resolve().name}/{species}" if species in models.names else species,
                title=zoo.card(species).title,
            )
            for species in plan.species
        }

    @property
    def fits(self) -> Sequence[FitProgress]:
        """The progress of each fit; before the first one, the message says how far the text is prepared."""
        fits = list(self._fits.values())
        return [
            fit.model_copy(update={"message": self._preparation}) if fit.state == "waiting" else fit for fit in fits
        ]

    @property
    def is_finished(self) -> bool:
        """True if every fit has ended, with a model or with an error."""
        return all(fit.state in ("ready", "failed") for fit in self._fits.values())

    def run(self) -> None:
        """Fits all models, and returns when the last one has ended.

        An interrupt of the main thread, such as Ctrl-C, interrupts the fits, which save their checkpoints. Raises
        CorpusError for an unusable text, and UsageError if the folder holds another run or is in use.
        """
        plan = self._plan
        self._fits = {species: self._fits[species] for species in sorted(self._fits, key=zoo.is_network)}
        self._preparation = "reading the text"
        corpus = as_corpus(plan.corpus)
        with open_run(self._folder, plan.request(corpus)):
            encoded_in(self._folder, corpus, plan.tokenizer, self._prepare)
            self._preparation = ""
            waiting = []
            for species in self._fits:
                settings = plan.settings_of(species)
                fit = _BackgroundFit(self._folder, zoo.card(species), "", settings, plan.seed, plan.device)
                if (predictor := fit.fitted_before()) is None:
                    waiting.append(fit)
                else:
                    self._add(species, predictor)
            run_jobs(waiting, at_a_time=plan.jobs or 1, on_outcome=self._end, on_progress=self._report)

    def _prepare(self, progress: Progress) -> None:
        share = f" ({progress.done / progress.total:.0%})" if progress.total else ""
        self._preparation = f"{progress.message or 'preparing the text'}{share}"

    def _report(self, species: str, progress: Progress) -> None:
        step = self._steps.get(species)
        if step is None or (step.unit, step.total) != (progress.unit, progress.total):
            step = self._steps[species] = _Step(progress.unit, progress.total, progress.done, time.monotonic())
        self._change(
            species,
            state="fitting",
            share=progress.done / progress.total if progress.total else None,
            seconds_left=step.seconds_left(progress),
            message=progress.message,
        )

    def _end(self, outcome: Outcome[Path]) -> None:
        if outcome.record is None:
            self._change(outcome.name, state="failed", seconds_left=None, message=outcome.error)
        else:
            self._add(outcome.name, outcome.record)

    def _add(self, species: str, predictor: Predictor | Path) -> None:
        self._models.add(self._fits[species].name, predictor)
        self._change(species, state="ready", share=1, seconds_left=None, message="")

    def _change(self, species: str, **changes: Any) -> None:
        self._fits[species] = self._fits[species].model_copy(update=changes)


def training_router(training: Training | None) -> APIRouter:
    """Returns the route that reports the progress of `training`; without a training, its list is empty."""
    router = APIRouter(prefix="/playground")

    @router.get("/training")
    def progress() -> list[FitProgress]:
        """Lists the models that are fitted while the server runs, in the order in which they are fitted."""
        return list(training.fits) if training else []

    return router
