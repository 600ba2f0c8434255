"""Trains several models on one corpus and evaluates them on the same test split, in a run folder.

    run/run.json                  the request: corpus, tokenizer, seed
    run/encoded/                  the corpus as token ids of the one tokenizer
    run/checkpoints/NAME          state of a training that is not finished
    run/predictors/NAME/          the trained predictors
    run/scores/NAME/              scores of each token of the test split, and of a sample of the validation split
    run/probes/NAME/              predictions, use of context and gradients, for the report
    run/ensemble.json             the ensemble of all models, for the report
    run/results.jsonl             one record per model

NAME is the name of a species. If a setting has several values, or a training is repeated with other seeds, it names the
difference too: `hmm,n_states=8,seed=1`.

Every file is written completely or not at all. A run that was killed therefore continues where it stopped, and a run
that is requested again reuses its results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lmzoo import zoo
from lmzoo.corpora import Corpus, near_duplicates
from lmzoo.corpora.encoded import EncodedCorpus
from lmzoo.corpora.load import as_corpus
from lmzoo.errors import ConfigurationError, CorpusError, LmzooError
from lmzoo.evaluation.evaluate import evaluate
from lmzoo.evaluation.ranking import entries
from lmzoo.evaluation.records import EvalRecord, read_lines, share_seen_in_train
from lmzoo.evaluation.scores import load_scores, save_scores
from lmzoo.experiments.budgets import merged, same_settings
from lmzoo.experiments.fitting import Fit, encoded_in
from lmzoo.experiments.placed import placed
from lmzoo.experiments.plan import RunPlan, check_model
from lmzoo.experiments.result import RunResult
from lmzoo.experiments.run_folder import open_run, record_keeper, scores_path
from lmzoo.experiments.stored_ensemble import is_member, measure_ensemble, weights_sample
from lmzoo.experiments.trained_elsewhere import EvaluationJob, find_predictors, measured_test_split
from lmzoo.predictor import DEFAULT_CORPUS
from lmzoo.probes.stored import are_stored, measure, probes_path
from lmzoo.system.jobs import Outcome, named, resume
from lmzoo.system.json_files import check_name
from lmzoo.system.placement import Device
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers import Tokenizer


def compare(
    folder: str | Path | None = None,
    *,
    species: Sequence[str] | None = None,
    corpus: str | Path | Corpus = DEFAULT_CORPUS,
    tokenizer: str | Tokenizer | None = None,
    budget: str = "quick",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    sweeps: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    minutes: float | None = None,
    seed: int = 0,
    seeds: int = 1,
    jobs: int | None = None,
    device: Device = "auto",
    cluster: str | None = None,
    with_predictors: Sequence[str | Path] = (),
    command: str = "",
    on_progress: Callable[[str, Progress], None] | None = None,
    on_outcome: Callable[[Outcome[EvalRecord]], None] | None = None,
) -> RunResult[EvalRecord]:
    """Trains models on the train split of a corpus and evaluates them on its test split, all with one tokenizer.

    `folder` receives the trained models, scores and records; by default it is runs/CORPUS-BUDGET, or runs/BUDGET for
    the default corpus. `species` names the model families; by default about fifteen, which cover all eras, and
    ["all"] means all that come with lmzoo. `tokenizer` is a Tokenizer or its specification; by default the one that the
    corpus prescribes, else "bpe:4096". `budget` is a preset of training length and model sizes; `settings` maps a
    species to settings that override the preset. `sweeps` adds a model for each value of a setting: {"hmm":
    {"n_states": [8, 32, 128]}}; a dot names a nested setting, as in "training.tokens". With `minutes`, each network is
    trained for this time and not for the tokens of the budget; such models cannot be reproduced bit for bit. With
    `seeds` above 1, each model is trained several times, with the seeds from `seed` on. `with_predictors` names
    predictors that are already trained, as `Predictor.load` takes them: they are evaluated on the same test split with
    their own tokenizers, and are not ranked with the models of the run. `on_progress` is called with the name and the
    progress of each model; the field `step` of the progress has the losses of a network.

    Each model is trained in a process of its own, so that a crash affects no other model. `jobs` of them run at a time
    (by default one per core, at most 4) and share the cores evenly. Networks compute on `device`. From a script, call
    this function under `if __name__ == "__main__":`, because each process imports the script. `cluster` is the address
    of a Ray cluster on which the models are trained instead ("auto", HOST:PORT or "local"); all its nodes must share
    the folder, and each trains as many models at the same time as it has cores for.

    Returns the records of the models, and the errors of those that failed. Raises UsageError for a wrong argument, and
    if the folder holds another run.
    """
    plan = RunPlan(
        species=species or (),
        corpus=corpus,
        tokenizer=tokenizer,
        budget=budget,
        settings=settings or {},
        sweeps=sweeps or {},
        minutes=minutes,
        seed=seed,
        seeds=seeds,
        jobs=jobs,
        device=device,
        cluster=cluster,
        command=command,
    )
    return run_comparison(folder, plan, with_predictors, on_progress=on_progress, on_outcome=on_outcome)


def run_comparison(
    folder: str | Path | None,
    plan: RunPlan,
    with_predictors: Sequence[str | Path] = (),
    *,
    on_progress: Callable[[str, Progress], None] | None = None,
    on_outcome: Callable[[Outcome[EvalRecord]], None] | None = None,
) -> RunResult[EvalRecord]:
    """Trains and evaluates the models of a plan, and writes models, scores and records to a run folder.

    Models that an earlier run in the same folder has trained are reused. `with_predictors` names predictors that are
    already trained, to evaluate on the same test split. `folder` is by default the default folder of the plan.
    `on_progress` is called with the name and the progress of each model, and `on_outcome` with the outcome of each
    model when it ends. Raises UsageError as `compare` does, and CorpusError if the corpus has no test split.
    """
    plan = plan.checked()
    planned = list(_jobs(Path(), plan, 0.0))
    for job in planned:
        if job.card.name in {*plan.settings, *plan.sweeps}:
            check_model(job.card.name, job.settings, job.label)
    trained_before = find_predictors(with_predictors, {job.name for job in planned})
    folder = Path(folder or plan.default_folder())
    corpus = as_corpus(plan.corpus)
    if not corpus.test:
        raise CorpusError(f"corpus '{corpus.name}' has no test split, so nothing can be compared on it")
    with placed(plan) as (plan, executor), open_run(folder, plan.request(corpus)):
        if executor is not None:
            executor.check_shared(folder)
        encoded = encoded_in(folder, corpus, plan.tokenizer, named("corpus", on_progress))
        results = folder / "results.jsonl"
        known = {record.name: record for record in read_lines(results, EvalRecord)}
        seen_in_train = _seen_in_train(corpus, known.values(), named("corpus", on_progress))
        jobs: list[_Job | EvaluationJob] = [
            *{job.name: job for job in _jobs(folder.absolute(), plan, seen_in_train)}.values()
        ]
        text = measured_test_split(corpus)
        jobs += [EvaluationJob(predictor, text, plan.device, plan.command) for predictor in trained_before]
        reusable = {
            job.name: known[job.name]
            for job in jobs
            if job.name in known
            and job.matches(known[job.name])
            and (isinstance(job, EvaluationJob) or job.is_kept(known[job.name], encoded))
        }
        outcomes = resume(
            jobs,
            reusable,
            at_a_time=plan.jobs or 1,
            on_outcome=record_keeper(results, [job.name for job in jobs], on_outcome),
            on_progress=on_progress,
            executor=executor,
        )
        measure_ensemble(folder, entries(read_lines(results, EvalRecord)), encoded)
    return RunResult(folder, outcomes)


def _seen_in_train(corpus: Corpus, known: Iterable[EvalRecord], on_progress: OnProgress) -> float:
    """Returns the share of the words of the test split that also occur in the train split.

    The share is taken from an earlier record of the run, if there is one, because the corpus of a run never changes.
    """
    share = share_seen_in_train(known)
    return near_duplicates(corpus, on_progress=on_progress)["test"].share if share is None else share


def _jobs(folder: Path, plan: RunPlan, seen_in_train: float) -> Iterator[_Job]:
    """Yields the jobs of a plan. Each job trains and evaluates one model with one choice of settings and one seed."""
    names = dict.fromkeys([*plan.species, *plan.sweeps])
    # Other models come before networks: they are faster, and give first results. Newer networks take longer and come
    # before older ones, so that short trainings are the last ones, and all workers end together.
    for name in sorted(names, key=lambda name: zoo.card(name).year if zoo.is_network(name) else math.inf, reverse=True):
        settings = plan.settings_of(name)
        variants = [("", settings)] if name in plan.species else []
        for setting, values in plan.sweeps.get(name, {}).items():
            variants += [(_label(name, setting, value), merged(settings, _nested(setting, value))) for value in values]
        for label, variant in variants:
            for seed in range(plan.seed, plan.seed + plan.seeds):
                full_label = label if seed == plan.seed else _label(label or name, "seed", seed)
                yield _Job(
                    folder, zoo.card(name), full_label, variant, seed, plan.device, plan.command, plan.train_share,
                    seen_in_train,
                )  # fmt: skip


def _label(name: str, setting: str, value: Any) -> str:
    """Returns the label of a model with a varied setting, such as "hmm,n_states=8".

    A label is also the name of a folder, so characters that are not allowed in file names are percent-encoded. Raises
    ConfigurationError if the label is too long for a file name.
    """
    try:
        return check_name(f"{name},{quote(f'{setting}={value}', safe='=+')}")
    except ValueError as error:
        raise ConfigurationError(f"a value of the sweep of {name}.{setting} cannot name a folder: {error}") from error


def _nested(setting: str, value: Any) -> dict[str, Any]:
    """Returns a dotted setting as nested dictionaries: "training.tokens" and 5 give {"training": {"tokens": 5}}."""
    name, _, rest = setting.partition(".")
    return {name: _nested(rest, value) if rest else value}


@dataclass(frozen=True)
class _Job(Fit):
    """A job of `compare`: trains and evaluates one model, in a process of its own."""

    command: str
    train_share: float | None
    seen_in_train: float

    def scores(self, split: str) -> Path:
        """Returns the path of the file with the model's scores of each token of a split ("valid" or "test")."""
        return scores_path(self.folder, self.name, split)

    def is_kept(self, record: EvalRecord, encoded: EncodedCorpus) -> bool:
        """Returns True if the run folder holds all that belongs to the record of an earlier run.

        These are the trained predictor, the probes and readable scores of the model.
        """
        try:
            load_scores(self.scores("test"), len(encoded.test.stream))
            if is_member(record):
                load_scores(self.scores("valid"), len(weights_sample(encoded)))
        except LmzooError:
            return False
        stored = are_stored(probes_path(self.folder, self.name))
        return stored and (self.predictor_folder / "predictor.json").exists()

    def matches(self, record: EvalRecord) -> bool:
        """Returns True if a record has the same name, settings, seed and training share as this job."""
        same = (self.name, self.seed, self.train_share) == (record.name, record.seed, record.train_share)
        return same and same_settings(self.settings, record.settings) and not record.trained_elsewhere

    def do(self, on_progress: OnProgress) -> EvalRecord:
        """Trains and evaluates the model, writes predictor and scores to the run folder, and returns the record.

        A predictor that an earlier run saved with the same settings and seed is not trained again.
        """
        zoo.register(self.card)  # a new process does not know species that were registered in the calling process
        encoded = EncodedCorpus.load(self.folder / "encoded")
        predictor = self.fitted(encoded, on_progress)
        record = evaluate(
            predictor,
            encoded,
            split="test",
            label=self.label,
            train_share=self.train_share,
            with_costs=True,
            scores=self.scores("test"),
            command=self.command,
            on_progress=on_progress,
        )
        if is_member(record):
            save_scores(self.scores("valid"), predictor.model.token_stats(weights_sample(encoded)))
        measure(predictor, encoded, probes_path(self.folder, self.name))
        return replace(record, seen_in_train=self.seen_in_train)
