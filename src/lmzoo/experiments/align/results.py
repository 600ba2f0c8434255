"""Finds the runs of `lmzoo align`, and the chat models in them."""

from __future__ import annotations

import math
from pathlib import Path

from lmzoo.errors import UsageError
from lmzoo.evaluation.records import read_lines
from lmzoo.experiments.align.records import StageRecord
from lmzoo.experiments.align.stages import CHAT_STAGES, predictor_folder


def stage_records(run: str | Path) -> list[StageRecord]:
    """Reads the records of a run folder, in the order of the stages; [] if no stage is finished."""
    return read_lines(Path(run) / "results.jsonl", StageRecord)


def newest_run(runs: str | Path = "runs") -> Path:
    """Returns the run folder of `lmzoo align` with the newest results, among the folders `align-*` in `runs`.

    Raises UsageError if there is none.
    """
    found = [path for path in Path(runs).glob("align-*/results.jsonl") if path.is_file()]
    if not found:
        raise UsageError(
            f"there is no run in {Path(runs) / 'align-*'}: train a chat model with lmzoo align, or name one with -p"
        )
    return max(found, key=lambda path: (path.stat().st_mtime, path.parent.name)).parent


def best_chat_model(run: str | Path) -> Path:
    """Returns the folder of the chat model of a run whose sampled replies have the highest mean grade under the judge.

    Without grades, it is the model of the latest stage. Raises UsageError if the run has no chat model yet.
    """
    run = Path(run)
    trained = [
        record
        for record in stage_records(run)
        if record.stage in CHAT_STAGES and predictor_folder(run, record.stage).is_dir()
    ]
    if not trained:
        raise UsageError(f"{run} has no chat model yet: run the same lmzoo align again, so that it finishes")
    best = max(
        trained,
        key=lambda one: (-math.inf if one.score is None else one.score, CHAT_STAGES.index(one.stage)),
    )
    return predictor_folder(run, best.stage)
