"""Runs jobs on a Ray cluster, one task for each job, and checks that all nodes share the folder of the run.

Ray chooses a node for each task, and repeats a task whose process or node was lost. Each task has a process of its own,
so that a job measures only the memory that it uses itself, and a crash affects only one job.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from lmzoo.errors import LmzooError, UsageError
from lmzoo.system.files import temporary_folder
from lmzoo.system.interrupts import SECONDS_TO_SAVE, deferred
from lmzoo.system.jobs import THREAD_VARIABLES, Job, Outcome, attempt
from lmzoo.system.messages import first_line
from lmzoo.system.progress import Progress
from lmzoo.system.version import __version__

_MAX_RETRIES = 2
"""Number of times that Ray repeats a job whose process or node was lost."""
_SECONDS_BETWEEN_REPORTS = 0.2
_SECONDS_TO_REPORT = 10.0
_SECONDS_TO_PROBE = 120.0
_SECONDS_TO_END = 2 * SECONDS_TO_SAVE
"""Time that interrupted jobs have to save their checkpoints before they are killed."""

Record = TypeVar("Record")


@dataclass(frozen=True)
class Node:
    """A running computer of a Ray cluster, with the resources that it offers to tasks."""

    node_id: str
    host: str
    address: str
    n_cores: int
    memory_bytes: int
    n_gpus: int

    @property
    def name(self) -> str:
        """Name and address of the computer."""
        return f"{self.host} ({self.address})"


def running_nodes(ray: Any) -> list[Node]:
    """Returns the running nodes of the cluster to which this process is connected, sorted by name and id."""
    nodes = [
        Node(
            node_id=facts["NodeID"],
            host=facts["NodeManagerHostname"],
            address=facts["NodeManagerAddress"],
            n_cores=int(facts["Resources"].get("CPU", 0)),
            memory_bytes=int(facts["Resources"].get("memory", 0)),
            n_gpus=int(facts["Resources"].get("GPU", 0)),
        )
        for facts in ray.nodes()
        if facts["Alive"]
    ]
    return sorted(nodes, key=lambda node: (node.name, node.node_id))


class RayJobs:
    """Runs jobs on the Ray cluster to which this process is connected; an executor for `run_jobs`."""

    def __init__(self, ray: Any, variables: Mapping[str, str]) -> None:
        """Creates an executor that sets the environment variables `variables` in the processes of all jobs."""
        self._ray = ray
        self._variables = dict(variables)

    def check_shared(self, folder: Path) -> None:
        """Raises LmzooError unless every node that can run jobs shares a folder with this computer.

        The folder must exist. Every node reads a file and writes a file in the folder, and checks that it sees a lock
        that this process holds there. The error names the first node that fails; a node also fails if it lacks lmzoo or
        has another version of it.
        """
        remote = self._ray.remote(num_cpus=0, max_retries=_MAX_RETRIES)(probe)
        errors = self._ray.exceptions
        with temporary_folder(folder.absolute()) as shared:
            (shared / _TOKEN).write_text(shared.name, encoding="utf-8")
            nodes = [node for node in running_nodes(self._ray) if node.n_cores > 0]
            answers = [
                remote.options(scheduling_strategy=_on_node(node.node_id, soft=False)).remote(
                    shared, node.node_id, __version__
                )
                for node in nodes
            ]
            for node, answer in zip(nodes, answers, strict=True):
                try:
                    fault = self._ray.get(answer, timeout=_SECONDS_TO_PROBE)
                except errors.RayTaskError as error:
                    reason = " ".join(f"{type(error.cause).__name__}: {error.cause}".split())
                    raise LmzooError(
                        f"node {node.name} cannot run lmzoo ({reason}): install lmzoo[cluster] there, in the "
                        "environment in which ray was started"
                    ) from error
                except errors.RayError as error:
                    raise LmzooError(f"node {node.name} does not answer: {first_line(error)}") from error
                if not fault and not (shared / node.node_id).exists():
                    fault = "its files are not seen by this computer"
                if fault:
                    raise LmzooError(
                        f"node {node.name} does not share the folder {folder}: {fault}; choose with --out a folder on "
                        "storage that every node has at the same path"
                    )

    def run(
        self,
        jobs: Sequence[Job[Record]],
        *,
        n_threads: int,
        on_outcome: Callable[[Outcome[Record]], None],
        on_progress: Callable[[str, Progress], None] | None = None,
    ) -> None:
        """Runs all jobs, as many at a time as the cluster has room for; see `run_jobs`.

        Each job takes `n_threads` cores of its node, and as many GPUs as its attribute `n_gpus` says, if it has one.
        An interrupt of this process interrupts the jobs, which save their checkpoints. Raises UsageError if no node has
        enough cores or GPUs for a job.
        """
        self._check_room(jobs, n_threads)
        variables = {name: os.environ.get(name, str(n_threads)) for name in THREAD_VARIABLES} | self._variables
        remote = self._ray.remote(
            num_cpus=n_threads,
            max_calls=1,  # a process of its own for each job
            max_retries=_MAX_RETRIES,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": variables},
        )(_work)
        reports = None if on_progress is None else self._reports()

        def pass_reports_on() -> None:
            with suppress(self._ray.exceptions.RayError):  # a job does not depend on its reports
                waiting = self._ray.get(reports.take.remote(), timeout=_SECONDS_TO_REPORT) if reports else ()
                for name, progress in waiting:
                    assert on_progress is not None
                    on_progress(name, progress)

        running: dict[Any, str] = {}
        try:
            with deferred():
                for job in jobs:
                    running[remote.options(num_gpus=_n_gpus(job), name=job.name).remote(job, reports)] = job.name
            while running:
                finished, _ = self._ray.wait([*running], timeout=_SECONDS_BETWEEN_REPORTS)
                pass_reports_on()
                for task in finished:
                    on_outcome(self._outcome(running.pop(task), task))
        except BaseException:
            self._interrupt([*running])
            raise

    def _reports(self) -> Any:
        """Returns an actor on this computer that holds the reports of all jobs."""
        here = _on_node(self._ray.get_runtime_context().get_node_id(), soft=True)
        return self._ray.remote(num_cpus=0, scheduling_strategy=here)(_Reports).remote()

    def _check_room(self, jobs: Sequence[Job[Any]], n_threads: int) -> None:
        nodes = running_nodes(self._ray)
        largest = max((node.n_cores for node in nodes), default=0)
        if jobs and n_threads > largest:
            raise UsageError(
                f"each job uses {n_threads} cores, but the largest node of the cluster has {largest}: choose a larger "
                "number of --jobs, which share the cores of one computer"
            )
        if any(_n_gpus(job) for job in jobs) and not any(node.n_gpus for node in nodes):
            raise UsageError("no node of the cluster has a GPU: choose --device cpu, or start nodes with GPUs")

    def _outcome(self, name: str, task: Any) -> Outcome[Any]:
        """Returns the outcome of a task that has ended; prints the traceback of an unexpected error."""
        errors = self._ray.exceptions
        try:
            outcome, trace = self._ray.get(task)
        except errors.RayTaskError as error:
            return Outcome(name, error=" ".join(f"{type(error.cause).__name__}: {error.cause}".split()))
        except errors.OutOfMemoryError:
            return Outcome(name, error="memory ran out on its node, in each of several attempts")
        except errors.RayError as error:
            reason = first_line(error)
            return Outcome(name, error=f"its process was lost in each of {_MAX_RETRIES + 1} attempts: {reason}")
        if trace:
            sys.stderr.write(trace)
        return outcome

    def _interrupt(self, tasks: Sequence[Any]) -> None:
        """Interrupts tasks as Ctrl-C would, waits until they have saved their work, and kills those that have not."""
        for force in (False, True):
            for task in tasks:
                self._ray.cancel(task, force=force)
            if tasks:
                _, tasks = self._ray.wait([*tasks], num_returns=len(tasks), timeout=_SECONDS_TO_END)


def probe(shared: Path, reply: str, version: str) -> str:
    """Returns the reason why this computer cannot use a shared folder, or an empty string if it can.

    `shared` is a folder whose lock is held by another process. It has a file that contains the name of the folder. A
    file with the name `reply` is written to it. `version` is the version of lmzoo that this computer must have.
    """
    if version != __version__:
        return f"it has lmzoo {__version__}, and this computer has lmzoo {version}"
    try:
        if (shared / _TOKEN).read_text(encoding="utf-8") != shared.name:
            return "it has another folder of that name"
    except OSError:
        return "it does not see the files of this computer there"
    try:
        (shared / reply).write_text(reply, encoding="utf-8")
    except OSError as error:
        return f"it cannot write there ({error.strerror})"
    with suppress(Timeout, OSError, NotImplementedError), FileLock(shared / "lock", blocking=False):
        return "it does not see the file locks of this computer there"
    return ""


_TOKEN = "token"


class _Reports:
    """A Ray actor that collects the progress reports of all jobs, until the process that shows them takes them."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Progress]] = []

    def add(self, reports: list[tuple[str, Progress]]) -> None:
        self._waiting += reports

    def take(self) -> list[tuple[str, Progress]]:
        taken, self._waiting = self._waiting, []
        return taken


