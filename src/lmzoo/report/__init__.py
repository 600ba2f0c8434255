"""The report of a run, in Markdown and self-contained HTML, from its records and saved predictors alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmzoo import zoo
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import LmzooError
from lmzoo.evaluation.records import EvalRecord, read_run, write_csv
from lmzoo.experiments.budgets import as_assignments
from lmzoo.generation import Decoding
from lmzoo.metrics import bits
from lmzoo.models.hidden_states import HasHiddenStates, StateSummary
from lmzoo.predictor import Predictor
from lmzoo.report import breakdown, charts, costs, eras, gradients, standings, votes
from lmzoo.report import context as looking
from lmzoo.report.figures import Figure, Figures
from lmzoo.report.leaderboard import (
    COLUMNS,
    SEEDS_HEADER,
    entries,
    rows,
    seed_rows,
    titled_tables,
)
from lmzoo.report.pages import write_pages
from lmzoo.stream import TokenStream
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers import visible

_PROMPT_WORDS = 8
_N_TOKENS = 60
_N_STATES = 12
_N_TOKENS_OF_STATE = 8


@dataclass(frozen=True)
class Exhibit:
    """One species in the report: its card, its figures, and what it says."""

    card: zoo.Card
    record: EvalRecord
    guesses: list[tuple[str, float]]
    """The most likely next tokens after the prompt."""
    entropy_bits: float
    sample: str
    """A continuation of the prompt, drawn with a fixed seed."""
    settings: dict[str, str]
    """Where they are not the defaults, as --set takes them."""
    states: list[tuple[StateSummary, list[str]]]
    """Hidden states, if it has them, the heaviest first; each with the texts of its most likely tokens."""
    flow: gradients.Flow | None
    """How far its gradients flow, if it is a network."""
    use: looking.Use | None
    """How far back it looks; None if that could not be measured."""


@dataclass(frozen=True)
class Costs:
    """What the species cost."""

    columns: list[costs.Cost]
    mark: str
    rows: list[list[str]]
    figure: Figure | None
    """None if no species has bits per byte."""


@dataclass(frozen=True)
class States:
    """A look inside a hidden Markov model: its heaviest states."""

    name: str
    n_states: int
    rows: list[tuple[StateSummary, list[str]]]
    graph: Figure


@dataclass(frozen=True)
class Flows:
    """How far gradients flow in the networks of the run."""

    n_positions: int
    header: tuple[str, ...]
    rows: list[list[str]]
    reaches: list[tuple[str, str]]
    """Names, each with the distance to which one hundredth is left, the shortest first."""
    figure: Figure


@dataclass(frozen=True)
class Uses:
    """How far back the species of the run look."""

    n_positions: int
    n_documents: int
    max_context: int
    rows: list[list[str]]
    """Under `looking.HEADER`."""
    figure: Figure


def write_report(folder: str | Path, *, on_progress: OnProgress | None = None) -> list[Path]:
    """Writes `report.md` and `report.html` into a run folder and returns their paths. Fits nothing.

    Beside them are the figures (`figures/`), the records as a table (`results.csv`), the test of each pair
    (`pairs.csv`) and the papers (`references.bib`).
    A predictor that cannot be read is named in the report, which has its figures all the same.
    Raises SavedModelError if the folder holds no results.
    """
    folder = Path(folder)
    everything = read_run(folder)
    records = entries(everything)
    encoded = _encoded(folder)
    prompt = _prompt(encoded) if encoded else ""
    valid = encoded.valid.stream if encoded else None
    exhibits, unreadable = _exhibits(folder, records, prompt, valid, on_progress)
    exhibits.sort(key=lambda exhibit: exhibit.card.year)
    figures = Figures()
    context: dict[str, Any] = {
        "exhibits": exhibits,
        "unreadable": unreadable,
        "best": records[0],
        "first": records[0],
        "columns": COLUMNS,
        "tables": [(title, note, rows(part)) for title, note, part in titled_tables(records)],
        "seeds_header": SEEDS_HEADER,
        "seeds": seed_rows(everything),
        "costs": _costs(records, figures),
        "prompt": prompt,
        "commands": sorted({record.command for record in records if record.command}),
        "versions": ", ".join(f"{name} {version}" for name, version in records[0].versions.items()),
    }
    comparable = [record for record in records if record.bits_per_byte is not None]
    context["figures"] = [figures.draw("species", charts.by_species(comparable))] if comparable else []
    for setting, tried in _swept(records).items():
        chart = charts.by_setting(setting, tried, _best_besides(tried, records))
        context["figures"].append(figures.draw(setting, chart))
    told = standings.standings(folder, records, encoded) if encoded else None
    context["standings"] = told
    context["standings_header"] = standings.HEADER
    context["votes"] = votes.votes(folder, records, encoded) if encoded else None
    context["votes_header"] = votes.HEADER
    context["states"] = _states(exhibits, figures)
    context["flows"] = _flows(exhibits, figures)
    context["uses"] = _uses(exhibits, figures)
    context["uses_header"] = looking.HEADER
    context["differences"] = breakdown.differences(folder, records, encoded, figures) if encoded else None
    context["eras"] = eras.rows(records)
    context["eras_header"] = eras.HEADER
    context["wide"] = eras.WIDE
    figures.save(folder)
    write_csv(folder / "results.csv", everything)
    if told:
        write_csv(folder / "pairs.csv", told.pairs)
    eras.write_references(folder / "references.bib", records)
    return write_pages(folder, ["report.md", "report.html"], context)


def _encoded(folder: Path) -> EncodedCorpus | None:
    try:
        return EncodedCorpus.load(folder / "encoded")
    except LmzooError:
        return None


def _prompt(encoded: EncodedCorpus) -> str:
    """The first words of the valid split: text that no species was fitted on and none is scored on."""
    text = encoded.tokenizer.decode(next(encoded.valid.stream.documents())[:200])
    return " ".join(text.split()[:_PROMPT_WORDS])


def _exhibits(
    folder: Path,
    records: list[EvalRecord],
    prompt: str,
    valid: TokenStream | None,
    on_progress: OnProgress | None,
) -> tuple[list[Exhibit], list[tuple[str, str]]]:
    """What the saved predictors say; and the names of those that cannot be read, each with the reason."""
    exhibits, unreadable = [], []
    for done, record in enumerate(records):
        if on_progress:
            on_progress(Progress(done, len(records), "species", record.name))
        try:
            exhibits.append(_exhibit(folder, record, prompt, valid))
        except (LmzooError, OSError) as error:
            unreadable.append((record.name, str(error)))
    return exhibits, unreadable


def _exhibit(folder: Path, record: EvalRecord, prompt: str, valid: TokenStream | None) -> Exhibit:
    predictor = Predictor.load(folder / "predictors" / record.name)
    distribution = predictor.predict_distribution(prompt)
    return Exhibit(
        card=zoo.card(record.species),
        record=record,
        guesses=predictor.top_tokens(prompt, 5),
        entropy_bits=bits(distribution.entropy()),
        sample=predictor.complete(prompt, max_tokens=_N_TOKENS, decoding=Decoding(top_p=0.95), seed=0),
        settings=as_assignments(record.settings),
        states=_heaviest_states(predictor),
        flow=None if valid is None else _flow(record.name, predictor, valid),
        use=None if valid is None else _use(record, predictor, valid),
    )


def _flow(name: str, predictor: Predictor, valid: TokenStream) -> gradients.Flow | None:
    # Here, because it imports torch, which who reads a leaderboard does not need.
    from lmzoo.probes.gradient_flow import gradient_flow, has_token_vectors

    if not has_token_vectors(predictor.model):
        return None
    return gradients.Flow(name, gradient_flow(predictor.model, valid))


def _use(record: EvalRecord, predictor: Predictor, valid: TokenStream) -> looking.Use | None:
    from lmzoo.probes.context_use import context_use

    try:
        return looking.Use.of(record.name, record.species, context_use(predictor.model, valid))
    except LmzooError:  # documents are too short, or some of the text is impossible to it
        return None


def _heaviest_states(predictor: Predictor) -> list[tuple[StateSummary, list[str]]]:
    if not isinstance(predictor.model, HasHiddenStates):
        return []
    table = sorted(predictor.model.state_table(_N_TOKENS_OF_STATE), key=lambda state: -state.mass)
    return [(state, [predictor.tokenizer.token_text(token_id) for token_id, _ in state.top]) for state in table]


def _costs(records: list[EvalRecord], figures: Figures) -> Costs:
    has_figure = any(costs.comparable(records, cost) for cost in costs.COSTS)
    figure = figures.draw("costs", charts.quality_and_cost(records)) if has_figure else None
    return Costs(costs.measured(records), costs.MARK, costs.rows(records), figure)


def _swept(records: list[EvalRecord]) -> dict[str, list[tuple[float, EvalRecord]]]:
    """The entries that differ in one number, with that number, by the name of the setting, where there are two or more.

    Not those that found something impossible: they have no perplexity.
    """
    swept: dict[str, list[tuple[float, EvalRecord]]] = {}
    for record in records:
        setting = record.label.partition(",")[2].partition("=")[0]
        value: Any = record.settings
        for name in setting.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and record.perplexity_per_token is not None:
            swept.setdefault(setting, []).append((value, record))
    return {setting: tried for setting, tried in swept.items() if len({value for value, _ in tried}) > 1}


def _best_besides(tried: list[tuple[float, EvalRecord]], records: list[EvalRecord]) -> EvalRecord | None:
    """The best of the other entries that a sweep can be compared with; `records` has the best first."""
    swept = [record for _, record in tried]
    adapt = {record.adapts_on_test for record in swept}
    others = (one for one in records if one not in swept and {one.adapts_on_test} == adapt)
    return next((one for one in others if one.perplexity_per_token is not None), None)


def _states(exhibits: list[Exhibit], figures: Figures) -> States | None:
    """A look into the model with the fewest hidden states, which people can read best."""
    hidden = [exhibit for exhibit in exhibits if exhibit.states]
    if not hidden:
        return None
    chosen = min(hidden, key=lambda exhibit: len(exhibit.states))
    rows = chosen.states[:_N_STATES]
    labels = ["\n".join(visible(token) for token in tokens[:3]) for _, tokens in rows]
    graph = figures.draw("states", charts.state_graph([state for state, _ in rows], labels))
    return States(chosen.record.name, len(chosen.states), rows, graph)


def _flows(exhibits: list[Exhibit], figures: Figures) -> Flows | None:
    flows = [exhibit.flow for exhibit in exhibits if exhibit.flow]
    if not flows:
        return None
    figure = figures.draw("gradients", charts.by_distance(flows))
    n_positions = len(flows[0].gradients.positions)
    return Flows(n_positions, gradients.HEADER, gradients.rows(flows), gradients.reaches(flows), figure)


def _uses(exhibits: list[Exhibit], figures: Figures) -> Uses | None:
    uses = [exhibit.use for exhibit in exhibits if exhibit.use]
    if not uses:
        return None
    found, figure = uses[0].context, figures.draw("context", charts.by_context(uses))
    return Uses(len(found.positions), found.n_documents, found.max_context, looking.rows(uses), figure)
