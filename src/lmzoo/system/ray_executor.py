"""Runs stages on a Ray cluster (Moritz et al. 2018); needs the extra `lmzoo[cluster]`.

Ray schedules the tasks, moves and spills the arrays, and repeats tasks whose worker or node was lost.

P. Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, OSDI 2018.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lmzoo.errors import LmzooError
from lmzoo.system.executors import Arrays, Stage
from lmzoo.system.messages import first_line
from lmzoo.system.ray_connection import ray_connection

_MAX_RETRIES = 10
"""Number of times that Ray repeats a task of a stage if the process or the computer that ran the task was lost."""


class RayExecutor:
    """Runs stages on the Ray cluster to which this process is connected; see `ray_cluster`."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self.n_workers = max(1, int(ray.cluster_resources().get("CPU", 1)))

    def put(self, arrays: Arrays) -> Any:
        return self._ray.put(arrays)

    def get(self, handle: Any) -> Arrays:
        with self._plain_errors():
            return self._ray.get(handle)

    def map(self, stage: Stage, tasks: Sequence[tuple[Any, ...]], n_results: int = 1) -> Iterator[list[Any]]:
        remote = self._ray.remote(num_cpus=1, num_returns=n_results, max_retries=_MAX_RETRIES)(stage)
        submitted = [remote.remote(*task) for task in tasks]
        for results in submitted:
            handles = [results] if n_results == 1 else list(results)
            with self._plain_errors():
                self._ray.wait(handles, num_returns=n_results, fetch_local=False)
            yield handles

    def free(self, handles: Iterable[Any]) -> None:
        """Does nothing: Ray deletes arrays when no variable names their handle any longer."""

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """Converts the errors of Ray inside the `with` block: to that of the stage, or to an LmzooError."""
        errors = self._ray.exceptions
        try:
            yield
        except errors.RayTaskError as error:
            if isinstance(error.cause, LmzooError):
                raise error.cause from None
            raise LmzooError(f"a task failed on the cluster: {type(error.cause).__name__}: {error.cause}") from error
        except errors.RayError as error:
            lost = f"the cluster lost a task or its results ({first_line(error)})"
            raise LmzooError(f"{lost}; repeat the command") from error


@contextmanager
def ray_cluster(address: str, n_workers: int = 0) -> Iterator[RayExecutor]:
    """Yields an executor that runs tasks on a Ray cluster; see `ray_connection` for the arguments and the errors."""
    with ray_connection(address, n_workers) as ray:
        yield RayExecutor(ray)
