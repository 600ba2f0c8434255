"""The results of `lmzoo align`: the table of the stages, which the terminal prints too, and the page about a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmzoo.errors import LmzooError, SavedModelError
from lmzoo.evaluation.records import read_lines, write_csv
from lmzoo.experiments.align.records import StageRecord, WinRate
from lmzoo.experiments.run_folder import read_request
from lmzoo.report.leaderboard import duration, formatted
from lmzoo.report.pages import origin, write_pages
from lmzoo.system.counts import short_number

if TYPE_CHECKING:
    from lmzoo.report.figures import Figure, Figures

LABELS = {
    "base": "base",
    "sft": "SFT",
    "rankings": "rankings",
    "reward": "reward model",
    "dpo": "DPO",
    "ppo": "PPO",
    "ppo-unpenalised": "PPO without penalty",
}
"""The stages of a run in their order, each with its name in tables and figures."""
STAGE_MEANINGS = {
    "base": "the language model before it learns to chat; it continues a prompt as a text",
    "SFT": "supervised fine-tuning: the base learns from conversations; the result is the fine-tuned model",
    "rankings": "replies of the fine-tuned model are ranked by the judge or by people, or a file has the rankings",
    "reward model": "a network learns from the rankings to give each reply a reward",
    "DPO": "direct preference optimization: a copy of the fine-tuned model learns from the rankings themselves",
    "PPO": "proximal policy optimization: a copy of the fine-tuned model samples replies and learns from their rewards",
    "PPO without penalty": "PPO for longer, without a penalty for divergence from SFT, to show over-optimisation",
}
"""What happens in each stage, by its name in tables and figures."""
MAIN = ("stage", "correct", "wins against SFT", "reward accuracy", "bits/byte", "change from base", "time")
"""The columns that a page shows first."""
_NONE = "–"


@dataclass(frozen=True)
class _Column:
    """A column of the table of stages: its title, its meaning, and the function that makes its text from a record."""

    title: str
    meaning: str
    text: Callable[[StageRecord], str]


@dataclass(frozen=True)
class EarlierSection:
    """The comparison of a run with an earlier run, whose base was different."""

    folder: str
    """Folder of the earlier run."""
    base: str
    """Name of the earlier run's base; empty if the results of the earlier run cannot be read."""
    same_text: bool
    """True if both runs measured the loss on the same text."""
    header: list[str]
    """Column titles of the table that compares the stages."""
    rows: list[list[str]]
    """Cells of this table, one row per stage."""
    sentence: str
    """A sentence that says which of the two chat models is better."""


def header_and_rows(records: Sequence[StageRecord]) -> tuple[list[str], list[list[str]]]:
    """Returns the column titles of the table of stages, and its rows, one per stage. Empty columns are left out."""
    shown = _columns(records)
    return [column.title for column in shown], [[column.text(record) for column in shown] for record in records]


def _columns(records: Sequence[StageRecord]) -> list[_Column]:
    """Returns the columns in which at least one of the records has a value."""
    base = _loss(records, "base")
    n_best = next((record.n_best_of for record in records if record.n_best_of), "n")
    pairs = (
        "share of pairs of replies to held-out instructions that the reward model orders as the judge does"
        if any(record.grade is not None for record in records)
        else "share of pairs of replies that the reward model orders as the rankings kept for validation do"
    )
    columns = [
        _Column("stage", "", lambda record: LABELS.get(record.stage, record.stage)),
        _Column(
            "correct", "share of correct replies to held-out instructions, where each reply consists of the most "
            "likely tokens: the mean over the tasks", lambda record: _percent(record.mean_accuracy),
        ),
        _Column(
            "grade", "mean grade of the sampled replies by the judge", lambda record: formatted(record.grade, ".2f"),
        ),
        _Column(
            "wins against SFT", "share of prompts to which the sampled reply gets a higher grade than that of the "
            "fine-tuned model; a tie counts as half a win; in parentheses, the 95 % interval over prompts",
            lambda record: _wins(record.against_sft),
        ),
        _Column(
            f"best of {n_best}", f"the same share for the best of {n_best} replies of the fine-tuned model, as the "
            "reward model chooses it, against the first of these replies", lambda record: _wins(record.best_of_n),
        ),
        _Column(
            "wins against earlier", "the same share against the replies of the same stage in the earlier run",
            lambda record: _wins(record.against_earlier),
        ),
        _Column("reward accuracy", pairs, lambda record: _percent(record.reward_accuracy)),
        _Column(
            "KL, nats/reply", "Kullback-Leibler divergence from the fine-tuned model",
            lambda record: formatted(record.kl, ".2f"),
        ),
        _Column(
            "ended", "share of the sampled replies that the model ended itself", lambda record: _percent(record.ended),
        ),
        _Column(
            "distinct", "number of different sampled replies, as a share of all",
            lambda record: _percent(record.distinct),
        ),
        _Column(
            "bits/byte", "loss on ordinary text, the test split of the corpus",
            lambda record: formatted(record.bits_per_byte, ".3f"),
        ),
        _Column(
            "change from base", "relative change of this loss from that of the base",
            lambda record: _change(record.bits_per_byte, base),
        ),
        _Column(
            "rankings", "number of rankings that were made or used",
            lambda record: _NONE if record.n_rankings is None else f"{record.n_rankings:,}",
        ),
        _Column(
            "tokens read", "number of tokens that the network read in training",
            lambda record: _NONE if record.n_tokens_read is None else short_number(record.n_tokens_read),
        ),
        _Column(
            "parameters", "number of parameters of the network",
            lambda record: short_number(record.n_parameters) if record.n_parameters else _NONE,
        ),
        _Column("time", "time for the stage, without measuring its model", lambda record: duration(record.seconds)),
    ]  # fmt: skip
    return [column for column in columns if any(column.text(record) != _NONE for record in records)]


