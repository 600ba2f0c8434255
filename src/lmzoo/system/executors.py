"""Runs a computation that is too large for one process, in stages of many tasks that pass arrays to each other.

A stage is a function that is called once for each of its tasks. It takes numbers and arrays, and yields one or more
results, each of which is a dictionary of arrays. Results stay where they were produced, and are referred to by handles.
When a handle is passed to a later stage as an argument, the stage receives the arrays. Therefore the same stage
functions can run in processes of one computer (`local_processes`, with results in temporary files) and on a cluster
(`lmzoo.system.ray_executor`).

If a process was killed, a stage may be called a second time for the same task; it must then yield the same results.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import LmzooError
from lmzoo.system.files import temporary_files_error, temporary_folder
from lmzoo.system.jobs import mask_interrupts, n_cores, threads_of_children

Arrays = Mapping[str, NDArray[Any]]
Stage = Callable[..., Iterable[Arrays]]
Handle = TypeVar("Handle")

_MAX_DEATHS = 3
"""Number of workers killed one after another, with no task finished in between, after which a stage fails."""


class Executor(Protocol[Handle]):
    """Runs stages of a computation, and keeps their results."""

    @property
    def n_workers(self) -> int:
        """The number of tasks that run at the same time."""
        ...

    def put(self, arrays: Arrays) -> Handle:
        """Stores arrays for later stages, and returns their handle."""
        ...

    def get(self, handle: Handle) -> Arrays:
        """Returns the arrays of a handle."""
        ...

    def map(self, stage: Stage, tasks: Sequence[tuple[Any, ...]], n_results: int = 1) -> Iterator[list[Handle]]:
        """Calls `stage(*task)` for each of the tasks, in parallel, and yields the handles of the results of each task.

        Each call must yield `n_results` results. Tasks may finish in any order, but their handles are yielded in the
        order of `tasks`. Raises LmzooError if workers are killed again and again.
        """
        ...

    def free(self, handles: Iterable[Handle]) -> None:
        """Deletes the arrays of handles that are no longer needed.

        The results of one task are deleted together, as soon as all of them have been freed.
        """
        ...


@dataclass(frozen=True)
class StoredArrays:
    """Arrays that are stored in a file; `LocalProcesses` uses these objects as handles."""

    path: Path
    entries: Mapping[str, tuple[int, str, tuple[int, ...]]]
    """The offset in the file (in bytes), the type and the shape of each array, by its name."""

    def load(self) -> Arrays:
        """Reads the arrays into memory."""
        return {
            name: np.fromfile(self.path, dtype, math.prod(shape), offset=offset).reshape(shape)
            for name, (offset, dtype, shape) in self.entries.items()
        }


class _FileExecutor(ABC):
    """Base class of executors that store results in files of a folder; the methods are those of `Executor`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._n_files = 0
        self._unfreed: dict[Path, int] = {}

    def put(self, arrays: Arrays) -> StoredArrays:
        path = self._new_path()
        (handle,) = _store([arrays], path)
        self._unfreed[path] = 1
        return handle

    def get(self, handle: StoredArrays) -> Arrays:
        return handle.load()

    @abstractmethod
    def map(self, stage: Stage, tasks: Sequence[tuple[Any, ...]], n_results: int = 1) -> Iterator[list[StoredArrays]]:
        """Calls a stage for each of the tasks; see `Executor.map`."""

    def free(self, handles: Iterable[StoredArrays]) -> None:
        for handle in handles:
            self._unfreed[handle.path] -= 1
            if not self._unfreed[handle.path]:
                handle.path.unlink()

    def _new_path(self) -> Path:
        self._n_files += 1
        return self._folder / str(self._n_files)


