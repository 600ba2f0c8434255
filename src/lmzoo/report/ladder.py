"""The ladder of abilities: tables that the terminal, Markdown and HTML share, and the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmzoo import sources, zoo
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import write_csv
from lmzoo.experiments.ladder import CLIMBED_NATS, CLIMBED_SHARE, Climb, by_species, first_to_climb, read_climbs
from lmzoo.report import charts
from lmzoo.report.figures import Figures
from lmzoo.report.leaderboard import figure
from lmzoo.report.pages import write_pages

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
    """One task of the ladder: its source of text, and the results of the models."""

    card: sources.SourceCard
    samples: list[str]
    """Documents sampled from the source."""
    entropy: float
    """Nats per token: the source's entropy if known in closed form, else its mean surprisal on the test text."""
    is_exact: bool
    """True if the entropy is known in closed form."""
    ignorance: float | None
    """Baseline loss on the target tokens, in nats: of an oracle that lacks only the deciding fact."""
    limits: list[float]
    """Loss, in nats per token, of the optimal predictor with a context of 0, 1, 2, ... tokens; [] if unknown."""
    n_tokens: int
    """Number of test tokens."""
    n_decisive: int
    """Number of target tokens in the test text."""
    first: str
    """Year and name of the oldest model that passed, such as "1997 lstm"."""
    rows: list[list[str]]
    """Cells under `COLUMNS`, one row for each model with its best seed."""


def write_ladder(folder: str | Path) -> list[Path]:
    """Writes `ladder.md` and `ladder.html` beside `ladder.jsonl` and returns their paths. Trains no model.

    Raises LmzooError if the folder holds no result.
    """
    folder = Path(folder)
    climbs = read_climbs(folder)
    if not climbs:
        raise LmzooError(f"{folder} holds no results of the ladder yet: run lmzoo ladder --out {folder}")
    figures = Figures()
    context = {
        "tables": [
            ("Excess cross-entropy in nats per token", *excess(climbs)),
            ("Excess on the target tokens, relative to the baseline", *shares(climbs)),
        ],
        "columns": COLUMNS,
        "main": MAIN,
        "tasks": [_task(results) for results in _by_task(climbs)],
        "figure": figures.draw("ladder", charts.ladder(_best(climbs))),
        "passed_nats": CLIMBED_NATS,
        "passed_share": CLIMBED_SHARE,
        "seeds": sorted({climb.seed for climb in climbs}),
        "commands": sorted({climb.command for climb in climbs if climb.command}),
        "versions": ", ".join(f"{name} {version}" for name, version in climbs[0].versions.items()),
        "machine": climbs[0].machine,
    }
    figures.save(folder)
    write_csv(folder / "ladder.csv", climbs)
    return write_pages(folder, ["ladder.md", "ladder.html"], context)


def excess(climbs: Sequence[Climb]) -> Rows:
    """Returns the table of excess cross-entropy: every model on every task, in nats per token above the entropy.

    The second column names the oldest model that passed. Of several seeds the best is shown; "✓ 2/3" means that two
    of three seeds passed.
    """
    return _table(climbs, lambda climb: figure(climb.excess_nats, ".3f"))


def shares(climbs: Sequence[Climb]) -> Rows:
    """Returns the table of excess cross-entropy on the target tokens, as a share of the baseline loss.

    Tasks without target tokens are left out.
    """
    return _table([climb for climb in climbs if climb.n_decisive], lambda climb: figure(climb.decisive_share, ".0%"))


def _table(climbs: Sequence[Climb], text: Callable[[Climb], str]) -> Rows:
    species = sorted({climb.species for climb in climbs}, key=_registry_order)
    rows = []
    for results in _by_task(climbs):
        cells = {name: f"{text(seeds[0])} {_mark(seeds)}".rstrip() for name, seeds in by_species(results).items()}
        rows.append([results[0].rung, _first(results), *(cells.get(name, "") for name in species)])
    return ["task", "first to pass", *species], rows


def _best(climbs: Sequence[Climb]) -> list[Climb]:
    return [seeds[0] for results in _by_task(climbs) for seeds in by_species(results).values()]


def _mark(seeds: Sequence[Climb]) -> str:
    """Returns "✓" if all seeds of a model passed, "✓ 2/3" if two of three did, and "" if none did."""
    n_passed = sum(climb.climbed for climb in seeds)
    if not n_passed:
        return ""
    return "✓" if n_passed == len(seeds) else f"✓ {n_passed}/{len(seeds)}"


def _first(climbs: Sequence[Climb]) -> str:
    first = first_to_climb(climbs)
    return "–" if first is None else f"{zoo.card(first.species).year} {first.species}"


def _registry_order(species: str) -> tuple[int, str]:
    """Returns a sort key for the order of the registry; species that are no longer registered come last."""
    names = zoo.names()
    return (names.index(species) if species in names else len(names)), species


def _by_task(climbs: Sequence[Climb]) -> list[list[Climb]]:
    by_task = ([climb for climb in climbs if climb.rung == task] for task in sources.names())
    return [results for results in by_task if results]


def _task(climbs: Sequence[Climb]) -> Task:
    card = sources.card(climbs[0].rung)
    source = sources.source(card.name)
    entropy = climbs[0].optimal_nats if source.entropy is None else source.entropy
    limits = []
    if isinstance(source, sources.FiniteState):
        limits = [source.limit(n_tokens) for n_tokens in range(_LONGEST_CONTEXT + 1)]
    return Task(
        card=card,
        samples=[source.text(ids) for ids in source.sample(_N_SAMPLES, np.random.default_rng(0)).documents()],
        entropy=entropy,
        is_exact=source.entropy is not None,
        ignorance=source.ignorance,
        limits=limits,
        n_tokens=climbs[0].n_tokens,
        n_decisive=climbs[0].n_decisive,
        first=_first(climbs),
        rows=[
            _cells(seeds) for seeds in by_species(sorted(climbs, key=lambda one: _registry_order(one.species))).values()
        ],
    )


def _cells(seeds: Sequence[Climb]) -> list[str]:
    climb = seeds[0]
    return [
        climb.species,
        figure(climb.excess_nats, ".4f"),
        figure(climb.excess_error, ".4f"),
        figure(climb.decisive_share, ".1%"),
        f"{climb.n_parameters:,}",
        f"{climb.fit_seconds:.1f} s",
        _mark(seeds),
    ]