def headline(records: Sequence[StageRecord]) -> str:
    """Returns one sentence on what a run shows: accuracy after fine-tuning, wins, and the change of the loss."""
    stages = {record.stage: record for record in records}
    parts = [_fine_tuned(stages), *_compared(stages), *_change_of_loss(records, stages)]
    sentence = "; ".join(parts)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def _fine_tuned(stages: dict[str, StageRecord]) -> str:
    base, sft = stages.get("base"), stages.get("sft")
    if sft is None:
        return f"the base {next(iter(stages.values())).base} has not been fine-tuned yet"
    if sft.mean_accuracy is None:
        return f"{sft.base} was fine-tuned on conversations"
    before = f" (before: {100 * base.mean_accuracy:.0f} %)" if base and base.mean_accuracy is not None else ""
    share = f"{100 * sft.mean_accuracy:.0f} %{before}"
    return f"after fine-tuning, {sft.base} replies correctly to {share} of the held-out instructions"


def _compared(stages: dict[str, StageRecord]) -> list[str]:
    learned = {LABELS[stage]: stages[stage].against_sft for stage in ("ppo", "dpo") if stage in stages}
    graded = [f"{name} {_qualified(wins)}" for name, wins in learned.items() if wins]
    if graded:
        text = " and ".join(graded).replace(" ", " wins ", 1)
        return [f"according to the judge, {text} of the comparisons with the fine-tuned model"]
    return [f"then it learned from rankings by {' and '.join(learned)}"] if learned else []


def _qualified(wins: WinRate) -> str:
    """Returns wins as text, which says if they are significantly fewer than half, or not significantly different."""
    if wins.low <= 0.5 <= wins.high:
        return f"{_wins(wins)[:-1]}: no significant difference)"
    return f"only {_wins(wins)}" if wins.high < 0.5 else _wins(wins)


def _change_of_loss(records: Sequence[StageRecord], stages: dict[str, StageRecord]) -> list[str]:
    base = _loss(records, "base")
    last = next((stage for stage in ("ppo", "dpo", "sft") if stage in stages), None)
    loss = _loss(records, last) if last else None
    if not base or loss is None or last is None:
        return []
    change = round(100 * (loss / base - 1), 1)
    how = f"{abs(change)} % {'higher' if change > 0 else 'lower'} than" if change else "equal to"
    return [f"on ordinary text, the loss of {LABELS[last]} is {how} that of the base"]


def write_alignment(folder: str | Path) -> list[Path]:
    """Writes `report.md` and `report.html` into a run folder of `lmzoo align`, and returns their paths.

    The figures are written too (`figures/`), and the records as a table (`results.csv`). Nothing is trained or measured
    for this. Raises SavedModelError if the folder holds no results, and LmzooError for a damaged file.
    """
    from lmzoo.report.figures import Figures  # imported here because the table in the terminal needs no figures
    from lmzoo.report.replies import read_changed_tokens, read_samples
    from lmzoo.report.rollouts import CURVE_HEADER, HEADER, MEASURES, rollout_section

    folder, figures = Path(folder), Figures()
    records = read_stages(folder)
    if not records:
        raise SavedModelError(f"there are no results of lmzoo align in {folder} yet: run lmzoo align --out {folder}")
    request = read_request(folder)
    samples, n_test = read_samples(folder, [record.stage for record in records])
    changed = read_changed_tokens(folder)
    header, rows = header_and_rows(records)
    context: dict[str, Any] = {
        "headline": headline(records),
        "base": records[0].base,
        "n_test": n_test,
        "figures": _figures(records, figures),
        "header": header,
        "rows": rows,
        "main": MAIN,
        "meanings": {column.title: column.meaning for column in _columns(records) if column.meaning},
        "stage_meanings": {label: STAGE_MEANINGS[label] for label in (LABELS[record.stage] for record in records)},
        "tasks": _task_table(records),
        "earlier": _earlier(request, records),
        "sections": {LABELS[stage]: one for stage in LABELS if (one := rollout_section(folder, stage, figures))},
        "rollouts_header": HEADER,
        "measures": MEASURES,
        "curve_header": CURVE_HEADER,
        "samples": samples,
        "labels": LABELS,
        "changed": changed,
        "changed_stages": [
            stage for stage in ("sft", "dpo", "ppo") if any(getattr(one, stage) is not None for one in changed)
        ],
        "settings": {LABELS[record.stage]: record.settings for record in records if record.settings},
        "request": {name: value for name, value in request.items() if value is not None and name != "experiment"},
        **origin(records, records[-1].versions),
        "machine": records[-1].machine,
    }
    figures.save(folder)
    write_csv(folder / "results.csv", records)
    return write_pages(folder, ["report.md", "report.html"], context, templates="alignment")


