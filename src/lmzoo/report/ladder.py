"""The ladder of abilities: tables that the terminal, Markdown and HTML share, and the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmzoo import sources, zoo
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import write_csv
from lmzoo.experiments.ladder import (
    MAX_EXCESS_NATS,
    MAX_RELATIVE_EXCESS,
    TaskResult,
    by_species,
    first_to_pass,
    read_task_results,
)
from lmzoo.report import charts
from lmzoo.report.figures import Figures
from lmzoo.report.leaderboard import formatted
from lmzoo.report.pages import origin, write_pages

_N_SAMPLES = 3
_LONGEST_CONTEXT = 4
"""Longest context, in tokens, whose optimal loss is shown."""

COLUMNS = ("model", "excess, nats/token", "± error", "share of baseline", "parameters", "fit", "passed")
MAIN = ("model", "excess, nats/token", "± error", "share of baseline", "passed")
"""The columns that a page shows first."""

Rows = tuple[list[str], list[list[str]]]
"""A header and the rows of a table."""


@dataclass(frozen=True)
class Task:
    """The results of all models on one task of `lmzoo ladder`, a generated text of known entropy.

    Also holds facts about the text, such as its entropy and some samples.
    """

    card: sources.SourceCard
    samples: list[str]
    """Documents sampled from the source."""
    entropy: float
    """Nats per token: the source's entropy if known in closed form, else its mean surprisal on the test text."""
    is_exact: bool
    """True if the entropy is known in closed form."""
    baseline_nats: float | None
    """Baseline loss on the target tokens, in nats: of an oracle that lacks only the deciding fact."""
    limits: list[float]
    """Loss, in nats per token, of the optimal predictor with a context of 0, 1, 2, ... tokens; [] if unknown."""
    n_tokens: int
    """Number of test tokens."""
    n_target_tokens: int
    """Number of target tokens in the test text."""
    first: str
    """Year and name of the oldest model that passed, such as "1997 lstm"."""
    rows: list[list[str]]
    """Cells under `COLUMNS`, one row for each model with its best seed."""


def write_ladder(folder: str | Path) -> list[Path]:
    """Writes pages about the results of `lmzoo ladder` into the folder of the results, and returns their paths.

    The results are the losses of models on a ladder of tasks: generated texts of known entropy. They are read from
    `ladder.jsonl`; no model is trained. The pages, `ladder.md` and `ladder.html`, have a table of losses above the
    entropy, and a section about each task. Also writes the figures, and the results as a table, `ladder.csv`. Raises
    LmzooError if the folder holds no results.
    """
    folder = Path(folder)
    task_results = read_task_results(folder)
    if not task_results:
        raise LmzooError(f"{folder} holds no results of the ladder yet: run lmzoo ladder --out {folder}")
    figures = Figures()
    context = {
        "tables": [
            ("Excess cross-entropy in nats per token", *excess(task_results)),
            ("Excess on the target tokens, relative to the baseline", *shares(task_results)),
        ],
        "columns": COLUMNS,
        "main": MAIN,
        "tasks": [_task(results) for results in _by_task(task_results)],
        "figure": figures.draw("ladder", charts.ladder(_best(task_results))),
        "passed_nats": MAX_EXCESS_NATS,
        "passed_share": MAX_RELATIVE_EXCESS,
        "seeds": sorted({result.seed or 0 for result in task_results}),
        **origin(task_results, task_results[0].versions),
        "machine": task_results[0].machine,
    }
    figures.save(folder)
    write_csv(folder / "ladder.csv", task_results)
    return write_pages(folder, ["ladder.md", "ladder.html"], context)


def excess(task_results: Sequence[TaskResult]) -> Rows:
    """Returns a table of the excess cross-entropy of every model on every task: its loss above the entropy of the text.

    A task is a generated text of known entropy; the unit is nats per token. The second column names the oldest model
    that passed the task. Of several seeds of a model, the best is shown; "✓ 2/3" means that two of three seeds passed.
    """
    return _table(task_results, lambda result: formatted(result.excess_nats, ".3f"))


def shares(task_results: Sequence[TaskResult]) -> Rows:
    """Returns a table of the loss of every model on the target tokens of every task, relative to a baseline.

    A task is a generated text of known entropy, and its target tokens test one ability. 0 % is the lowest possible
    loss, and 100 % the loss of a model that knows all except the fact that determines these tokens. Tasks without
    target tokens are left out.
    """
    return _table(
        [result for result in task_results if result.n_target_tokens],
        lambda result: formatted(result.relative_excess, ".0%"),
    )


def _table(task_results: Sequence[TaskResult], text: Callable[[TaskResult], str]) -> Rows:
    species = sorted({result.species for result in task_results}, key=zoo.place)
    rows = []
    for results in _by_task(task_results):
        cells = {name: f"{text(seeds[0])} {_mark(seeds)}".rstrip() for name, seeds in by_species(results).items()}
        rows.append([results[0].task, _first(results), *(cells.get(name, "") for name in species)])
    return ["task", "first to pass", *species], rows


def _best(task_results: Sequence[TaskResult]) -> list[TaskResult]:
    return [seeds[0] for results in _by_task(task_results) for seeds in by_species(results).values()]


def _mark(seeds: Sequence[TaskResult]) -> str:
    """Returns the mark of a model on a task: "✓" if it passed with all seeds, "✓ 2/3" if it passed with two of three.

    The mark is empty if the model passed with no seed.
    """
    n_passed = sum(result.passed for result in seeds)
    if not n_passed:
        return ""
    return "✓" if n_passed == len(seeds) else f"✓ {n_passed}/{len(seeds)}"


def _first(task_results: Sequence[TaskResult]) -> str:
    first = first_to_pass(task_results)
    return "–" if first is None else f"{zoo.card(first.species).year} {first.species}"


def _by_task(task_results: Sequence[TaskResult]) -> list[list[TaskResult]]:
    by_task = ([result for result in task_results if result.task == task] for task in sources.names())
    return [results for results in by_task if results]


def _task(task_results: Sequence[TaskResult]) -> Task:
    card = sources.card(task_results[0].task)
    source = sources.source(card.name)
    entropy = task_results[0].optimal_nats if source.entropy is None else source.entropy
    limits = []
    if isinstance(source, sources.FiniteState):
        limits = [source.limit(n_tokens) for n_tokens in range(_LONGEST_CONTEXT + 1)]
    return Task(
        card=card,
        samples=[source.text(ids) for ids in source.sample(_N_SAMPLES, np.random.default_rng(0)).documents()],
        entropy=entropy,
        is_exact=source.entropy is not None,
        baseline_nats=source.baseline_nats,
        limits=limits,
        n_tokens=task_results[0].n_tokens,
        n_target_tokens=task_results[0].n_target_tokens,
        first=_first(task_results),
        rows=[
            _cells(seeds) for seeds in by_species(sorted(task_results, key=lambda one: zoo.place(one.species))).values()
        ],
    )


def _cells(seeds: Sequence[TaskResult]) -> list[str]:
    result = seeds[0]
    return [
        result.species,
        formatted(result.excess_nats, ".4f"),
        formatted(result.excess_error, ".4f"),
        formatted(result.relative_excess, ".1%"),
        f"{result.n_parameters:,}",
        formatted(result.fit_seconds, ".1f") + " s",
        _mark(seeds),
    ]