class _Sender:
    """Sends the progress reports of a job to the actor `reports`, several at a time because each message takes time."""

    def __init__(self, name: str, reports: Any) -> None:
        self._name, self._reports = name, reports
        self._unsent: list[tuple[str, Progress]] = []
        self._sent = 0.0

    def __call__(self, progress: Progress) -> None:
        if self._reports is None:
            return
        self._unsent.append((self._name, progress))
        if time.monotonic() - self._sent >= _SECONDS_BETWEEN_REPORTS:
            self._send()

    def _send(self) -> Any:
        unsent, self._unsent = self._unsent, []
        self._sent = time.monotonic()
        return self._reports.add.remote(unsent)

    def finish(self) -> None:
        """Sends the last reports and waits until they have arrived."""
        import ray  # pyright: ignore[reportMissingImports]
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

        if self._unsent:
            with suppress(RayError):
                ray.get(self._send())


def _work(job: Job[Any], reports: Any) -> tuple[Outcome[Any], str]:
    """Runs a job in this process, a worker of Ray; returns its outcome and the traceback of an unexpected error."""
    sender = _Sender(job.name, reports)
    try:
        return attempt(job, sender)
    finally:
        sender.finish()


def _on_node(node_id: str, *, soft: bool) -> Any:
    """Returns the Ray strategy that runs a task on the given node or, with `soft`, on another one if it is lost."""
    from ray.util.scheduling_strategies import (  # pyright: ignore[reportMissingImports]
        NodeAffinitySchedulingStrategy,
    )

    return NodeAffinitySchedulingStrategy(node_id, soft=soft)


def _n_gpus(job: Job[Any]) -> int:
    return getattr(job, "n_gpus", 0)  # most jobs need none and do not say so
