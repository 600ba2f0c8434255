"""The ladder of abilities: one definition of its tables for the terminal, Markdown and HTML, and its two pages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmzoo import sources, zoo
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import write_csv
from lmzoo.experiments.ladder import CLIMBED_NATS, CLIMBED_SHARE, Climb, by_species, first_to_climb, read_climbs
from lmzoo.report import charts
from lmzoo.report.figures import Figures
from lmzoo.report.leaderboard import figure
from lmzoo.report.pages import write_pages

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

_GAP = 2
"""Spaces between the columns of a terminal."""
_N_SAMPLES = 3
_MOST_SEEN = 4
"""Tokens of the past that the last of the limits is about."""

COLUMNS = ("species", "excess, nats/token", "± error", "share of ignorance", "parameters", "fit", "climbed")

Rows = tuple[list[str], list[list[str]]]
"""A header, and the rows under it."""


@dataclass(frozen=True)
class Rung:
    """A source, and what became of the species on it."""

    card: sources.SourceCard
    samples: list[str]
    """Documents."""
    entropy: float
    """Nats per token: of the source where there is a closed form, else of the test text as the source predicts it."""
    is_exact: bool
    ignorance: float | None
    limits: list[float]
    """Nats per token that the best predictor of the last 0, 1, 2, ... tokens expects to pay; [] where nobody knows."""
    n_tokens: int
    """Of the test text."""
    n_decisive: int
    first: str
    """To climb it, as "1997 lstm"."""
    rows: list[list[str]]
    """Of its species with their best seeds, under `COLUMNS`."""


def write_ladder(folder: str | Path) -> list[Path]:
    """Writes `ladder.md` and `ladder.html` beside `ladder.jsonl` and returns their paths. Fits nothing."""
    folder = Path(folder)
    climbs = read_climbs(folder)
    if not climbs:
        raise LmzooError(f"nothing was climbed in {folder} yet: run lmzoo ladder --out {folder}")
    figures = Figures()
    context = {
        "tables": [
            ("Excess in nats per token", *excess(climbs)),
            ("Excess where it counts, as a share of what ignorance costs", *shares(climbs)),
        ],
        "columns": COLUMNS,
        "rungs": [_rung(own) for own in _by_rung(climbs)],
        "figure": figures.draw("ladder", charts.ladder(_best(climbs))),
        "climbed_nats": CLIMBED_NATS,
        "climbed_share": CLIMBED_SHARE,
        "seeds": sorted({climb.seed for climb in climbs}),
        "commands": sorted({climb.command for climb in climbs if climb.command}),
        "versions": ", ".join(f"{name} {version}" for name, version in climbs[0].versions.items()),
        "machine": climbs[0].machine,
    }
    figures.save(folder)
    write_csv(folder / "ladder.csv", climbs)
    return write_pages(folder, ["ladder.md", "ladder.html"], context)


def excess(climbs: Sequence[Climb]) -> Rows:
    """For each rung who was the first to climb it, and what every species pays above the entropy, in nats per token.

    Of several seeds the best counts; where some of them climbed and others did not, "✓ 2/3" says how many.
    """
    return _table(climbs, lambda climb: figure(climb.excess_nats, ".3f"))


def shares(climbs: Sequence[Climb]) -> Rows:
    """The same on the decisive tokens of the rungs that have some, as shares of what ignorance costs there."""
    return _table([climb for climb in climbs if climb.n_decisive], lambda climb: figure(climb.decisive_share, ".0%"))


def as_rich_tables(climbs: Sequence[Climb], width: int) -> Group:
    """The excess for a terminal of `width` characters: one table, or several if they have too many species for one."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    header, rows = excess(climbs)
    # Figures get room where others have their mark, so that their points stand below each other.
    room = max((len(cell.partition(" ")[2]) for row in rows for cell in row[2:]), default=0)
    rows = [[*row[:2], *(_with_room(cell, room) for cell in row[2:])] for row in rows]
    rungs, *columns = zip(header, *rows, strict=True)  # from top to bottom
    tables: list[RenderableType] = []
    while columns:
        ends = itertools.accumulate((_width(column) for column in columns), initial=_width(rungs))
        n_here = max(1, sum(end <= width + _GAP for end in ends) - 1)
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
        for column in (rungs, *columns[:n_here]):
            table.add_column(column[0], justify="left" if column[0] in header[:2] else "right", no_wrap=True)
        for cells in zip(*(column[1:] for column in (rungs, *columns[:n_here])), strict=True):
            table.add_row(*map(Text, cells))
        tables += [Text(), table] if tables else [table]
        columns = columns[n_here:]
    return Group(*tables)


def _with_room(cell: str, room: int) -> str:
    number, _, mark = cell.partition(" ")
    return f"{number} {mark:{room}}"


def _width(column: Sequence[str]) -> int:
    return max(map(len, column)) + _GAP


def _table(climbs: Sequence[Climb], text: Callable[[Climb], str]) -> Rows:
    species = sorted({climb.species for climb in climbs}, key=_era)
    rows = []
    for own in _by_rung(climbs):
        cells = {name: f"{text(seeds[0])} {_mark(seeds)}".rstrip() for name, seeds in by_species(own).items()}
        rows.append([own[0].rung, _first(own), *(cells.get(name, "") for name in species)])
    return ["rung", "first to climb", *species], rows


def _best(climbs: Sequence[Climb]) -> list[Climb]:
    return [seeds[0] for own in _by_rung(climbs) for seeds in by_species(own).values()]


def _mark(seeds: Sequence[Climb]) -> str:
    """✓ where a species climbed with all seeds, ✓ 2/3 where with some."""
    n_climbed = sum(climb.climbed for climb in seeds)
    if not n_climbed:
        return ""
    return "✓" if n_climbed == len(seeds) else f"✓ {n_climbed}/{len(seeds)}"


def _first(climbs: Sequence[Climb]) -> str:
    first = first_to_climb(climbs)
    return "–" if first is None else f"{zoo.card(first.species).year} {first.species}"


def _era(species: str) -> tuple[int, str]:
    """Sorts species as the zoo lists them; those of a plug-in that has gone come last."""
    names = zoo.names()
    return (names.index(species) if species in names else len(names)), species


def _by_rung(climbs: Sequence[Climb]) -> list[list[Climb]]:
    return [own for rung in sources.names() if (own := [climb for climb in climbs if climb.rung == rung])]


def _rung(climbs: Sequence[Climb]) -> Rung:
    card = sources.card(climbs[0].rung)
    source = sources.source(card.name)
    entropy = climbs[0].optimal_nats if source.entropy is None else source.entropy
    limits = []
    if isinstance(source, sources.FiniteState):
        limits = [source.limit(n_tokens) for n_tokens in range(_MOST_SEEN + 1)]
    return Rung(
        card=card,
        samples=[source.text(ids) for ids in source.sample(_N_SAMPLES, np.random.default_rng(0)).documents()],
        entropy=entropy,
        is_exact=source.entropy is not None,
        ignorance=source.baseline_nats,
        limits=limits,
        n_tokens=climbs[0].n_tokens,
        n_decisive=climbs[0].n_decisive,
        first=_first(climbs),
        rows=[_cells(seeds) for seeds in by_species(sorted(climbs, key=lambda one: _era(one.species))).values()],
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
