"""Finds the runs of `lmzoo align`, and the chat models in them."""

from __future__ import annotations

import math
from pathlib import Path

from lmzoo.errors import UsageError
from lmzoo.evaluation.records import read_lines
from lmzoo.experiments.align.records import StageRecord
from lmzoo.experiments.align.stages import CHAT_STAGES, predictor_folder


def stage_records(run: str | Path) -> list[StageRecord]:
    """Reads the records of a run folder, in the order of the stages; returns [] if no stage is finished."""
    return read_lines(Path(run) / "results.jsonl", StageRecord)


def newest_run(runs: str | Path = "runs") -> Path | None:
    """Returns the run folder of `lmzoo align` with the newest results, among the folders `align-*` in `runs`.

    Returns None if there is none.
    """
    results = [path for path in Path(runs).glob("align-*/results.jsonl") if path.is_file()]
    newest = max(results, key=lambda path: (path.stat().st_mtime, path.parent.name), default=None)
    return newest and newest.parent


def best_chat_model(run: str | Path) -> Path:
    """Returns the folder of the best chat model of a run.

    The best one is that whose sampled replies have the highest mean grade; if the run has no judge, it is the model of
    the last stage. The model of PPO without a penalty is never chosen. Raises UsageError if the run has no chat model
    yet.
    """
    run = Path(run)
    trained = [
        record
        for record in stage_records(run)
        if record.stage in CHAT_STAGES and predictor_folder(run, record.stage).is_dir()
    ]
    if not trained:
        raise UsageError(f"{run} has no chat model yet: repeat the command lmzoo align that made it, to finish the run")
    best = max(
        trained,
        key=lambda one: (-math.inf if one.grade is None else one.grade, CHAT_STAGES.index(one.stage)),
    )
    return predictor_folder(run, best.stage)
