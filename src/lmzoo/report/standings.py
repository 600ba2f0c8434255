"""Which differences of a leaderboard are significant, as text that Markdown and HTML share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import EvalRecord
from lmzoo.evaluation.statistics import PairedComparison, compare_pairs, resampling_units
from lmzoo.experiments.stored_ensemble import ranked_log_probs

HEADER = (
    "model",
    "bits/byte",
    "95 %",
    "behind the best",
    "95 % of the difference",
    "no significant difference from",
)
MAIN = ("model", "bits/byte", "behind the best", "95 % of the difference", "no significant difference from")
"""The columns that a page shows first."""


@dataclass(frozen=True)
class Pair:
    """The difference between the losses of two models in bits per byte, with its significance."""

    better: str
    worse: str
    difference: float
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    p_value: float
    """P-value of the paired permutation test, Holm-corrected for the number of pairs."""
    significant: bool


@dataclass(frozen=True)
class Standings:
    """The comparison of all ranked models with each other, as a table, a sentence and a list of pairs.

    Models that adapt to the test text are not ranked. The best model is first.
    """

    unit: str
    """What the bootstrap resamples, such as "118 documents"."""
    rows: list[list[str]]
    """Cells under `HEADER`."""
    verdict: str
    """One sentence: the best model and its lead."""
    pairs: list[Pair]


def stored_corpus(folder: Path) -> EncodedCorpus | None:
    """Returns the encoded corpus of a run folder; None if it cannot be read."""
    try:
        return EncodedCorpus.load(folder / "encoded")
    except LmzooError:
        return None


def standings(folder: Path, records: Sequence[EvalRecord], encoded: EncodedCorpus) -> Standings | None:
    """Compares the losses of every two models of a run by significance tests, and returns a table and a sentence.

    `records` are the evaluation records, best first. Only ranked models whose log-probabilities are stored in `folder`
    are compared; models that adapt to the test text are not ranked. Returns None if there are fewer than two.
    """
    stored = {record.name: ranked_log_probs(folder, record, encoded) for record in records}
    known = {name: log_probs for name, log_probs in stored.items() if log_probs is not None}
    if len(known) < 2:
        return None
    log_probs = np.stack(list(known.values()))
    return describe(
        list(known), compare_pairs(log_probs, encoded.test.bytes_by_token, resampling_units(encoded.test.stream))
    )


def describe(names: Sequence[str], comparison: PairedComparison | None) -> Standings | None:
    """Returns the result of significance tests between models as a table, a sentence, and a list of pairs of models.

    `names` are the names of the models in the order of `comparison`, the result of the tests. Returns None if
    `comparison` is None.
    """
    if comparison is None:
        return None
    similar = [
        [names[b] for b in range(len(names)) if b != a and not comparison.is_significant(a, b)]
        for a in range(len(names))
    ]
    rows = []
    for index, name in enumerate(names):
        low, high = comparison.intervals[index]
        least, most = comparison.difference_intervals[index, 0]
        behind = [f"{comparison.differences[index, 0]:.3f}", f"{least:.3f} to {most:.3f}" if index else ""]
        figures = [f"{comparison.losses[index]:.3f}", f"{low:.3f} to {high:.3f}"]
        rows.append([name, *figures, *behind, ", ".join(similar[index]) or "–"])
    pairs = [_pair(names, comparison, *pair) for pair in itertools.combinations(range(len(names)), 2)]
    return Standings(comparison.units, rows, _verdict(names, similar[0], rows), pairs)


def _pair(names: Sequence[str], comparison: PairedComparison, better: int, worse: int) -> Pair:
    low, high = comparison.difference_intervals[worse, better].tolist()
    return Pair(
        names[better],
        names[worse],
        difference=float(comparison.differences[worse, better]),
        low=low,
        high=high,
        p_value=float(comparison.p_values[worse, better]),
        significant=comparison.is_significant(worse, better),
    )


def _verdict(names: Sequence[str], similar: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if similar:
        return f"{names[0]} has the lowest loss, but does not differ significantly from {_listed(similar)}."
    return (
        f"{names[0]} is significantly better than every other model: the second best, {names[1]}, needs {rows[1][3]}"
        f" bits per byte more (95 % interval {rows[1][4]})."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
