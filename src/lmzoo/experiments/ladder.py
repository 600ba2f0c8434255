"""The ladder of abilities: models trained on sources of known entropy, and scored by their excess cross-entropy.

    folder/TASK/            a run of `compare` on the corpus source:TASK
    folder/ladder.jsonl     one `TaskResult` per task, species and seed

The excess of a model is its cross-entropy minus that of the source itself, which predicts its own text as well as
possible: it measures what the model has not learned. Most tokens of a text require no special ability, so that an
average over all tokens hides it. Where a source has target tokens, the excess on these counts, as a share of the excess
of a baseline that knows everything except the deciding fact.

A network may learn a rule with one seed and not with another. The best seed therefore counts, and the number of
seeds that passed is reported with it (as in Delétang et al. 2023, Neural Networks and the Chomsky Hierarchy).
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lmzoo import sources, zoo
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.errors import SavedModelError
from lmzoo.evaluation.records import EvalRecord, Record, read_lines, read_records, write_records
from lmzoo.evaluation.scores import load_log_probs
from lmzoo.experiments.budgets import check_budget, merged
from lmzoo.experiments.compare import run_comparison
from lmzoo.experiments.placed import placed
from lmzoo.experiments.plan import RunPlan, check_model
from lmzoo.experiments.result import RunResult
from lmzoo.experiments.run_folder import open_run, scores_path
from lmzoo.stream import TokenStream
from lmzoo.system.jobs import Outcome
from lmzoo.system.json_files import check_name
from lmzoo.system.progress import Progress
from lmzoo.system.version import __version__

SPECIES = (
    "markov", "hmm", "trigram", "ngram", "nplm", "rnn", "lstm", "gru", "transformer-2017", "gpt2", "transformer",
)  # fmt: skip
"""Species of the ladder if none are named: one or more of each era."""

RECORDS = "ladder.jsonl"
"""Name of the file with the results of all tasks."""

MAX_EXCESS_NATS = 0.01
"""Excess in nats per token below which a task without target tokens is passed."""
MAX_RELATIVE_EXCESS = 0.05
"""Excess on target tokens, as a share of the baseline's, below which a task with target tokens is passed."""

_TOKENS = {"quick": 600_000, "standard": 3_000_000, "thorough": 15_000_000}
"""Training tokens of networks under each budget. Sources are small and have much text, so that networks may be small
too, and take larger steps or more of them."""


@dataclass(frozen=True, kw_only=True)
class TaskResult(Record):
    """The result of one model on one task of `lmzoo ladder`, a generated text of known entropy.

    Losses are in nats per token of the test text.
    """

    task: str
    """Name of the source that generated the text."""
    species: str
    """Name of the model family."""
    settings: dict[str, Any]
    """Keyword arguments of the function that built the model."""
    seed: int | None
    """Random seed of the training."""
    n_tokens: int
    """Number of tokens of the test text."""
    optimal_nats: float
    """Cross-entropy of the source on its own test text: the lowest possible expected loss."""
    excess_nats: float | None
    """Cross-entropy of the model minus `optimal_nats`; None if the model gave a token probability 0."""
    excess_error: float | None
    """Standard error of `excess_nats` over documents."""
    n_target_tokens: int
    """Number of target tokens of the test text; 0 if all tokens count alike."""
    target_excess_nats: float | None
    """Excess on target tokens; None without target tokens, or if the model gave a token probability 0."""
    relative_excess: float | None
    """`target_excess_nats` divided by the excess of the baseline: 0 is optimal, and 1 means that nothing was learned
    about the deciding fact."""
    passed: bool
    """True if the excess is below the threshold of the task."""
    adapts_on_test: bool
    """True if the model learns from the test text while it reads it; such a model is never the first to pass."""
    n_parameters: int
    """Number of learned parameters."""
    n_train_tokens: int | None
    """Number of tokens of the training text."""
    fit_seconds: float | None
    """Duration of the training."""
    corpus_fingerprint: str
    """Hash of the generated documents."""

    def check(self) -> None:
        check_name(self.task)
        check_name(self.species)

    @property
    def name(self) -> str:
        """The task and the species as text, such as "copying: lstm"."""
        return f"{self.task}: {self.species}"