class LocalProcesses(_FileExecutor):
    """Runs stages in processes of this computer, with results in temporary files; see `local_processes`."""

    def __init__(self, n_workers: int, folder: Path) -> None:
        super().__init__(folder)
        self.n_workers = n_workers
        self._start()

    def map(self, stage: Stage, tasks: Sequence[tuple[Any, ...]], n_results: int = 1) -> Iterator[list[StoredArrays]]:
        paths = [self._new_path() for _ in tasks]
        futures: dict[int, Future[list[StoredArrays]]] = {}
        n_done = n_deaths = 0
        while n_done < len(tasks):
            try:
                for number in range(n_done, len(tasks)) if n_done not in futures else ():
                    if number not in futures:
                        futures[number] = self._submit(stage, tasks[number], paths[number])
                handles = futures.pop(n_done).result()
            except BrokenProcessPool:
                n_deaths += 1
                if n_deaths == _MAX_DEATHS:
                    raise LmzooError(
                        f"{_MAX_DEATHS} worker processes ended one after another (killed, perhaps because memory ran "
                        "out): lower the memory of each worker, or use fewer workers"
                    ) from None
                self.close()
                self._start()
                futures = {
                    number: future
                    for number, future in futures.items()
                    if not isinstance(future.exception(), BrokenProcessPool)
                }
                continue
            assert len(handles) == n_results
            self._unfreed[paths[n_done]] = n_results
            n_done, n_deaths = n_done + 1, 0
            yield handles

    def close(self) -> None:
        """Ends the worker processes, even if they are busy."""
        self._leash.close()
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, stage: Stage, task: tuple[Any, ...], path: Path) -> Future[list[StoredArrays]]:
        mask_interrupts(True)  # a new worker inherits the mask: interrupts arrive when it ignores them
        try:
            return self._pool.submit(_do, stage, task, path)
        finally:
            mask_interrupts(False)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        theirs, self._leash = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(self.n_workers, context, _start_worker, (theirs,))


class ThisProcess(_FileExecutor):
    """Runs stages in this process, with results in temporary files, so that they need little memory."""

    n_workers = 1

    def map(self, stage: Stage, tasks: Sequence[tuple[Any, ...]], n_results: int = 1) -> Iterator[list[StoredArrays]]:
        for task in tasks:
            path = self._new_path()
            handles = _do(stage, task, path)
            self._unfreed[path] = n_results
            yield handles


@contextmanager
def local_processes(n_workers: int) -> Iterator[Executor[StoredArrays]]:
    """Yields an executor that runs tasks in `n_workers` processes of this computer, or with 0 in this process.

    Results are stored in the system's folder for temporary files (environment variable TMPDIR). They are deleted at the
    end of the `with` block; if the program is killed, they are deleted when an executor is next created. The workers
    end when the program ends, even if it is killed.
    """
    threads = threads_of_children(max(1, n_cores() // max(1, n_workers)))
    with temporary_folder(Path(tempfile.gettempdir())) as folder, threads:
        if n_workers:
            with closing(LocalProcesses(n_workers, folder)) as executor:
                yield executor
        else:
            yield ThisProcess(folder)


def _start_worker(leash: Any) -> None:
    """Prepares a worker process, which ends when the other end of the pipe `leash` is closed."""
    for name in ("SIGINT", "SIGHUP"):  # only the program itself reacts to Ctrl-C, and closes the pipe
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    mask_interrupts(False)
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()


def _end_with(leash: Any) -> None:
    with suppress(EOFError, OSError):
        leash.recv_bytes()
    os._exit(1)


def _do(stage: Stage, task: tuple[Any, ...], path: Path) -> list[StoredArrays]:
    """Calls a stage for one task, and writes its results to the file `path`."""
    # No variable refers to the loaded arrays here, so that the stage can free their memory.
    return _store(stage(*(value.load() if isinstance(value, StoredArrays) else value for value in task)), path)


def _store(results: Iterable[Arrays], path: Path) -> list[StoredArrays]:
    """Writes results to one file, each as soon as it is available, and returns their handles."""
    handles = []
    try:
        with path.open("wb") as file:
            for arrays in results:
                entries = {}
                for name, array in arrays.items():
                    entries[name] = (file.tell(), array.dtype.str, array.shape)
                    file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
                handles.append(StoredArrays(path, entries))
    except OSError as error:
        # A process that first asks for the system's folder when that is full gets another one.
        raise temporary_files_error(error, folder=path.parents[1]) from error
    return handles
