"""Pages about experiments, in Markdown and in HTML that needs no other file; nothing is trained or measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmzoo.evaluation.ranking import entries
from lmzoo.evaluation.records import EvalRecord, read_run, write_csv
from lmzoo.report import breakdown, charts, context_use, costs, eras, leaderboard, standings, training
from lmzoo.report.ensemble import HEADER as ENSEMBLE_HEADER
from lmzoo.report.ensemble import ensemble_section
from lmzoo.report.figures import Figure, Figures
from lmzoo.report.gradients import gradient_section
from lmzoo.report.headline import headline, text_name
from lmzoo.report.models import model_entries
from lmzoo.report.pages import origin, write_pages
from lmzoo.report.states import states_section
from lmzoo.report.sweeps import reference_record, swept_settings

_NARROW = 260
"""Width of the figure for phones, without the names of the models."""


@dataclass(frozen=True)
class CostSection:
    """The costs of the models that were measured on one kind of machine, as a table and a figure.

    The figure shows bits per byte against each cost.
    """

    machine: str
    """Description of the machine."""
    header: list[str]
    rows: list[list[str]]
    figure: Figure | None
    """None if no model has both bits per byte and a cost."""


def write_report(folder: str | Path) -> list[Path]:
    """Writes `report.md` and `report.html` into a run folder and returns their paths. Trains and measures nothing.

    Also writes the figures (`figures/`), the records as a table (`results.csv`), the comparison of each pair of models
    (`pairs.csv`) and the papers (`references.bib`). If the folder stores no probes, which are measurements such as the
    use of context, the report has no sections about them. Raises SavedModelError if the folder holds no results.
    """
    folder, figures = Path(folder), Figures()
    everything = read_run(folder)
    shown = entries(everything)
    records = [record for record in shown if not record.trained_elsewhere] or shown
    encoded = standings.stored_corpus(folder)
    models, without_probes = model_entries(folder, records)
    comparison = standings.standings(folder, records, encoded) if encoded else None
    comparable = [record for record in records if record.bits_per_byte is not None]
    columns = leaderboard.columns(shown)
    context = {
        "headline": headline(records, comparison),
        "first": records[0],
        "seen_in_train": leaderboard.seen_in_train(records),
        "text_name": text_name(records[0]),
        "n_models": len(records),
        "overview": _overview(comparable, figures) if comparable else [],
        "columns": columns,
        "tables": [
            (title, note, leaderboard.rows(part, columns)) for title, note, part in leaderboard.titled_tables(shown)
        ],
        "standings": comparison,
        "ensemble": ensemble_section(folder, records),
        "ensemble_header": ENSEMBLE_HEADER,
        "seeds_header": leaderboard.SEEDS_HEADER,
        "seeds": leaderboard.seed_rows(everything),
        "sweeps": _sweep_figures(records, figures),
        "costs": _cost_sections(records, figures),
        "cost_columns": costs.measured_costs(records),
        "cost_mark": costs.MARK,
        "models": models,
        "prompt": next((model.probes.predictions.prompt for model in models if model.probes), ""),
        "without_probes": without_probes,
        "states": states_section(models, figures),
        "training": training.training_section(folder, records, figures),
        "training_header": training.HEADER,
        "gradients": gradient_section(models, figures),
        "uses": context_use.context_section(models, figures),
        "uses_header": context_use.HEADER,
        "differences": breakdown.differences(folder, records, encoded, figures) if encoded else None,
        "eras": eras.rows(records),
        "eras_header": eras.HEADER,
        "wide": eras.WIDE,
        "standings_header": standings.HEADER,
        "main": {
            "leaderboard": leaderboard.MAIN,
            "standings": standings.MAIN,
            "costs": costs.MAIN,
            "context": context_use.MAIN,
            "training": training.MAIN,
            "eras": eras.MAIN,
        },
        "machines": list({costs.machine_text(one.machine): one.machine for one in records}.values()),
        **origin(records, records[0].versions),
    }
    figures.save(folder)
    write_csv(folder / "results.csv", everything)
    if comparison:
        write_csv(folder / "pairs.csv", comparison.pairs)
    eras.write_references(folder / "references.bib", records)
    return write_pages(folder, ["report.md", "report.html"], context)


def _overview(records: Sequence[EvalRecord], figures: Figures) -> list[Figure]:
    """Draws two figures of bits per byte for all models: by year for wide screens, and as bars for narrow screens."""
    return [
        figures.draw("years", charts.by_year(records)),
        figures.draw("species", charts.by_species(records, width=_NARROW)),
    ]


def _sweep_figures(records: Sequence[EvalRecord], figures: Figures) -> list[Figure]:
    return [
        figures.draw(setting, charts.by_setting(setting, swept, reference_record(swept, records)))
        for setting, swept in swept_settings(records).items()
    ]


def _cost_sections(records: Sequence[EvalRecord], figures: Figures) -> list[CostSection]:
    sections = []
    for number, (machine, part) in enumerate(costs.by_machine(records).items(), start=1):
        has_figure = any(costs.priced_records(part, cost) for cost in costs.COSTS)
        name = "costs" if number == 1 else f"costs-{number}"
        figure = figures.draw(name, charts.quality_and_cost(part)) if has_figure else None
        sections.append(CostSection(machine, costs.header(part), costs.rows(part), figure))
    return sections
