"""Learning curves: tables and sentences that the terminal, Markdown and HTML share, and the page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmzoo.evaluation.records import write_csv
from lmzoo.evaluation.scaling import Crossing
from lmzoo.experiments.learning_curves import Curves, Law, loss_of, read_curves, share_name
from lmzoo.report.pages import origin, write_pages
from lmzoo.system.counts import short_number

LAW_HEADER = ("model", "against", "E", "95 %", "α", "95 %", "A", "misfit")


@dataclass(frozen=True)
class CrossingText:
    """A sentence that says with how much training text the learning curves of two models cross."""

    tokens: float
    """Training tokens at the crossing; at the last crossing if there are several."""
    sentence: str
    is_certain: bool
    """True if the curves cross within the text on at least 95 % of the bootstrap resamples of the test split."""


def tokens(number: float) -> str:
    """Formats a number of tokens, such as "210 k tokens"."""
    return f"{short_number(number)} tokens"


def header(curves: Curves) -> list[str]:
    """Returns the column titles of a table of test losses: "model", and each share of the train split.

    The title of a share contains its number of tokens.
    """
    shares = zip(curves.shares, curves.n_train_tokens.tolist(), strict=True)
    return ["model", *(f"{share_name(n)}: {short_number(size)}" for n, size in shares)]


def rows(curves: Curves) -> list[list[str]]:
    """Returns the rows of a table of test losses: one row for each model, one column for each share of the train split.

    The model with the lowest loss on the whole train split is first.
    """
    return [
        [name, *("–" if math.isnan(loss) else f"{loss:.3f}" for loss in losses)]
        for name, losses in zip(curves.names, curves.losses.tolist(), strict=True)
    ]


def best_by_size(curves: Curves) -> list[str]:
    """Returns one sentence for each range of training text sizes that names the model with the lowest test loss in it.

    The smallest range is first, as in "below 210 k tokens: ngram".
    """
    ranges = curves.leaders()
    names, ends = [name for _, name in ranges], [start for start, _ in ranges[1:]]
    if len(names) < 2:
        return [f"at every size: {name}" for name in names]
    lines = [f"below {tokens(end)}: {name}" for name, end in zip(names, ends, strict=False)]
    return [*lines, f"above: {names[-1]}"]


def crossings(curves: Curves) -> list[CrossingText]:
    """Returns sentences about the amounts of training text at which the losses of two models are equal.

    There is one sentence for each pair of models whose learning curves cross; the smallest amount is first.
    """
    texts = []
    for first, second in itertools.combinations(curves.static, 2):
        of_pair = curves.crossings(first, second)
        if len(of_pair) == 1:
            texts.append(_one_crossing(first, second, of_pair[0]))
        elif of_pair:
            texts.append(_several_crossings(first, second, of_pair))
    return sorted(texts, key=lambda text: text.tokens)


def _one_crossing(first: str, second: str, crossing: Crossing) -> CrossingText:
    ahead, behind = (first, second) if crossing.first_is_ahead_before else (second, first)
    sentence = f"{ahead} is better than {behind} below {tokens(crossing.x)}{_interval(crossing)}"
    return CrossingText(crossing.x, sentence, _is_certain([crossing]))


def _several_crossings(first: str, second: str, crossings: Sequence[Crossing]) -> CrossingText:
    *others, last = (f"{short_number(crossing.x)}{_interval(crossing)}" for crossing in crossings)
    winner = second if crossings[-1].first_is_ahead_before else first
    sentence = (
        f"the curves of {first} and {second} cross at {', '.join(others)} and {last} tokens; with more text,"
        f" {winner} is better"
    )
    return CrossingText(crossings[-1].x, sentence, _is_certain(crossings))


def _is_certain(crossings: Sequence[Crossing]) -> bool:
    return all(crossing.interval is None or crossing.is_certain for crossing in crossings)


def _interval(crossing: Crossing) -> str:
    if crossing.interval is None:
        return ""
    low, high = crossing.interval
    start = "below the smallest share" if low == 0 else short_number(low)
    end = "above the whole text" if math.isinf(high) else short_number(high)
    return f" ({start} to {end})"


def law_rows(laws: Sequence[Law]) -> list[list[str]]:
    """Returns the rows of a table of the power laws that were fitted to the losses of models.

    A law has the form E + A x^-α, where x is an expense such as training tokens. A model for which no law could be
    fitted has dashes.
    """
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
        # If every jackknife fit ends at the bound E = 0, the fits do not determine an interval.
        f"{law.floor_interval[0]:.2f} to {law.floor_interval[1]:.2f}" if law.floor_interval[1] > 0 else "–",
        f"{law.exponent:.2f}",
        f"{law.exponent_interval[0]:.2f} to {law.exponent_interval[1]:.2f}",
        f"{law.scale:.3g}",
        f"{law.misfit:.1%}",
    ]


def as_json(curves: Curves) -> dict[str, Any]:
    """Returns learning curves as plain values for JSON, with the best models, the crossings and the power laws."""
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
            {"first": first, "second": second, **_crossing_as_json(crossing)}
            for first, second in itertools.combinations(curves.static, 2)
            for crossing in curves.crossings(first, second)
        ],
        "laws": [
            {"name": one.name, "against": one.against, "n_points": one.n_points, "law": one.law and asdict(one.law)}
            for one in curves.laws()
        ],
    }


def _crossing_as_json(crossing: Crossing) -> dict[str, Any]:
    low, high = crossing.interval or (0.0, math.inf)
    return {
        "tokens": crossing.x,
        "first_is_ahead_before": crossing.first_is_ahead_before,
        "low": low or None,
        "high": high if math.isfinite(high) else None,
    }


def write_page(folder: str | Path) -> list[Path]:
    """Writes `curves.md` and `curves.html` into a run folder and returns their paths. Trains no model."""
    from lmzoo.report import charts  # imported here because the table in the terminal needs no figures
    from lmzoo.report.figures import Figures

    folder = Path(folder)
    curves = read_curves(folder)
    laws, texts = curves.laws(), crossings(curves)
    records = curves.records
    figures = Figures()
    drawn = {
        "tokens": charts.by_train_tokens(curves),
        "flops": charts.by_training_flops(curves),
        "parameters": charts.by_parameters(curves),
    }
    context = {
        "first": records[-1],
        "fingerprint": curves.corpus_fingerprint,
        "protocol": curves.protocol,
        "unit": curves.unit,
        "n_shares": len(curves.shares),
        "header": header(curves),
        "rows": rows(curves),
        "leaders": best_by_size(curves),
        "adaptive": [name for name in curves.names if name not in curves.static],
        "certain": [text.sentence for text in texts if text.is_certain],
        "uncertain": [text.sentence for text in texts if not text.is_certain],
        "law_header": LAW_HEADER,
        "laws": law_rows([one for one in laws if one.law]),
        "lawless": [f"{one.name} (against {one.against})" for one in laws if not one.law],
        "without_floor": [one.name for one in laws if one.law and one.against == "tokens" and not one.law.has_floor],
        "epochs": _epochs(curves),
        "figures": [figures.draw(name, chart) for name, chart in drawn.items() if chart is not None],
        **origin(records, records[-1].versions),
    }
    figures.save(folder)
    write_csv(folder / "curves.csv", records)
    return write_pages(folder, ["curves.md", "curves.html"], context)


def _epochs(curves: Curves) -> list[tuple[str, str]]:
    """Returns, for each network, its name and the number of epochs for which it was trained, as text.

    A network is trained once on each share of the training text; the number is the median over these trainings.
    """
    epochs = []
    for name in curves.names:
        reads = sorted(
            record.n_tokens_read / record.n_train_tokens
            for record in curves.records
            if record.name == name and record.n_tokens_read is not None and record.n_train_tokens is not None
        )
        if reads:
            epochs.append((name, f"{reads[len(reads) // 2]:.2g}"))
    return epochs