def ladder(
    folder: str | Path,
    plan: RunPlan,
    *,
    tasks: Sequence[str] | None = None,
    on_progress: Callable[[str, Progress], None] | None = None,
    on_task: Callable[[str], None] | None = None,
    on_outcome: Callable[[Outcome[EvalRecord]], None] | None = None,
) -> RunResult[TaskResult]:
    """Trains the models of a plan on generated texts of known entropy, and measures their losses above the entropy.

    `folder` receives all results. The difference is the excess cross-entropy of a model. Each text is a task, and the
    tasks form a ladder from easy to hard. Each task is a run of `compare`. `tasks` names the tasks; by default, all
    tasks. If the plan names no species, `SPECIES` are trained. Corpus and tokenizer of the plan are not used. `on_task`
    is called with the name of each task when the task starts. Results of earlier calls are kept in `ladder.jsonl`.

    Returns the outcomes task by task, the easiest task first. Raises UsageError for a wrong argument.
    """
    plan = replace(plan, species=plan.species or SPECIES).checked()
    names = sorted({*(tasks or sources.names())}, key=_task_index)
    settings = {
        task: {name: merged(settings_of(task, name, plan.budget), plan.settings.get(name, {})) for name in plan.species}
        for task in names
    }
    for task, name in itertools.product(names, plan.settings):
        check_model(name, settings[task][name])
    folder, outcomes = Path(folder), []
    with (
        placed(plan) as (plan, _),
        open_run(folder, {"ladder": sources.names(), "seed": plan.seed, "lmzoo": __version__}),
    ):
        for task in names:
            if on_task:
                on_task(task)
            comparison = run_comparison(
                folder / task,
                replace(plan, corpus=f"source:{task}", tokenizer=None, settings=settings[task]),
                on_progress=on_progress,
                on_outcome=on_outcome,
            )
            results: list[TaskResult] = []
            if comparison.records:
                results = _results(folder / task, task)
                others = [result for result in read_task_results(folder) if result.task != task]
                everything = sorted([*others, *results], key=lambda result: _task_index(result.task))
                write_records(folder / RECORDS, everything)
            outcomes += _outcomes(task, comparison, results)
    return RunResult(folder, outcomes)


def settings_of(task: str, species: str, budget: str) -> dict[str, Any]:
    """Returns the settings of a species for a task of `lmzoo ladder` that differ from its settings under the budget.

    They are taken from the presets "ladder", "ladder/BUDGET" and "ladder/TASK" of the species, of which a later one
    overrides an earlier one. Networks train on a number of tokens that depends on the budget alone. Raises
    UnknownNameError for an unknown species or budget.
    """
    check_budget(budget)
    presets = zoo.presets(species)
    settings = presets.get("ladder", {})
    if "training" in settings:
        settings = merged(settings, {"training": {"tokens": _TOKENS[budget]}})
    for preset in (f"ladder/{budget}", f"ladder/{task}"):
        settings = merged(settings, presets.get(preset, {}))
    return settings


def read_task_results(folder: str | Path) -> list[TaskResult]:
    """Reads all results that `lmzoo ladder` has stored in a folder, the easiest task first.

    There is one result for each model and task. Returns [] if there are none.
    """
    return read_lines(Path(folder) / RECORDS, TaskResult)


def by_species(results: Sequence[TaskResult]) -> dict[str, list[TaskResult]]:
    """Groups the results of models on one task of `lmzoo ladder` by species (model family).

    Within a species, the result with the lowest loss comes first; the results differ in the random seed.
    """
    groups: dict[str, list[TaskResult]] = {}
    for result in results:
        groups.setdefault(result.species, []).append(result)
    for seeds in groups.values():
        seeds.sort(key=lambda result: _deciding_excess(result.excess_nats, result.relative_excess))
    return groups


def first_to_pass(results: Sequence[TaskResult]) -> TaskResult | None:
    """Returns the result of the oldest model family that passed a task of `lmzoo ladder` with any seed, or None.

    Models that adapt to the test text are ignored, as are families that are not installed.
    """
    passed = [
        result for result in results if result.passed and not result.adapts_on_test and result.species in zoo.names()
    ]
    return min(passed, key=lambda result: zoo.card(result.species).year, default=None)


def _deciding_excess(excess: float | None, relative_excess: float | None) -> float:
    """Returns the loss above the optimum by which `lmzoo ladder` decides if a model passes a task.

    This is `relative_excess`, the loss on target tokens relative to a baseline, or, if it is None because the task has
    no target tokens, `excess`, the loss on all tokens in nats. Returns infinity if both are None, because the model
    gave a token the probability 0.
    """
    deciding = excess if relative_excess is None else relative_excess
    return math.inf if deciding is None else deciding


