"""The ladder of abilities: every species on every source of known entropy, scored by what it pays above that.

    folder/RUNG/            a run of `compare` on the corpus source:RUNG, with all that a run folder holds
    folder/ladder.jsonl     one `Climb` for each species on each rung, with each seed

What a species pays above the source's own prediction, token by token on the same test text, is its excess: what it has
not learned. Most tokens of a text ask for no ability, so that their average hides it: where a source has decisive
tokens, the excess there counts, as a share of what it would be for whoever knows all but what decides them.

A network that looks for a rule may find it late or never, as chance has it, and then has all of it or nothing. What a
species can learn is therefore what the best of its seeds did, beside how many of them climbed (as Delétang et al. 2023,
Neural Networks and the Chomsky Hierarchy, count).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lmzoo import sources, zoo
from lmzoo.checks import check_whole
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import SavedModelError
from lmzoo.evaluation.records import RECORD_VERSION, EvalRecord, read_lines, read_records, write_records
from lmzoo.evaluation.scores import load_log_probs
from lmzoo.experiments.budgets import check_budget, merged
from lmzoo.experiments.compare import compare
from lmzoo.experiments.run_folder import open_run, scores_path
from lmzoo.stream import TokenStream
from lmzoo.system.jobs import Outcome, check_jobs
from lmzoo.system.placement import Device
from lmzoo.system.progress import Progress
from lmzoo.system.version import __version__

SPECIES = (
    "markov", "hmm", "trigram", "ngram", "nplm", "rnn", "lstm", "gru", "transformer-2017", "gpt2", "transformer",
)  # fmt: skip
"""Who climbs if nobody is named: one or more of each era."""

CLIMBED_NATS = 0.01
"""The excess in nats per token below which a rung is climbed that has no decisive tokens."""
CLIMBED_SHARE = 0.05
"""The share of what ignorance costs on decisive tokens below which their rung is climbed."""

_TOKENS = {"quick": 600_000, "standard": 3_000_000, "thorough": 15_000_000}
"""Training tokens of networks under each budget: sources are small and have much text, so that networks may be small
too, and take larger steps or more of them."""


@dataclass(frozen=True, kw_only=True)
class Climb:
    """One species on one rung, with one seed. Nats are means over tokens of the test text."""

    rung: str
    species: str
    settings: dict[str, Any]
    seed: int
    n_tokens: int
    optimal_nats: float
    """What the source itself pays: the entropy, as this text has it."""
    excess_nats: float | None
    """What the species pays more; None if it found something impossible."""
    excess_error: float | None
    """Standard error of `excess_nats` from document to document."""
    n_decisive: int
    decisive_excess_nats: float | None
    """What it pays more on decisive tokens; None if the rung has none, or as above."""
    decisive_share: float | None
    """The same as a share of what ignorance costs: 1 = as one who knows all but what decides."""
    climbed: bool
    adapts_on_test: bool
    """Whether it learned from the test text while it read it: then it is no first to climb."""

    n_parameters: int
    n_train_tokens: int
    fit_seconds: float
    corpus_fingerprint: str
    versions: dict[str, str]
    machine: dict[str, Any]
    created: str
    command: str
    record_version: int = RECORD_VERSION


@dataclass
class Ladder:
    """What became of a run."""

    folder: Path
    climbs: list[Climb] = field(default_factory=list)
    """Of the species that were asked for, rung by rung from the lowest."""
    failures: list[tuple[str, Outcome[EvalRecord]]] = field(default_factory=list)
    """Rungs, with what failed on them."""


def ladder(
    folder: str | Path,
    *,
    rungs: Sequence[str] | None = None,
    species: Sequence[str] | None = None,
    budget: str = "quick",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    seeds: int = 1,
    jobs: int | None = None,
    device: Device = "auto",
    command: str = "",
    on_progress: Callable[[str, Progress], None] | None = None,
    on_rung: Callable[[str], None] | None = None,
    on_outcome: Callable[[Outcome[EvalRecord]], None] | None = None,
) -> Ladder:
    """Fits `species` (default: `SPECIES`) on the sources `rungs` (default: all) and measures their excess, in `folder`.

    Everything else is as in `compare`, which does the work: a stopped run goes on where it was, and what is fitted is
    reused. `on_rung` hears of each rung that begins. Rungs and species of earlier calls stay in `ladder.jsonl`.
    """
    check_jobs(jobs)
    check_whole(1, seeds=seeds)
    folder = Path(folder)
    chosen = list(dict.fromkeys(species or SPECIES))
    wanted = sorted({*(rungs or sources.names())}, key=_place)
    laid_over = {rung: {name: settings_of(rung, name, budget) for name in chosen} for rung in wanted}
    settings = settings or {}
    zoo.check_choice_of_settings(settings, chosen, of="ladder")
    for name, changes in settings.items():
        for rung in wanted:
            laid_over[rung][name] = merged(laid_over[rung][name], changes)
    made = Ladder(folder)
    with open_run(folder, {"ladder": sources.names(), "seed": seed, "lmzoo": __version__}):
        for rung in wanted:
            if on_rung:
                on_rung(rung)
            comparison = compare(
                folder / rung,
                species=chosen,
                corpus=f"source:{rung}",
                budget=budget,
                settings=laid_over[rung],
                seed=seed,
                seeds=seeds,
                jobs=jobs,
                device=device,
                command=command,
                on_progress=on_progress,
                on_outcome=on_outcome,
            )
            made.failures += [(rung, outcome) for outcome in comparison.failures]
            if comparison.records:
                climbs = _climbs(folder / rung, rung)
                kept = [climb for climb in read_climbs(folder) if climb.rung != rung]
                everything = sorted([*kept, *climbs], key=lambda climb: _place(climb.rung))
                write_records(folder / "ladder.jsonl", everything)
                found = {(record.species, record.seed) for record in comparison.records}
                made.climbs += [climb for climb in climbs if (climb.species, climb.seed) in found]
    return made


def settings_of(rung: str, species: str, budget: str) -> dict[str, Any]:
    """Returns what the ladder changes in the settings that a species has under a budget.

    Presets of the species apply in this order: "ladder", "ladder/BUDGET" and "ladder/TASK". Networks train on a number
    of tokens that depends on the budget alone. Raises UnknownNameError for an unknown species or budget.
    """
    check_budget(budget)
    presets = zoo.presets(species)
    settings = presets.get("ladder", {})
    if "training" in settings:
        settings = merged(settings, {"training": {"tokens": _TOKENS[budget]}})
    for preset in (f"ladder/{budget}", f"ladder/{rung}"):
        settings = merged(settings, presets.get(preset, {}))
    return settings


def read_climbs(folder: str | Path) -> list[Climb]:
    """All that was ever climbed in a folder, from the lowest rung up; [] if nothing was."""
    return read_lines(Path(folder) / "ladder.jsonl", Climb)


def by_species(climbs: Sequence[Climb]) -> dict[str, list[Climb]]:
    """Of those on one rung, what each species made of it with all its seeds, the best first."""
    found: dict[str, list[Climb]] = {}
    for climb in climbs:
        found.setdefault(climb.species, []).append(climb)
    for climbs_of_one in found.values():
        climbs_of_one.sort(key=lambda climb: _lost(climb.excess_nats, climb.decisive_share))
    return found


def first_to_climb(climbs: Sequence[Climb]) -> Climb | None:
    """Of those on one rung, the one of the earliest year that climbed it, with any seed."""
    fair = [climb for climb in climbs if not climb.adapts_on_test and climb.species in zoo.names()]
    return min((climb for climb in fair if climb.climbed), key=lambda climb: zoo.card(climb.species).year, default=None)


def _lost(excess: float | None, share: float | None) -> float:
    """What decides whether a rung is climbed: the share of ignorance, or the excess where all tokens are alike."""
    figure = excess if share is None else share
    return math.inf if figure is None else figure


def _place(rung: str) -> int:
    sources.card(rung)  # a typo shows before an hour of work
    return sources.names().index(rung)


@dataclass(frozen=True, eq=False)
class _Exam:
    """The test text of a rung, with what its source knows of it."""

    rung: str
    stream: TokenStream
    optimal: NDArray[np.float64]
    """(T,) the log-probabilities of the source."""
    decisive: NDArray[np.bool_]
    """(T,)"""
    ignorance: float | None

    @classmethod
    def on(cls, rung: str, stream: TokenStream) -> Self:
        source = sources.source(rung)
        return cls(rung, stream, source.log_probs(stream), source.decisive(stream), source.ignorance)

    def climb(self, record: EvalRecord, log_probs: NDArray[np.floating]) -> Climb:
        """What a species made of it, from the log-probabilities (T,) that it gave."""
        excess = self.optimal - log_probs
        mean = error = decisive = share = None
        if np.isfinite(excess).all():
            mean = float(excess.mean())
            by_document = np.add.reduceat(excess - mean, self.stream.starts)  # long ones may have more
            error = float(by_document.std(ddof=1) * len(by_document) ** 0.5 / len(excess))
            if self.ignorance:
                decisive = float(excess[self.decisive].mean())
                share = decisive / self.ignorance
        return Climb(
            rung=self.rung,
            species=record.species,
            settings=record.settings,
            seed=record.seed,
            n_tokens=len(excess),
            optimal_nats=float(-self.optimal.mean()),
            excess_nats=mean,
            excess_error=error,
            n_decisive=int(self.decisive.sum()),
            decisive_excess_nats=decisive,
            decisive_share=share,
            climbed=_lost(mean, share) < (CLIMBED_SHARE if self.ignorance else CLIMBED_NATS),
            adapts_on_test=record.adapts_on_test,
            n_parameters=record.n_parameters,
            n_train_tokens=record.n_train_tokens,
            fit_seconds=record.fit_seconds,
            corpus_fingerprint=record.corpus_fingerprint,
            versions=record.versions,
            machine=record.machine,
            created=record.created,
            command=record.command,
        )


def _climbs(folder: Path, rung: str) -> list[Climb]:
    """What all species made of a rung that were ever fitted in its run folder, by the scores that they left there.

    Of a species that was fitted with other settings before, only what was fitted with the newest ones counts.
    """
    exam = _Exam.on(rung, EncodedCorpus.load(folder / "encoded").test.stream)
    records = read_records(folder / "results.jsonl")
    newest = {record.species: record.settings for record in sorted(records, key=lambda record: record.created)}
    climbs = []
    for record in records:
        if record.settings != newest[record.species]:
            continue
        with contextlib.suppress(SavedModelError):  # scores that are gone: who asks for the species makes them again
            scores = load_log_probs(scores_path(folder, record.name, "test"), len(exam.stream))
            climbs.append(exam.climb(record, scores))
    return climbs
