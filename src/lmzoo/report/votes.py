"""What the species of a run make of the test text together, as text: one definition for Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import LmzooError
from lmzoo.evaluation.ensemble import Together, together
from lmzoo.evaluation.records import EvalRecord
from lmzoo.evaluation.scores import load_log_probs
from lmzoo.evaluation.statistics import grouping
from lmzoo.experiments.run_folder import scores_path
from lmzoo.report.leaderboard import figure
from lmzoo.report.standings import ranked_log_probs

HEADER = ("species", "weight", "bits/byte of the others", "lost without it", "95 % of that")

_MIXTURE, _BEST, _DYNAMIC = 0, 1, 2
"""Rows of `Together.sure`."""


@dataclass(frozen=True)
class Votes:
    """The mixture of a run's species."""

    verdict: str
    """What it is worth, in a sentence."""
    dynamic: str
    """bits/byte with weights that follow the test text."""
    rows: list[list[str]]
    """Under `HEADER`, the greatest loss first."""


def votes(folder: Path, records: Sequence[EvalRecord], encoded: EncodedCorpus) -> Votes | None:
    """Mixes the records that have bits per byte and scores in the run folder; None if that is not two.

    Neither mixtures nor models that adapt to the test text are among them.
    """
    names, valid, test = [], [], []
    for record in records:
        of_test = None if record.species == "mixture" else ranked_log_probs(folder, record, encoded)
        if of_test is None:
            continue
        try:
            of_valid = load_log_probs(scores_path(folder, record.name, "valid"), len(encoded.valid.stream))
        except LmzooError:  # of an earlier version, or damaged
            continue
        names.append(record.name)
        valid.append(of_valid)
        test.append(of_test)
    if len(names) < 2:
        return None
    found = together(names, np.stack(valid), np.stack(test), encoded.test.bytes_by_token, grouping(encoded.test.stream))
    return None if found is None else Votes(_verdict(found), f"{found.sure.figures[_DYNAMIC]:.3f}", _rows(found))


def _verdict(found: Together) -> str:
    sure, best = found.sure, found.names[found.best]
    least, most = sure.difference_intervals[_BEST, _MIXTURE]
    gain = f"{sure.differences[_BEST, _MIXTURE]:.3f} ({least:.3f} to {most:.3f})"
    if not sure.are_distinguishable(_BEST, _MIXTURE):
        return f"Together they are as good as {best} alone: {gain} bits per byte are within what chance makes."
    word = "less" if sure.differences[_BEST, _MIXTURE] > 0 else "more"
    return (
        f"Together they need {sure.figures[_MIXTURE]:.3f} bits per byte, {gain.removeprefix('-')} {word} than {best},"
        " the best of them alone."
    )


def _rows(found: Together) -> list[list[str]]:
    sure, rows = found.sure, []
    for member, name in enumerate(found.names):
        row = found.without(member)
        least, most = sure.difference_intervals[row, _MIXTURE]
        lost = sure.differences[row, _MIXTURE]
        cells = [
            name,
            f"{found.weights[member]:.3f}",
            f"{sure.figures[row]:.3f}",
            figure(lost, ".4f"),
            f"{figure(least, '.4f')} to {figure(most, '.4f')}",
        ]
        rows.append((lost, cells))
    return [cells for _, cells in sorted(rows, key=lambda pair: -pair[0])]
