"""Learning curves as text and pages: one definition for the terminal, Markdown and HTML."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmzoo.evaluation.records import write_csv
from lmzoo.evaluation.scaling import Crossing
from lmzoo.experiments.curves import Curves, Law, loss_of, read_curves, share_name
from lmzoo.report.leaderboard import short_number
from lmzoo.report.pages import write_pages

LAW_HEADER = ("species", "against", "E", "95 %", "α", "95 %", "A", "misfit")


@dataclass(frozen=True)
class Change:
    """A pair whose curves cross, in words."""

    tokens: float
    """Where; of several times, the last one."""
    sentence: str
    is_certain: bool
    """Whether it happens within the text on nearly all resamples of the test split, if there are any."""


def tokens(number: float) -> str:
    """As "210 k tokens"."""
    return f"{short_number(number)} tokens"


def header(curves: Curves) -> list[str]:
    """The titles over `rows`."""
    shares = zip(curves.n_parts, curves.n_train_tokens.tolist(), strict=True)
    return ["species", *(f"{share_name(n)}: {short_number(size)}" for n, size in shares)]


def rows(curves: Curves) -> list[list[str]]:
    """A row for each entry, the best on all of the text first: its loss on each share."""
    return [
        [name, *("–" if math.isnan(loss) else f"{loss:.3f}" for loss in losses)]
        for name, losses in zip(curves.names, curves.losses.tolist(), strict=True)
    ]


def leaders(curves: Curves) -> list[str]:
    """Who is best, from the smallest text on, in words."""
    found = curves.leaders()
    names, ends = [name for _, name in found], [start for start, _ in found[1:]]
    if len(names) < 2:
        return [f"at every size: {name}" for name in names]
    lines = [f"below {tokens(end)}: {name}" for name, end in zip(names, ends, strict=False)]
    return [*lines, f"above: {names[-1]}"]


def changes(curves: Curves) -> list[Change]:
    """All pairs whose curves cross, the earliest first."""
    found = []
    for first, second in itertools.combinations(curves.static, 2):
        crossings = curves.crossings(first, second)
        if len(crossings) == 1:
            found.append(_change(first, second, crossings[0]))
        elif crossings:
            found.append(_changes(first, second, crossings))
    return sorted(found, key=lambda change: change.tokens)


def _change(first: str, second: str, crossing: Crossing) -> Change:
    ahead, behind = (first, second) if crossing.first_is_ahead_before else (second, first)
    sentence = f"{ahead} is ahead of {behind} below {tokens(crossing.x)}{_interval(crossing)}"
    return Change(crossing.x, sentence, _is_certain([crossing]))


def _changes(first: str, second: str, crossings: Sequence[Crossing]) -> Change:
    *places, last = (f"{short_number(crossing.x)}{_interval(crossing)}" for crossing in crossings)
    winner = second if crossings[-1].first_is_ahead_before else first
    sentence = (
        f"{first} and {second} change places at {', '.join(places)} and {last} tokens; in the end {winner} is ahead"
    )
    return Change(crossings[-1].x, sentence, _is_certain(crossings))


def _is_certain(crossings: Sequence[Crossing]) -> bool:
    return all(crossing.interval is None or crossing.is_certain for crossing in crossings)


def _interval(crossing: Crossing) -> str:
    if crossing.interval is None:
        return ""
    low, high = crossing.interval
    start = "less than was measured" if low == 0 else short_number(low)
    end = "more than was measured" if math.isinf(high) else short_number(high)
    return f" ({start} to {end})"


def law_rows(laws: Sequence[Law]) -> list[list[str]]:
    """The cells under `LAW_HEADER`; dashes where there is no law."""
    return [_law_row(one) for one in laws]


def _law_row(one: Law) -> list[str]:
    law = one.law
    if law is None:
        return [one.name, one.against, *(["–"] * (len(LAW_HEADER) - 2))]
    floor = f"{law.floor:.2f}"
    if not law.has_floor:
        floor = "0" if float(floor) == 0 else f"{floor}, or 0"
    return [
        one.name,
        one.against,
        floor,
        # Where even the fits to fewer points end at the bound of 0, they do not tell how far it is from there.
        f"{law.floor_interval[0]:.2f} to {law.floor_interval[1]:.2f}" if law.floor_interval[1] > 0 else "–",
        f"{law.exponent:.2f}",
        f"{law.exponent_interval[0]:.2f} to {law.exponent_interval[1]:.2f}",
        f"{law.scale:.3g}",
        f"{law.misfit:.1%}",
    ]


def facts(curves: Curves) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "unit": curves.unit,
        "n_train_tokens": [int(size) for size in curves.n_train_tokens],
        "points": [
            {
                "name": record.name,
                "train_share": record.train_share,
                "n_train_tokens": record.n_train_tokens,
                "loss": loss_of(record),
                "n_parameters": record.n_parameters,
                "training_flops": record.training_flops,
            }
            for record in curves.records
        ],
        "leaders": [{"from_tokens": start, "name": name} for start, name in curves.leaders()],
        "crossings": [
            {"first": first, "second": second, **_crossing_facts(crossing)}
            for first, second in itertools.combinations(curves.static, 2)
            for crossing in curves.crossings(first, second)
        ],
        "laws": [
            {"name": one.name, "against": one.against, "n_points": one.n_points, "law": one.law and asdict(one.law)}
            for one in curves.laws()
        ],
    }


def _crossing_facts(crossing: Crossing) -> dict[str, Any]:
    low, high = crossing.interval or (0.0, math.inf)
    return {
        "tokens": crossing.x,
        "first_is_ahead_before": crossing.first_is_ahead_before,
        "low": low or None,
        "high": high if math.isfinite(high) else None,
    }


def write_page(folder: str | Path) -> list[Path]:
    """Writes `curves.md` and `curves.html` into the folder of a run and returns their paths. Fits no model."""
    from lmzoo.report import charts  # here, as whoever wants the table needs no figures
    from lmzoo.report.figures import Figures

    folder = Path(folder)
    curves = read_curves(folder)
    laws, found = curves.laws(), changes(curves)
    records = curves.records
    figures = Figures()
    drawn = {
        "tokens": charts.by_train_tokens(curves),
        "flops": charts.by_training_flops(curves),
        "parameters": charts.by_parameters(curves),
    }
    context = {
        "first": records[-1],
        "unit": curves.unit,
        "n_shares": len(curves.n_parts),
        "header": header(curves),
        "rows": rows(curves),
        "leaders": leaders(curves),
        "adaptive": [name for name in curves.names if name not in curves.static],
        "certain": [change.sentence for change in found if change.is_certain],
        "uncertain": [change.sentence for change in found if not change.is_certain],
        "law_header": LAW_HEADER,
        "laws": law_rows([one for one in laws if one.law]),
        "lawless": [f"{one.name} (against {one.against})" for one in laws if not one.law],
        "without_floor": [one.name for one in laws if one.law and one.against == "tokens" and not one.law.has_floor],
        "passes": _passes(curves),
        "figures": [figures.draw(name, chart) for name, chart in drawn.items() if chart is not None],
        "commands": sorted({record.command for record in records if record.command}),
        "versions": ", ".join(f"{name} {version}" for name, version in records[-1].versions.items()),
    }
    figures.save(folder)
    write_csv(folder / "curves.csv", records)
    return write_pages(folder, ["curves.md", "curves.html"], context)


def _passes(curves: Curves) -> list[tuple[str, str]]:
    """Networks, each with how many times it read its text; the median over the shares."""
    found = []
    for name in curves.names:
        reads = sorted(
            record.n_tokens_read / record.n_train_tokens
            for record in curves.records
            if record.name == name and record.n_tokens_read is not None
        )
        if reads:
            found.append((name, f"{reads[len(reads) // 2]:.2g}"))
    return found