def _task_index(task: str) -> int:
    """Returns the position of a task of `lmzoo ladder` in the order of difficulty, from 0 for the easiest.

    Raises UnknownNameError for an unknown task.
    """
    sources.card(task)
    return sources.names().index(task)


@dataclass(frozen=True, eq=False)
class _TestText:
    """A generated test text, with the true log-probability of each token, by which models are judged.

    The text belongs to a task of `lmzoo ladder`, and was sampled from the source of the task: a rule that generates
    text of known entropy. Target tokens are those that test the ability which the task requires, such as a closing
    bracket.
    """

    task: str
    stream: TokenStream
    optimal: NDArray[np.float64]
    """(T,): log-probability of each of the T tokens under the source."""
    targets: NDArray[np.bool_]
    """(T,): True for target tokens."""
    baseline_nats: float | None
    """Excess of the baseline on target tokens; None without target tokens."""

    @classmethod
    def of(cls, task: str, stream: TokenStream) -> Self:
        """Creates the test text of a task, with the log-probability of each token under the rule that generated it."""
        source = sources.source(task)
        return cls(task, stream, source.log_probs(stream), source.target_mask(stream), source.baseline_nats)

    def result(self, record: EvalRecord, log_probs: NDArray[np.floating]) -> TaskResult:
        """Returns the result of a model on a task of `lmzoo ladder`: its loss above the optimum, and whether it passed.

        `record`: evaluation of the model. `log_probs` (T,): log-probability of each of the T tokens of the test text
        under the model, in nats.
        """
        excess = self.optimal - log_probs
        mean = error = on_targets = relative = None
        if np.isfinite(excess).all():
            mean = float(excess.mean())
            by_document = np.add.reduceat(excess - mean, self.stream.starts)  # long documents may have more excess
            error = float(by_document.std(ddof=1) * len(by_document) ** 0.5 / len(excess))
            if self.baseline_nats:
                on_targets = float(excess[self.targets].mean())
                relative = on_targets / self.baseline_nats
        threshold = MAX_RELATIVE_EXCESS if self.baseline_nats else MAX_EXCESS_NATS
        return TaskResult(
            task=self.task,
            species=record.species,
            settings=record.settings,
            seed=record.seed,
            n_tokens=len(excess),
            optimal_nats=float(-self.optimal.mean()),
            excess_nats=mean,
            excess_error=error,
            n_target_tokens=int(self.targets.sum()),
            target_excess_nats=on_targets,
            relative_excess=relative,
            passed=_deciding_excess(mean, relative) < threshold,
            adapts_on_test=record.adapts_on_test,
            n_parameters=record.n_parameters,
            n_train_tokens=record.n_train_tokens,
            fit_seconds=record.fit_seconds,
            corpus_fingerprint=record.corpus_fingerprint,
            **record.origin,
        )


def _results(folder: Path, task: str) -> list[TaskResult]:
    """Returns the results of all models on one task of `lmzoo ladder`, computed from their stored log-probabilities.

    If a model family was trained with several settings, only the results with the newest settings are returned. Models
    whose log-probabilities are missing in the run folder are left out; the next run evaluates them again.
    """
    text = _TestText.of(task, EncodedCorpus.load(folder / "encoded").test.stream)
    records = read_records(folder / "results.jsonl")
    newest = {record.species: record.settings for record in sorted(records, key=lambda record: record.created)}
    results = []
    for record in records:
        if record.settings != newest[record.species]:
            continue
        with contextlib.suppress(SavedModelError):
            scores = load_log_probs(scores_path(folder, record.name, "test"), len(text.stream))
            results.append(text.result(record, scores))
    return results


def _outcomes(task: str, comparison: RunResult[EvalRecord], results: Sequence[TaskResult]) -> list[Outcome[TaskResult]]:
    """Returns the outcomes of the models that were trained on one task of `lmzoo ladder`, with their task results.

    `comparison` holds the outcomes with an evaluation record for each model; `results` are the results that replace
    these records.
    """
    known = {(result.species, result.seed): result for result in results}
    outcomes = []
    for outcome in comparison.outcomes:
        record = outcome.record
        result = None if record is None else known.get((record.species, record.seed))
        outcomes.append(Outcome(f"{task}: {outcome.name}", result, outcome.error, outcome.reused))
    return outcomes
