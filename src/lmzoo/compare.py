"""Fits many species on one corpus, measures them on the same test split, and keeps everything in a run folder.

    run/run.json                  what was asked for
    run/encoded/                  the corpus as ids under the one shared tokenizer
    run/checkpoints/NAME          work of a fit that is not finished
    run/predictors/NAME/          the fitted predictors
    run/scores/NAME               what each made of every token of the test split
    run/results.jsonl             one record each

A name is that of a species or, where a setting is swept, one as `hmm,n_states=8`.

Every part is written whole or not at all, so a run that was killed goes on where it was, and a run asked for twice
reuses what is there.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import psutil

from lmzoo import __version__, zoo
from lmzoo.budgets import merged, settings_for
from lmzoo.checkpoint import Checkpoint
from lmzoo.corpora import load_corpus
from lmzoo.encoded import EncodedCorpus, encode_corpus, tokenizer_for
from lmzoo.errors import CorpusError, LmzooError, SavedModelError, UnknownNameError, UsageError
from lmzoo.evaluate import evaluate
from lmzoo.files import atomic_file
from lmzoo.language_model import OnProgress, Progress
from lmzoo.placement import Device, this_process
from lmzoo.predictor import DEFAULT_CORPUS, Predictor
from lmzoo.records import EvalRecord, read_records, write_records

_SECONDS_TO_SAVE = 5.0
_SECONDS_BETWEEN_LOOKS = 0.2  # a wait without end can miss an interrupt that comes just before it
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """What became of one species, or one size of it: a record, or the error in one line."""

    name: str
    record: EvalRecord | None = None
    error: str = ""
    reused: bool = False


@dataclass
class Comparison:
    """What became of a run."""

    folder: Path
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def records(self) -> list[EvalRecord]:
        return [outcome.record for outcome in self.outcomes if outcome.record is not None]

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.error]


def compare(
    folder: str | Path,
    *,
    species: Sequence[str] | None = None,
    corpus: str | Path = DEFAULT_CORPUS,
    tokenizer: str | None = None,
    budget: str = "quick",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    sweeps: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    seed: int = 0,
    jobs: int | None = None,
    device: Device = "auto",
    command: str = "",
    on_progress: Callable[[str, Progress], None] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> Comparison:
    """Fits and measures `species` (default: all that lmzoo brings) in `folder`, one after the other.

    All share the tokenizer (a spec; default as the corpus' protocol asks, else "bpe:4096"). `budget` scales all species
    together; `settings` maps a species to factory arguments that override the budget's. `sweeps`, as
    {"hmm": {"n_states": [8, 32, 128]}}, adds one more entry for each value of a setting; "training.tokens" names one
    within a group. What fails is reported and the rest go on.

    Every species runs in a process of its own, so that its memory is its own and a crash takes nothing else down.
    `jobs` of them run at a time (default: as many as there are cores, at most 4) and share the cores evenly, so that
    each is timed with the same number of threads. Networks compute on `device`. From a script, call this under
    `if __name__ == "__main__":`.
    """
    if this_process().n_processes > 1:
        raise UsageError("a comparison starts its own processes: run it without torchrun, which is for lmzoo fit")
    folder = Path(folder)
    chosen = list(dict.fromkeys(species)) if species else zoo.built_in_names()
    settings, sweeps = settings or {}, sweeps or {}
    for name in settings:
        if name not in {*chosen, *sweeps}:
            raise UsageError(f"settings are given for '{name}', which is not among the species of this run")
    jobs_by_name: dict[str, _Job] = {}
    for name in dict.fromkeys([*chosen, *sweeps]):
        card = zoo.card(name)  # a typo shows before an hour of work
        base = merged(settings_for(name, budget), settings.get(name, {}))
        variants = [("", base)] if name in chosen else []
        for setting, values in sweeps.get(name, {}).items():
            if setting.partition(".")[0] not in zoo.defaults(name):
                raise UnknownNameError(f"setting of {name}", setting, zoo.defaults(name))
            variants += [(_label(name, setting, value), merged(base, _nested(setting, value))) for value in values]
        for label, arguments in variants:
            job = _Job(folder, card, label, arguments, seed, device, command)
            jobs_by_name[job.name] = job
    _prepare(folder, corpus, tokenizer, seed, _named("corpus", on_progress))

    n_cores = psutil.cpu_count(logical=False) or 1
    jobs = min(n_cores, 4) if jobs is None else jobs
    if jobs < 1:
        raise UsageError(f"jobs must be at least 1, got {jobs}")
    known = read_records(folder / "results.jsonl") if (folder / "results.jsonl").exists() else []
    outcomes: dict[str, Outcome] = {}
    order = {name: place for place, name in enumerate(jobs_by_name)}

    def done(outcome: Outcome) -> None:
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
        if record is not None and (job.home / "predictor.json").exists() and job.scores.exists():
            done(Outcome(name, record, reused=True))
        else:
            todo.append(job)
    with _threads(max(1, n_cores // jobs)), ThreadPoolExecutor(jobs) as pool:
        running: list[Future[Outcome]] = []
        try:
            with _interrupts_held_back():
                running += [pool.submit(_run, job, _named(job.name, on_progress)) for job in todo]
            pending = set(running)
            while pending:
                finished, pending = wait(pending, timeout=_SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
                for future in finished:
                    done(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _interrupt_all(running)
            raise
    return Comparison(folder, [outcomes[name] for name in jobs_by_name])


def _label(species: str, setting: str, value: Any) -> str:
    """As "hmm,n_states=8". It names a folder: what cannot be in such a name is quoted as in web addresses."""
    return f"{species},{quote(f'{setting}={value}', safe='=+')}"


def _nested(setting: str, value: Any) -> dict[str, Any]:
    """{"training": {"tokens": 5}} for "training.tokens" and 5."""
    name, _, rest = setting.partition(".")
    return {name: _nested(rest, value) if rest else value}


def _prepare(folder: Path, corpus_name: str | Path, tokenizer: str | None, seed: int, on_progress: OnProgress) -> None:
    """Opens the run folder for this request and encodes the corpus, unless an earlier call has done so."""
    corpus = load_corpus(corpus_name)
    if not corpus.test:
        raise CorpusError(f"corpus '{corpus.name}' has no test split, so nothing can be compared on it")
    request = {
        "corpus": corpus.name,
        "corpus_fingerprint": corpus.fingerprint,
        "tokenizer": tokenizer,
        "seed": seed,
        "lmzoo": __version__,
    }
    path = folder / "run.json"
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SavedModelError(f"{path} is damaged: choose another folder, or delete this one") from error
        for key, value in request.items():
            if earlier.get(key) != value:
                raise UsageError(
                    f"{folder} holds a run with {key} {earlier.get(key)!r}, not {value!r}: choose another folder"
                )
    elif folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds other files: choose an empty or new folder")
    else:
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")
    if not (folder / "encoded").exists():
        encode_corpus(corpus, tokenizer_for(corpus, tokenizer, on_progress), on_progress).save(folder / "encoded")


def _named(name: str, on_progress: Callable[[str, Progress], None] | None) -> OnProgress:
    """A callback for progress that says whose it is."""
    return lambda progress: on_progress(name, progress) if on_progress else None


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

    @property
    def scores(self) -> Path:
        return self.folder / "scores" / f"{self.name}.safetensors"

    def made(self, record: EvalRecord) -> bool:
        """Whether this job, in this folder, would make this record again."""
        wanted = (self.name, json.dumps(self.settings, sort_keys=True), self.seed)
        return wanted == (record.name, json.dumps(record.settings, sort_keys=True), record.seed)

    def do(self, on_progress: OnProgress) -> EvalRecord:
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
        record = evaluate(predictor, encoded, on_progress=on_progress, command=self.command, scores=self.scores)
        return replace(record, label=self.label)

    def _fitted_before(self) -> Predictor | None:
        """The predictor that an earlier run saved before it was stopped, if it is the one this job would fit."""
        if not (self.home / "predictor.json").exists():
            return None
        try:
            predictor = Predictor.load(self.home, device=self.device)
        except LmzooError:  # damaged, or of another version: it is fitted again
            return None
        same = dict(predictor.settings) == self.settings and predictor.provenance.get("seed") == self.seed
        return predictor if same else None


def _run(job: _Job, on_progress: OnProgress) -> Outcome:
    """Does the job in a fresh process and relays what it reports."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, theirs), name=f"lmzoo {job.name}")
    # The process inherits the mask of this thread: an interrupt waits until `_work` can handle it.
    _mask_interrupts(True)
    process.start()
    theirs.close()
    try:
        while True:
            message = ours.recv()
            if isinstance(message, Outcome):
                return message
            on_progress(message)
    except EOFError:
        process.join()
        reason = f"its process ended with exit code {process.exitcode}"
        if process.exitcode == -9:
            reason += " (killed, perhaps because memory ran out)"
        return Outcome(job.name, error=reason)
    finally:
        process.join()
        ours.close()


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """An interrupt comes at the end: between the start of a thread and our knowing of it, its fit would go on alone."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no other thread is interrupted
        return
    held: list[tuple[int, FrameType | None]] = []
    handler = signal.signal(signal.SIGINT, lambda *what: held.append(what))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held and callable(handler):
            handler(*held[0])


def _mask_interrupts(masked: bool) -> None:
    """Holds back interrupts of this thread, or lets them through; Windows cannot."""
    if hasattr(signal, "pthread_sigmask"):
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # starts with the first process otherwise, and then lets interrupts through
        signal.pthread_sigmask(signal.SIG_BLOCK if masked else signal.SIG_UNBLOCK, {signal.SIGINT})


def _interrupt_all(running: Sequence[Future[Outcome]]) -> None:
    """Asks every fit to keep its checkpoint and to end, as Ctrl-C does, also those that are just starting.

    Asks again after a while: an interrupt in the middle of an import can be lost.
    """
    asked: dict[int, float] = {}
    while not all(future.done() for future in running):
        for process in multiprocessing.active_children():
            if process.pid is None or time.monotonic() - asked.get(process.pid, -math.inf) < _SECONDS_TO_SAVE:
                continue
            asked[process.pid] = time.monotonic()
            if sys.platform == "win32":
                process.terminate()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGINT)
        wait(running, timeout=_SECONDS_BETWEEN_LOOKS)


@contextlib.contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    """Processes that start in this context use so many threads, unless the user's environment says otherwise."""
    ours = [name for name in _THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, str(n_threads)))
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _work(job: _Job, connection: Connection) -> None:
    """What the process of one species does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if job.card.name not in zoo.names():
        zoo.register(job.card)
    try:
        _mask_interrupts(False)
        outcome = Outcome(job.name, job.do(connection.send))
    except KeyboardInterrupt:
        os._exit(130)
    except LmzooError as error:
        outcome = Outcome(job.name, error=" ".join(str(error).split()))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        outcome = Outcome(job.name, error=f"{type(error).__name__}: {error}")
    connection.send(outcome)


def _end_with_parent() -> None:
    """A run that is killed must not leave a fit behind that writes into its folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
