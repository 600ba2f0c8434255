"""Fits models on a text while the playground runs: the first are there within seconds, and networks follow.

Each model is fitted in a process of its own and saved in a run folder, as `lmzoo compare` does. A second start on the
same text continues what was interrupted and reuses what is finished.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from fastapi import APIRouter
from pydantic import BaseModel

from lmzoo import zoo
from lmzoo.experiments.fitting import FitJob, encoded_in
from lmzoo.experiments.plan import RunPlan
from lmzoo.experiments.run_folder import open_run
from lmzoo.server.models import ServedModels
from lmzoo.system.jobs import Outcome, run_jobs
from lmzoo.system.progress import OnProgress, Progress


class FitProgress(BaseModel):
    """The progress of the fit of one model."""

    name: str
    state: Literal["waiting", "fitting", "ready", "failed"] = "waiting"
    share: float | None = None
    """Share of the fit that is done, from 0 to 1; None if it is unknown."""
    message: str = ""
    """The step of the fit, such as the losses of a network; after a failure, the reason."""


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

    `plan` must have been checked. Models that are counted come first, since they are fitted within seconds.
    """

    def __init__(self, folder: Path, plan: RunPlan, models: ServedModels) -> None:
        self._folder, self._plan, self._models = folder, plan, models
        self._preparation = ""
        self._fits = {name: FitProgress(name=name) for name in plan.species}

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
        from lmzoo.chat.tuning import is_neural  # imports torch, for which the pages need not wait

        plan = self._plan
        self._fits = {name: self._fits[name] for name in sorted(self._fits, key=is_neural)}
        self._preparation = "reading the text"
        corpus = plan.load_corpus()
        with open_run(self._folder, plan.request(corpus)):
            encoded_in(self._folder, corpus, plan.tokenizer, self._prepare)
            self._preparation = ""
            fits = [
                _BackgroundFit(self._folder, zoo.card(name), "", plan.settings_of(name), plan.seed, plan.device)
                for name in self._fits
            ]
            waiting = []
            for fit in fits:
                if (predictor := fit.fitted_before()) is None:
                    waiting.append(fit)
                else:
                    self._models.add(fit.name, predictor)
                    self._fits[fit.name] = FitProgress(name=fit.name, state="ready", share=1)
            run_jobs(waiting, at_a_time=plan.jobs or 1, on_outcome=self._end, on_progress=self._report)

    def _prepare(self, progress: Progress) -> None:
        share = f" ({progress.done / progress.total:.0%})" if progress.total else ""
        self._preparation = f"{progress.message or 'preparing the text'}{share}"

    def _report(self, name: str, progress: Progress) -> None:
        share = progress.done / progress.total if progress.total else None
        self._fits[name] = FitProgress(name=name, state="fitting", share=share, message=progress.message)

    def _end(self, outcome: Outcome[Path]) -> None:
        if outcome.record is None:
            self._fits[outcome.name] = FitProgress(name=outcome.name, state="failed", message=outcome.error)
            return
        self._models.add(outcome.name, outcome.record)
        self._fits[outcome.name] = FitProgress(name=outcome.name, state="ready", share=1)


def training_router(training: Training | None) -> APIRouter:
    """Returns the route that reports the progress of `training`; without a training, its list is empty."""
    router = APIRouter(prefix="/playground")

    @router.get("/training")
    def progress() -> list[FitProgress]:
        """Lists the models that are fitted while the server runs, in the order in which they are fitted."""
        return list(training.fits) if training else []

    return router
