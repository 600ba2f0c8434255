"""Runs jobs in separate processes, several at a time, so that a crash or a lack of memory affects only one job.

The progress of a job is reported while it runs. An interrupt of the main process, such as Ctrl-C, interrupts every job,
which saves its checkpoint and ends. If the main process is killed, its jobs end too. A script must start jobs under
`if __name__ == "__main__":`, because every process imports the script.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, TypeVar

import psutil

from lmzoo.errors import LmzooError, UsageError
from lmzoo.system.interrupts import SECONDS_TO_SAVE, SIGNALS, deferred, exit_status, handle_interrupts
from lmzoo.system.memory import describe_memory_error
from lmzoo.system.messages import one_line
from lmzoo.system.placement import this_process
from lmzoo.system.printable import print_warnings_as_lines
from lmzoo.system.progress import OnProgress, Progress

_SECONDS_BETWEEN_INTERRUPTS = SECONDS_TO_SAVE + 1
_SECONDS_BETWEEN_LOOKS = 0.2  # a wait without timeout can miss an interrupt that occurs just before it
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_SLOW_IMPORTS = ["torch", "numba", "scipy.optimize"]
_LONGEST_FOLDER = 70
"""Longest path, in bytes, of a temporary folder in which a socket can be: with the names below it, Linux allows 107."""
_threads_of_server: list[str | None] | None = None

Record = TypeVar("Record")
Record_co = TypeVar("Record_co", covariant=True)


class Job(Protocol[Record_co]):
    """A piece of work, such as the training of one model, that can be sent to another process and run there.

    A job may have two more attributes: `is_network` tells if it needs PyTorch, which `run_jobs` then imports once for
    all jobs, and `n_gpus` is the number of GPUs that it uses on a cluster.
    """

    @property
    def name(self) -> str:
        """The name of the job, which differs from the name of every other job of the run."""
        ...

    def do(self, on_progress: OnProgress) -> Record_co:
        """Runs the job in the current process, and returns its result, which is called its record."""
        ...


class JobExecutor(Protocol):
    """Runs jobs elsewhere than in processes of this computer, for example on a cluster."""

    def run(
        self,
        jobs: Sequence[Job[Record]],
        *,
        n_threads: int,
        on_outcome: Callable[[Outcome[Record]], None],
        on_progress: Callable[[str, Progress], None] | None = None,
    ) -> None:
        """Runs all jobs, each with `n_threads` threads, and calls `on_outcome` with the outcome of each when it ends.

        `on_progress` receives the name of a job and its progress. Both functions are called in this process.
        """
        ...


@dataclass(frozen=True)
class Outcome(Generic[Record]):
    """The outcome of a job that has ended: the result that it returned, called its record, or an error message."""

    name: str
    record: Record | None = None
    error: str = ""
    reused: bool = False
    """True if the record is that of an earlier run."""
    skipped: bool = False
    """True if the job was optional and something that it needs is not installed: this is no failure."""


def check_jobs(wanted: int | None) -> int:
    """Returns the number of jobs to run at a time: `wanted`, or by default the number of cores, at most 4.

    Raises UsageError if `wanted` is below 1, or if this process was started by torchrun. Call this function before any
    expensive work.
    """
    if this_process().n_processes > 1:
        raise UsageError(
            "this command starts its own processes: run it without torchrun, which is only for `lmzoo fit`"
        )
    if wanted is None:
        return min(n_cores(), 4)
    if wanted < 1:
        raise UsageError(f"the number of jobs must be at least 1, got {wanted}")
    return wanted


def run_jobs(
    jobs: Sequence[Job[Record]],
    *,
    at_a_time: int,
    on_outcome: Callable[[Outcome[Record]], None],
    on_progress: Callable[[str, Progress], None] | None = None,
    executor: JobExecutor | None = None,
) -> None:
    """Runs all jobs, `at_a_time` of them in parallel, and calls `on_outcome` with the outcome of each job when it ends.

    A job that fails does not affect the others. The cores are divided evenly among the parallel jobs, so that the time
    of every job is measured with the same number of threads. `on_progress` receives the name of a job and its progress.
    An `executor` runs the jobs elsewhere, and decides how many run in parallel. There, each job has the number of
    threads that it would have here, because the last digits of results can depend on this number.
    """
    n_threads = max(1, n_cores() // at_a_time)
    if executor is not None:
        executor.run(jobs, n_threads=n_threads, on_outcome=on_outcome, on_progress=on_progress)
        return
    with threads_of_children(n_threads), ThreadPoolExecutor(at_a_time) as pool:
        running: list[Future[Outcome[Record]]] = []
        try:
            with deferred():
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
    executor: JobExecutor | None = None,
) -> list[Outcome[Record]]:
    """Runs the jobs that have no result from an earlier run, and returns the outcomes of all jobs in the given order.

    - `known`: maps the name of a job to its result from an earlier run, which is reused.
    - `at_a_time`: the number of jobs that run in parallel.
    - `on_outcome`: called with the outcome of each reused job first, and then of each other job when it ends.
    - `on_progress`: called with the name of a job and its progress.
    - `executor`: where the jobs run; None for processes of this computer. See `run_jobs`.
    """
    outcomes: dict[str, Outcome[Record]] = {}

    def keep(outcome: Outcome[Record]) -> None:
        outcomes[outcome.name] = outcome
        on_outcome(outcome)

    for job in jobs:
        if job.name in known:
            keep(Outcome(job.name, known[job.name], reused=True))
    todo = [job for job in jobs if job.name not in known]
    run_jobs(todo, at_a_time=at_a_time, on_outcome=keep, on_progress=on_progress, executor=executor)
    return [outcomes[job.name] for job in jobs]


def named(name: str, on_progress: Callable[[str, Progress], None] | None) -> OnProgress:
    """Returns a progress callback for one job, which passes the given name and the progress to `on_progress`."""
    return lambda progress: on_progress(name, progress) if on_progress else None


def n_cores() -> int:
    """Returns the number of processor cores of this computer."""
    return psutil.cpu_count(logical=False) or 1


def _run(job: Job[Record], on_progress: OnProgress) -> Outcome[Record]:
    """Runs a job in a new process, forwards its progress reports, and returns its outcome."""
    # The process inherits the signal mask of this thread: an interrupt is delivered when `_work` can handle it.
    mask_interrupts(True)
    context = _context(is_network=getattr(job, "is_network", False))  # most jobs do not need torch and do not say so
    ours, theirs = context.Pipe(duplex=False)
    process: Any = context.Process(target=_work, args=(job, theirs, dict(os.environ)), name=f"lmzoo {job.name}")
    process.start()
    theirs.close()
    try:
        while True:
            message = ours.recv()
            if isinstance(message, Progress):
                on_progress(message)
                continue
            outcome, trace = message
            sys.stderr.write(trace)
            return outcome
    except EOFError:
        process.join()
        reason = f"its process ended with exit code {process.exitcode}"
        if process.exitcode == -9:
            reason += " (killed, perhaps because memory ran out)"
        return Outcome(job.name, error=reason)
    finally:
        process.join()
        ours.close()


def _context(*, is_network: bool) -> Any:
    """Returns the context of `multiprocessing` that starts the process of a job.

    A new process takes seconds to import torch. On Linux, the processes of networks are therefore copies (forks) of one
    server process, which has imported torch but has not computed anything. Libraries read their number of threads when
    they are imported, so the server is used only for jobs with the number of threads with which it was started. Its
    socket is in the temporary folder, whose path must not be too long.
    """
    global _threads_of_server
    if is_network and sys.platform == "linux" and len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER:
        threads = [os.environ.get(name) for name in THREAD_VARIABLES]
        if _threads_of_server in (None, threads):
            _threads_of_server = threads
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(_SLOW_IMPORTS)
            return context
    return multiprocessing.get_context("spawn")


def mask_interrupts(masked: bool) -> None:
    """Blocks or unblocks interrupts of this thread; does nothing on Windows."""
    if hasattr(signal, "pthread_sigmask"):
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # it would start with the first process otherwise, and unblock interrupts
        signal.pthread_sigmask(signal.SIG_BLOCK if masked else signal.SIG_UNBLOCK, SIGNALS)


def _interrupt_all(running: Sequence[Future[Any]]) -> None:
    """Interrupts the processes of all running jobs, so that they save their checkpoints and end.

    The signal is SIGTERM, because a process that a shell started in the background ignores SIGINT. Repeats the
    interrupt every few seconds, because an interrupt during an import can be lost.
    """
    interrupted: dict[int, float] = {}  # times by process id
    while not all(future.done() for future in running):
        for process in multiprocessing.active_children():
            if (
                process.pid is None
                or time.monotonic() - interrupted.get(process.pid, -math.inf) < _SECONDS_BETWEEN_INTERRUPTS
            ):
                continue
            interrupted[process.pid] = time.monotonic()
            process.terminate()
        wait(running, timeout=_SECONDS_BETWEEN_LOOKS)


@contextlib.contextmanager
def threads_of_children(n_threads: int) -> Iterator[None]:
    """Sets the number of threads of processes that start inside the `with` block.

    Environment variables that the user has set are not changed.
    """
    unset = [name for name in THREAD_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, str(n_threads)))
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]


def _work(job: Job[Any], connection: Connection, environment: Mapping[str, str]) -> None:
    """Runs a job in its own process, and sends its progress and outcome through a connection.

    `environment` has the environment variables of the main process, which may have changed since the start of the
    server from which this process was forked.
    """
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        print_warnings_as_lines()
        handle_interrupts(signal.SIGTERM)
        mask_interrupts(False)
        ended = attempt(job, connection.send)
    except KeyboardInterrupt:
        os._exit(exit_status())
    connection.send(ended)


def attempt(job: Job[Record], on_progress: OnProgress) -> tuple[Outcome[Record], str]:
    """Runs a job in this process; returns its outcome, and the traceback of an unexpected error."""
    try:
        return Outcome(job.name, job.do(on_progress)), ""
    except LmzooError as error:
        return Outcome(job.name, error=one_line(error)), ""
    except MemoryError as error:
        return Outcome(job.name, error=describe_memory_error(error)), ""
    except Exception as error:
        return Outcome(job.name, error=f"{type(error).__name__}: {error}"), traceback.format_exc()


def _end_with_parent() -> None:
    """Ends this process when its parent ends, so that a job does not continue after its run was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