def read_stages(folder: Path) -> list[StageRecord]:
    """Reads the records of a run folder of `lmzoo align`, in the order of the stages.

    Returns [] if no stage is finished.
    """
    records = {record.stage: record for record in read_lines(folder / "results.jsonl", StageRecord)}
    return [records[stage] for stage in LABELS if stage in records]


def _figures(records: Sequence[StageRecord], figures: Figures) -> list[Figure]:
    """Draws the accuracy by task and stage, and the wins against the fine-tuned model, as far as the run has them."""
    from lmzoo.report import charts

    accuracies = {LABELS[record.stage]: record.accuracy for record in records if record.accuracy}
    best = {f"best of {one.n_best_of}": one.best_of_n for one in records if one.best_of_n}
    rates = best | {LABELS[record.stage]: record.against_sft for record in records if record.against_sft}
    drawn = [figures.draw("accuracy", charts.by_task(accuracies))] if accuracies else []
    return [*drawn, figures.draw("wins", charts.wins(rates, next(iter(best), "")))] if rates else drawn


def _task_table(records: Sequence[StageRecord]) -> tuple[list[str], list[list[str]]] | None:
    """Returns the header and the rows of the table of accuracy by task and stage; None if no stage has accuracies."""
    measured = [record for record in records if record.accuracy]
    tasks = dict.fromkeys(task for record in measured for task in record.accuracy)
    rows = [[task, *(_percent(record.accuracy.get(task)) for record in measured)] for task in tasks]
    return (["task", *(LABELS[record.stage] for record in measured)], rows) if measured else None


def _earlier(request: dict[str, Any], records: Sequence[StageRecord]) -> EarlierSection | None:
    """Returns the comparison with the earlier run that `request` names; None if the records have no such comparison."""
    compared = {record.stage: record.against_earlier for record in records if record.against_earlier}
    if not compared:
        return None
    folder = Path(str(request.get("against", "")))
    try:
        earlier, text = read_stages(folder), read_request(folder).get("corpus_fingerprint")
    except (LmzooError, OSError):
        earlier, text = [], None
    same_text = text is not None and text == request.get("corpus_fingerprint")
    old = {record.stage: record for record in earlier}
    stages = [record for record in records if record.bits_per_byte is not None]
    columns: dict[str, list[str]] = {
        "stage": [LABELS[record.stage] for record in stages],
        "correct, earlier": [_percent(old[one.stage].mean_accuracy) if one.stage in old else _NONE for one in stages],
        "correct, new": [_percent(record.mean_accuracy) for record in stages],
        "bits/byte, earlier": [formatted(_loss(earlier, record.stage), ".3f") for record in stages if same_text],
        "bits/byte, new": [formatted(record.bits_per_byte, ".3f") for record in stages if same_text],
        "wins, new": [_wins(record.against_earlier) for record in stages],
    }
    columns = {title: cells for title, cells in columns.items() if any(cell != _NONE for cell in cells)}
    stage, wins = list(compared.items())[-1]
    verdict = _verdict(wins)
    return EarlierSection(
        folder=str(folder),
        base=earlier[0].base if earlier else "",
        same_text=same_text,
        header=list(columns),
        rows=[list(row) for row in zip(*columns.values(), strict=True)],
        sentence=f"{LABELS[stage]} of this run {verdict} {LABELS[stage]} of the earlier run: it wins {_wins(wins)} of "
        "the comparisons.",
    )


def _verdict(wins: WinRate) -> str:
    if wins.low <= 0.5 <= wins.high:
        return "does not differ significantly from"
    return "is better than" if wins.low > 0.5 else "is worse than"


def _loss(records: Iterable[StageRecord], stage: str) -> float | None:
    return next((record.bits_per_byte for record in records if record.stage == stage), None)


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{share:.1%}"


def _wins(wins: WinRate | None) -> str:
    return _NONE if wins is None else f"{wins.rate:.0%} ({100 * wins.low:.0f} to {wins.high:.0%})".replace("%", " %")


def _change(loss: float | None, base: float | None) -> str:
    """Returns the relative change of a loss from that of the base, in percent with a sign."""
    return _NONE if loss is None or not base else f"{loss / base - 1:+.1%}"
