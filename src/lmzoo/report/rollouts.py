"""The section about the training by PPO (proximal policy optimization), on the page about a run of `lmzoo align`.

It shows the measures of the rollouts, and reward and grade against the Kullback-Leibler (KL) divergence. A rollout is
the set of replies that are sampled before the policy, the model that is trained, learns from them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import SavedModelError
from lmzoo.evaluation.overoptimisation import Form, RewardCurve, end_slope, fit_reward_curve
from lmzoo.report import charts
from lmzoo.report.figures import Figure, Figures
from lmzoo.report.leaderboard import formatted

Table = dict[str, NDArray[np.float64]]
"""The columns of a table of numbers, by their names."""

_MAX_POINTS = 200
"""Largest number of points of a line; consecutive rollouts are averaged to get no more."""
MEASURES = {
    "reward": ("reward", "mean reward of a reply by the reward model, before any penalty is subtracted"),
    "grade": ("judge's grade", "mean grade of a reply by the judge"),
    "kl": ("KL, nats/reply", "Kullback-Leibler divergence from the fine-tuned model (SFT)"),
    "kl_coefficient": ("KL penalty", "what is subtracted from the reward for each nat of divergence"),
    "entropy": ("entropy, nats", "mean entropy of the next token"),
    "tokens": ("tokens", "mean number of tokens of a reply"),
    "ended": ("ended", "share of the replies that the model ended itself"),
    "distinct": ("distinct", "number of different replies, as a share of all"),
}
"""The columns of the file of rollouts, each with its title and its meaning."""
_MAIN = ("reward", "grade", "kl", "kl_coefficient")
HEADER = ("measure", "first rollouts", "last rollouts")
CURVE_HEADER = ("replies", "measure", "a", "b", "R²", "KL at the peak")
_FITTED = ("reward", "grade")
"""The measures to which curves are fitted."""
_FORMS: dict[str, Form] = {"PPO": "reinforcement learning", "best of n": "best of n"}


@dataclass(frozen=True)
class RolloutSection:
    """The figures and tables about a training run of PPO."""

    n_rollouts: int
    """Number of rollouts."""
    n_averaged: int
    """Number of consecutive rollouts whose mean is one point of a figure."""
    figures: list[Figure]
    """Figures of reward, grade, divergence and penalty against the number of the rollout."""
    other_figures: list[Figure]
    """Figures of the other measures."""
    constant: list[str]
    """Measures with the same value in all rollouts, with this value; they have no figure."""
    rows: list[list[str]]
    """Cells of the table with the header `HEADER`: means over the first and the last tenth of the rollouts."""
    reward_figures: list[Figure]
    """Figures of reward and grade against the square root of the divergence."""
    curves: list[list[str]]
    """Cells of the table with the header `CURVE_HEADER`, one row for each fitted curve."""
    verdict: str
    """A sentence that says whether more divergence lowered the judge's grade; empty if there are no grades."""
    has_best_of_n: bool
    """True if there are measures of the best of n replies, too."""


def rollout_section(folder: Path, stage: str, figures: Figures) -> RolloutSection | None:
    """Makes the section about the training of a stage from `STAGE.csv`, and from `best_of_n.csv` if it exists.

    Returns None if the stage has no rollouts. Raises SavedModelError for a damaged file.
    """
    rollouts = _read_table(folder / f"{stage}.csv", ("reward", "kl"))
    if rollouts is None:
        return None
    n_rollouts = len(rollouts["reward"])
    best_of_n = _read_table(folder / "best_of_n.csv", ("n", "kl", "reward", "grade"))
    n_averaged = math.ceil(n_rollouts / _MAX_POINTS)
    points = {name: _averaged(values, n_averaged) for name, values in rollouts.items()}
    drawn = {
        name: figures.draw(
            f"{stage}-{name.replace('_', '-')}",
            charts.by_rollout(
                title, _averaged(np.arange(1, n_rollouts + 1, dtype=np.float64), n_averaged), points[name]
            ),
        )
        for name, (title, _) in MEASURES.items()
        if name in rollouts and np.ptp(rollouts[name]) > 0
    }
    measured = {"PPO": rollouts} | ({"best of n": best_of_n} if best_of_n else {})
    curves = {
        (kind, name): fit_reward_curve(table["kl"], table[name], _FORMS[kind])
        for name in _FITTED
        for kind, table in measured.items()
        if name in table
    }
    return RolloutSection(
        n_rollouts=n_rollouts,
        n_averaged=n_averaged,
        figures=[drawn[name] for name in _MAIN if name in drawn],
        other_figures=[drawn[name] for name in drawn if name not in _MAIN],
        constant=[
            f"{title} {values[0]:.4g}"
            for name, (title, _) in MEASURES.items()
            if (values := rollouts.get(name)) is not None and name not in drawn
        ],
        rows=_rows(rollouts),
        reward_figures=_reward_figures(stage, measured | {"PPO": points}, curves, figures),
        curves=[_curve_row(*key, curve, measured) for key, curve in curves.items() if curve],
        verdict=_verdict(curves.get(("PPO", "grade")), rollouts),
        has_best_of_n=best_of_n is not None,
    )


