"""Fits many species on one corpus, measures them on the same test split, and keeps everything in a run folder.

    run/run.json                  what was asked for
    run/encoded/                  the corpus as ids under the one shared tokenizer
    run/checkpoints/NAME          work of a fit that is not finished
    run/predictors/NAME/          the fitted predictors
    run/scores/NAME/              what each made of every token of test, and how likely it found those of valid
    run/probes/NAME/              predictions, use of context and gradients of each, for the report
    run/results.jsonl             one record each

A name is that of a species or, where a setting is swept or a fit repeated, one as `hmm,n_states=8,seed=1`.

Every part is written whole or not at all, so a run that was killed goes on where it was, and a run asked for twice
reuses what is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lmzoo import zoo
from lmzoo.checkpoint import Checkpoint
from lmzoo.checks import check_whole
from lmzoo.corpora import Corpus, load_corpus
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus, tokenizer_for
from lmzoo.errors import CorpusError, LmzooError
from lmzoo.evaluation.cost import measure_cost
from lmzoo.evaluation.evaluate import evaluate
from lmzoo.evaluation.ranking import entries
from lmzoo.evaluation.records import EvalRecord, read_lines, write_records
from lmzoo.evaluation.scores import load_log_probs, save_log_probs
from lmzoo.experiments.budgets import merged, settings_for
from lmzoo.experiments.run_folder import open_run, scores_path
from lmzoo.experiments.stored_ensemble import measure_ensemble
from lmzoo.predictor import DEFAULT_CORPUS, Predictor
from lmzoo.probes.stored import are_stored, measure, probes_path
from lmzoo.system.jobs import Outcome, check_jobs, named, run_jobs
from lmzoo.system.placement import Device
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.system.version import __version__
from lmzoo.tokenizers import Tokenizer, check_tokenizer


@dataclass
class Comparison:
    """What became of a run."""

    folder: Path
    outcomes: list[Outcome[EvalRecord]] = field(default_factory=list)

    @property
    def records(self) -> list[EvalRecord]:
        return [outcome.record for outcome in self.outcomes if outcome.record is not None]

    @property
    def failures(self) -> list[Outcome[EvalRecord]]:
        return [outcome for outcome in self.outcomes if outcome.error]


def compare(
    folder: str | Path,
    *,
    species: Sequence[str] | None = None,
    corpus: str | Path | Corpus = DEFAULT_CORPUS,
    tokenizer: str | Tokenizer | None = None,
    budget: str = "quick",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    sweeps: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    seed: int = 0,
    seeds: int = 1,
    jobs: int | None = None,
    device: Device = "auto",
    command: str = "",
    on_progress: Callable[[str, Progress], None] | None = None,
    on_outcome: Callable[[Outcome[EvalRecord]], None] | None = None,
) -> Comparison:
    """Fits and measures `species` (default: all that lmzoo brings) in `folder`, one after the other.

    All share the tokenizer (one, or its spec; default as the corpus' protocol asks, else "bpe:4096"). `budget` scales
    all species together; `settings` maps a species to factory arguments that override the budget's. `sweeps`, as
    {"hmm": {"n_states": [8, 32, 128]}}, adds one more entry for each value of a setting; "training.tokens" names one
    within a group. With `seeds` above 1 each is fitted so many times, with the seeds from `seed` on, to see how much of
    a figure is chance. What fails is reported and the rest go on.

    Every species runs in a process of its own, so that its memory is its own and a crash takes nothing else down.
    `jobs` of them run at a time (default: as many as there are cores, at most 4) and share the cores evenly, so that
    each is timed with the same number of threads. Networks compute on `device`. From a script, call this under
    `if __name__ == "__main__":`.
    """
    at_a_time = check_jobs(jobs)
    check_whole(1, seeds=seeds)
    folder = Path(folder)
    chosen = list(dict.fromkeys(species)) if species else zoo.built_in_names()
    settings, sweeps = settings or {}, sweeps or {}
    zoo.check_choice_of_settings(settings, {*chosen, *sweeps})
    jobs_by_name: dict[str, _Job] = {}
    for name in dict.fromkeys([*chosen, *sweeps]):
        card = zoo.card(name)  # a typo shows before an hour of work
        base = merged(settings_for(name, budget), settings.get(name, {}))
        variants = [("", base)] if name in chosen else []
        for setting, values in sweeps.get(name, {}).items():
            zoo.check_settings(name, [setting.partition(".")[0]])
            variants += [(_label(name, setting, value), merged(base, _nested(setting, value))) for value in values]
        for label, arguments in variants:
            for repeat in range(seeds):
                own = _label(label or name, "seed", seed + repeat) if repeat else label
                job = _Job(folder, card, own, arguments, seed + repeat, device, command)
                jobs_by_name[job.name] = job
    if not isinstance(corpus, Corpus):
        corpus = load_corpus(corpus)
    with open_run(folder, _request(corpus, tokenizer, seed)):
        encoded = _encoded(folder, corpus, tokenizer, named("corpus", on_progress))
        outcomes = _run(folder, jobs_by_name, encoded, at_a_time, on_progress, on_outcome)
        measure_ensemble(folder, entries(read_lines(folder / "results.jsonl", EvalRecord)), encoded)
    return Comparison(folder, [outcomes[name] for name in jobs_by_name])


def _request(corpus: Corpus, tokenizer: str | Tokenizer | None, seed: int) -> dict[str, Any]:
    """What the run folder is for, in plain values; an error if nothing can be compared so."""
    if not corpus.test:
        raise CorpusError(f"corpus '{corpus.name}' has no test split, so nothing can be compared on it")
    if isinstance(tokenizer, str):
        check_tokenizer(tokenizer)
    return {
        "corpus": corpus.name,
        "corpus_fingerprint": corpus.fingerprint,
        "tokenizer": tokenizer.fingerprint if isinstance(tokenizer, Tokenizer) else tokenizer,
        "seed": seed,
        "lmzoo": __version__,
    }


def _encoded(folder: Path, corpus: Corpus, tokenizer: str | Tokenizer | None, on_progress: OnProgress) -> EncodedCorpus:
    """The corpus of the run, encoded unless an earlier call has done so."""
    if not (folder / "encoded").exists():
        if not isinstance(tokenizer, Tokenizer):
            tokenizer = tokenizer_for(corpus, tokenizer, on_progress)
        encode_corpus(corpus, tokenizer, on_progress).save(folder / "encoded")
    return EncodedCorpus.load(folder / "encoded")


def _run(
    folder: Path,
    jobs_by_name: Mapping[str, _Job],
    encoded: EncodedCorpus,
    at_a_time: int,
    on_progress: Callable[[str, Progress], None] | None,
    on_outcome: Callable[[Outcome[EvalRecord]], None] | None,
) -> dict[str, Outcome[EvalRecord]]:
    """What became of each job, by its name; what an earlier call has done is reused."""
    known = read_lines(folder / "results.jsonl", EvalRecord)
    outcomes: dict[str, Outcome[EvalRecord]] = {}
    order = {name: place for place, name in enumerate(jobs_by_name)}

    def done(outcome: Outcome[EvalRecord]) -> None:
        outcomes[outcome.name] = outcome
        if outcome.record is not None and not outcome.reused:
            known[:] = [*(record for record in known if record.name != outcome.name), outcome.record]
            known.sort(key=lambda record: order.get(record.name, len(order)))  # not as they happened to finish
            write_records(folder / "results.jsonl", known)
        if on_outcome:
            on_outcome(outcome)

    todo = []
    for name, job in jobs_by_name.items():
        record = next((record for record in known if job.made(record)), None)
        if record is not None and job.is_kept(encoded):
            done(Outcome(name, record, reused=True))
        else:
            todo.append(job)
    run_jobs(todo, at_a_time=at_a_time, on_progress=on_progress, on_outcome=done)
    return outcomes


def _label(name: str, setting: str, value: Any) -> str:
    """As "hmm,n_states=8". It names a folder: what cannot be in such a name is quoted as in web addresses."""
    return f"{name},{quote(f'{setting}={value}', safe='=+')}"


def _nested(setting: str, value: Any) -> dict[str, Any]:
    """{"training": {"tokens": 5}} for "training.tokens" and 5."""
    name, _, rest = setting.partition(".")
    return {name: _nested(rest, value) if rest else value}


@dataclass(frozen=True)
class _Job:
    """One species to fit and measure; sent to a process of its own."""

    folder: Path
    card: zoo.Card
    label: str
    settings: dict[str, Any]
    seed: int
    device: Device
    command: str

    @property
    def name(self) -> str:
        """In the run: of its folder, its checkpoint and its record."""
        return self.label or self.card.name

    @property
    def home(self) -> Path:
        """The folder of its predictor."""
        return self.folder / "predictors" / self.name

    def scores(self, split: str) -> Path:
        return scores_path(self.folder, self.name, split)

    def is_kept(self, encoded: EncodedCorpus) -> bool:
        """Whether all that it makes besides its record is there and can be read."""
        try:
            for split in ("valid", "test"):
                load_log_probs(self.scores(split), len(getattr(encoded, split).stream))
        except LmzooError:
            return False
        return (self.home / "predictor.json").exists() and are_stored(probes_path(self.folder, self.name))

    def made(self, record: EvalRecord) -> bool:
        """Whether this job, in this folder, would make this record again."""
        wanted = (self.name, json.dumps(self.settings, sort_keys=True), self.seed)
        return wanted == (record.name, json.dumps(record.settings, sort_keys=True), record.seed)

    def do(self, on_progress: OnProgress) -> EvalRecord:
        zoo.register(self.card)  # a species of the process that asks is not known to a new one
        encoded = EncodedCorpus.load(self.folder / "encoded")
        predictor = self._fitted_before()
        if predictor is None:
            checkpoint = Checkpoint(self.folder / "checkpoints" / f"{self.name}.safetensors")
            predictor = Predictor.fit(
                self.card.name,
                encoded,
                seed=self.seed,
                on_progress=on_progress,
                checkpoint=checkpoint,
                device=self.device,
                **self.settings,
            )
            predictor.save(self.home)
            checkpoint.discard()
        save_log_probs(self.scores("valid"), predictor.model.log_probs(encoded.valid.stream))
        record = evaluate(predictor, encoded, on_progress=on_progress, command=self.command, scores=self.scores("test"))
        cost = measure_cost(predictor.model, encoded.valid.stream)
        measure(predictor, encoded, probes_path(self.folder, self.name))
        return replace(record, label=self.label, **asdict(cost))

    def _fitted_before(self) -> Predictor | None:
        """The predictor that an earlier run saved before it was stopped, if it is the one this job would fit."""
        if not (self.home / "predictor.json").exists():
            return None
        try:
            predictor = Predictor.load(self.home, device=self.device)
        except LmzooError:  # damaged, or of another version: it is fitted again
            return None
        same = dict(predictor.settings) == self.settings and predictor.provenance.seed == self.seed
        return predictor if same else None
