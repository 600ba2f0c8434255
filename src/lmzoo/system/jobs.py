"""Runs jobs in processes of their own, several at a time: each has its memory for itself, and a crash is its own.

What a job reports comes back while it runs. Ctrl-C asks every job to keep its checkpoint and to end; a run that is
killed takes its jobs with it. From a script, start them under `if __name__ == "__main__":`, as each imports the script.
"""

from __future__ import annotations

import contextlib
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
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import psutil

from lmzoo.errors import LmzooError, UsageError
from lmzoo.system.placement import this_process
from lmzoo.system.progress import OnProgress, Progress

_SECONDS_TO_SAVE = 5.0
_SECONDS_BETWEEN_LOOKS = 0.2  # a wait without end can miss an interrupt that comes just before it
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

Record = TypeVar("Record")
Record_co = TypeVar("Record_co", covariant=True)


class Job(Protocol[Record_co]):
    """Something to do, as a value that can be sent to a process."""

    @property
    def name(self) -> str:
        """Different from that of every other job of the run."""
        ...

    def do(self, on_progress: OnProgress) -> Record_co:
        """Does it, and returns the record that is kept."""
        ...


@dataclass(frozen=True)
class Outcome(Generic[Record]):
    """What became of one job: a record, or the error in one line."""

    name: str
    record: Record | None = None
    error: str = ""
    reused: bool = False
    """True if the record is that of an earlier run."""
    skipped: bool = False
    """True if the job was optional and something that it needs is not installed: this is no failure."""


def check_jobs(wanted: int | None) -> int:
    """How many jobs to run at a time: what is wanted, by default as many as there are cores, at most 4.

    UsageError if that is none, or if this is one of several processes already. Call it before any work.
    """
    if this_process().n_processes > 1:
        raise UsageError("this starts processes of its own: run it without torchrun, which is for lmzoo fit")
    if wanted is None:
        return min(_n_cores(), 4)
    if wanted < 1:
        raise UsageError(f"jobs must be at least 1, got {wanted}")
    return wanted


def run_jobs(
    jobs: Sequence[Job[Record]],
    *,
    at_a_time: int,
    on_outcome: Callable[[Outcome[Record]], None],
    on_progress: Callable[[str, Progress], None] | None = None,
) -> None:
    """Does every job, and tells `on_outcome` of each one that has ended; what fails leaves the rest alone.

    Those that run at a time share the cores evenly, so that each is timed with the same number of threads.
    """
    with _threads(max(1, _n_cores() // at_a_time)), ThreadPoolExecutor(at_a_time) as pool:
        running: list[Future[Outcome[Record]]] = []
        try:
            with _interrupts_held_back():
                running += [pool.submit(_run, job, named(job.name, on_progress)) for job in jobs]
            pending = set(running)
            while pending:
                finished, pending = wait(pending, timeout=_SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
                for future in finished:
                    on_outcome(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _interrupt_all(running)
            raise


def resume(
    jobs: Sequence[Job[Record]],
    known: Mapping[str, Record],
    *,
    at_a_time: int,
    on_outcome: Callable[[Outcome[Record]], None],
    on_progress: Callable[[str, Progress], None] | None = None,
) -> list[Outcome[Record]]:
    """Runs the jobs of which no record is known, and returns the outcomes of all jobs in the given order.

    `known` maps the name of a job to its record from an earlier run, which is reused. `on_outcome` is called with each
    outcome as soon as there is one. The other arguments are those of `run_jobs`.
    """
    outcomes: dict[str, Outcome[Record]] = {}

    def keep(outcome: Outcome[Record]) -> None:
        outcomes[outcome.name] = outcome
        on_outcome(outcome)

    for job in jobs:
        if job.name in known:
            keep(Outcome(job.name, known[job.name], reused=True))
    todo = [job for job in jobs if job.name not in known]
    run_jobs(todo, at_a_time=at_a_time, on_outcome=keep, on_progress=on_progress)
    return [outcomes[job.name] for job in jobs]


def named(name: str, on_progress: Callable[[str, Progress], None] | None) -> OnProgress:
    """A callback for progress that says whose it is."""
    return lambda progress: on_progress(name, progress) if on_progress else None


def _n_cores() -> int:
    return psutil.cpu_count(logical=False) or 1


def _run(job: Job[Record], on_progress: OnProgress) -> Outcome[Record]:
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
    """An interrupt comes at the end: between the start of a thread and our knowing of it, its job would go on alone."""
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


def _interrupt_all(running: Sequence[Future[Any]]) -> None:
    """Asks every job to keep its checkpoint and to end, as Ctrl-C does, also those that are just starting.

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


def _work(job: Job[Any], connection: Connection) -> None:
    """What the process of one job does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
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
    """A run that is killed must not leave a job behind that writes into its folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