def _read_table(path: Path, required: Sequence[str]) -> Table | None:
    """Reads a CSV file of finite numbers, which must have the columns `required`.

    Columns that are neither required nor a measure are ignored. Returns None if the file does not exist or has no rows.
    Raises SavedModelError for a damaged file.
    """
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            names = [name for name in reader.fieldnames or () if name in required or name in MEASURES]
            missing = [name for name in required if name not in names]
            if missing:
                raise ValueError(f"the column {missing[0]} is missing")
            rows = [[float(row[name]) for name in names] for row in reader]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise SavedModelError(f"{path} is damaged: {error}; delete it, or repeat the training by PPO") from error
    columns = np.array(rows, np.float64).reshape(-1, len(names))
    if not (np.abs(columns) < 1e100).all():
        raise SavedModelError(f"{path} has numbers that are not finite: delete it, or repeat the training by PPO")
    return dict(zip(names, columns.T, strict=True)) if rows else None


def _averaged(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Returns the mean of each group of `n` consecutive values; the last group may have fewer."""
    return np.array([values[start : start + n].mean() for start in range(0, len(values), n)])


def _rows(rollouts: Table) -> list[list[str]]:
    tenth = math.ceil(len(rollouts["reward"]) / 10)
    return [
        [title, formatted(rollouts[name][:tenth].mean(), ".3f"), formatted(rollouts[name][-tenth:].mean(), ".3f")]
        for name, (title, _) in MEASURES.items()
        if name in rollouts
    ]


def _reward_figures(
    stage: str, tables: dict[str, Table], curves: dict[tuple[str, str], RewardCurve | None], figures: Figures
) -> list[Figure]:
    """Draws the reward, and the judge's grade if there is one, against the square root of the divergence."""
    return [
        figures.draw(
            f"{stage}-{name}-and-kl",
            charts.by_divergence(
                MEASURES[name][0],
                {kind: (np.sqrt(np.maximum(table["kl"], 0)), table[name]) for kind, table in tables.items()},
                {kind: curve for kind in tables if (curve := curves.get((kind, name)))},
            ),
        )
        for name in _FITTED
        if name in tables["PPO"]
    ]


def _curve_row(kind: str, name: str, curve: RewardCurve, tables: dict[str, Table]) -> list[str]:
    return [
        kind,
        MEASURES[name][0],
        formatted(curve.gain, ".3f"),
        formatted(curve.loss, ".3f"),
        formatted(curve.r_squared, ".2f"),
        "–" if (peak := _measured_peak(curve, tables[kind])) is None else f"{peak:.1f}",
    ]


def _measured_peak(curve: RewardCurve, table: Table) -> float | None:
    """Returns the divergence at which a curve has its maximum; None if it has none, or none within the measurements."""
    return curve.peak**2 if curve.peak is not None and curve.peak**2 < table["kl"].max() else None


def _verdict(curve: RewardCurve | None, rollouts: Table) -> str:
    """Returns a sentence on the judge's grade at the largest divergence; "" if there is no curve of the grade."""
    if curve is None:
        return ""
    slope = end_slope(rollouts["kl"], rollouts["grade"], curve.form)
    low, high = slope or (-math.inf, math.inf)
    if low <= 0 <= high:
        return "At the largest divergence, the judge's grade neither rises nor falls significantly."
    if low > 0:
        return "The judge's grade rises up to the largest divergence, so this training run shows no over-optimisation."
    peak = _measured_peak(curve, rollouts)
    if peak is None:
        return (
            "The judge's grade falls when the divergence rises, so the reward model rewards what the judge does not "
            "value."
        )
    return (
        f"The judge's grade falls beyond a divergence of {peak:.1f} nats per reply: from there on, the reward model "
        "rewards what the judge does not value."
    )
