"""How sure the order of a leaderboard is, as text: one definition for Markdown and HTML."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import EvalRecord
from lmzoo.evaluation.scores import load_scores
from lmzoo.evaluation.statistics import Certainty, certainty, grouping
from lmzoo.experiments.run_folder import scores_path

HEADER = ("species", "bits/byte", "95 %", "behind the best", "95 % of that", "cannot be told from")


@dataclass(frozen=True)
class Pair:
    """Two species, the better one first, and how surely they differ. In bits per byte."""

    better: str
    worse: str
    difference: float
    low: float
    """End of the 95 % interval of the difference."""
    high: float
    p_value: float
    """Of the paired permutation test, corrected for the number of pairs (Holm)."""
    told_apart: bool


@dataclass(frozen=True)
class Standings:
    """The species that have scores, the best first, and which of them are as good as equal."""

    unit: str
    """What was drawn anew for the intervals."""
    rows: list[list[str]]
    """Under `HEADER`."""
    verdict: str
    """Who is best, in a sentence."""
    pairs: list[Pair]
    """All of them."""


def standings(folder: Path, records: Sequence[EvalRecord], encoded: EncodedCorpus) -> Standings | None:
    """Compares the records (best first) that have bits per byte and scores in the run folder; None if that is not two.

    Models that adapt to the test text are left out, as from every ranking.
    """
    found = {record.name: ranked_log_probs(folder, record, encoded) for record in records}
    known = {name: log_probs for name, log_probs in found.items() if log_probs is not None}
    if len(known) < 2:
        return None
    rows = np.stack(list(known.values()))
    return compared(list(known), certainty(rows, encoded.test.bytes_by_token, grouping(encoded.test.stream)))


def ranked_log_probs(folder: Path, record: EvalRecord, encoded: EncodedCorpus) -> NDArray[np.floating] | None:
    """(T,) what a record that is ranked gave the tokens of the test split; None if it is not, or has no scores."""
    if not record.is_ranked:
        return None
    try:
        return load_scores(scores_path(folder, record.name, "test"), len(encoded.test.stream)).log_probs
    except LmzooError:  # of an earlier version, or damaged
        return None


def compared(names: Sequence[str], sure: Certainty | None) -> Standings | None:
    """What there is to say of models with these names, the best first; None if nothing is known."""
    if sure is None:
        return None
    alike = [
        [names[other] for other in range(len(names)) if other != own and not sure.are_distinguishable(own, other)]
        for own in range(len(names))
    ]
    rows = []
    for own, name in enumerate(names):
        low, high = sure.intervals[own]
        least, most = sure.difference_intervals[own, 0]
        behind = [f"{sure.differences[own, 0]:.3f}", f"{least:.3f} to {most:.3f}" if own else ""]
        rows.append(
            [name, f"{sure.figures[own]:.3f}", f"{low:.3f} to {high:.3f}", *behind, ", ".join(alike[own]) or "–"]
        )
    pairs = [_pair(names, sure, *pair) for pair in itertools.combinations(range(len(names)), 2)]
    return Standings(sure.unit, rows, _verdict(names, alike[0], rows), pairs)


def _pair(names: Sequence[str], sure: Certainty, better: int, worse: int) -> Pair:
    low, high = sure.difference_intervals[worse, better].tolist()
    return Pair(
        names[better],
        names[worse],
        difference=float(sure.differences[worse, better]),
        low=low,
        high=high,
        p_value=float(sure.p_values[worse, better]),
        told_apart=sure.are_distinguishable(worse, better),
    )


def _verdict(names: Sequence[str], as_good: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if as_good:
        return f"{names[0]} has the lowest figure, but this text cannot tell it from {_listed(as_good)}."
    return f"{names[0]} is the best: {names[1]}, next to it, needs {rows[1][3]} bits per byte more ({rows[1][4]})."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
