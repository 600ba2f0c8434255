"""Helpers of the tests of prequential coding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmzoo import load_corpus
from lmzoo.evaluation.code_records import CodeRecord
from lmzoo.experiments.plan import RunPlan
from lmzoo.experiments.prequential import prequential as run_prequential
from lmzoo.experiments.result import RunResult


def prequential(folder: Path, *, growth: float = 2.0, **plan: Any) -> RunResult[CodeRecord]:
    return run_prequential(folder, RunPlan(**plan), growth=growth)


def texts_of(folder: Path) -> list[str]:
    corpus = load_corpus(folder)
    return [document.text for split in (corpus.train, corpus.valid, corpus.test) for document in split]


def stops_of(sizes: list[int], growth: float) -> list[int]:
    """Returns the number of documents up to the end of each block, by adding one document at a time."""
    total = sum(sizes)
    shares = [1.0]
    while shares[-1] > 1 / 1024:
        shares.append(shares[-1] / growth)
    stops = []
    for share in reversed(shares):
        seen, number = 0, 0
        while seen < min(total, max(256, share * total)):
            seen += sizes[number]
            number += 1
        if number not in stops:
            stops.append(number)
    return stops


def record_of(coding: RunResult[CodeRecord], name: str) -> CodeRecord:
    return next(record for record in coding.records if record.name == name)
