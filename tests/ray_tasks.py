"""Jobs, stages and probes that run on the nodes of a test cluster.

Every process reads this module, so it imports little.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmzoo.errors import CorpusError
from lmzoo.system.executors import Arrays
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.system.ray_jobs import probe


@dataclass(frozen=True)
class Task:
    """A job that returns its process, its node and two variables of its environment, or ends in another way."""

    name: str
    fate: str
    folder: Path
    n_gpus: int = 0

    def do(self, on_progress: OnProgress) -> tuple[int, str, list[str]]:
        import ray  # pyright: ignore[reportMissingImports]

        started = self.folder / f"{self.name}-started"
        on_progress(Progress(1, 2, "steps", self.name))
        match self.fate:
            case "refused":
                raise CorpusError("there is\nno text")
            case "surprised":
                raise ZeroDivisionError("by zero")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "killed once" if not started.exists():
                started.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            case "endless":
                started.touch()
                try:
                    while True:
                        time.sleep(0.1)
                except KeyboardInterrupt:
                    (self.folder / f"{self.name}-saved").touch()
                    raise
            case _:
                pass
        on_progress(Progress(2, 2, "steps", self.name))
        variables = [os.environ[name] for name in ("OMP_NUM_THREADS", "LMZOO_BFLOAT16")]
        return os.getpid(), ray.get_runtime_context().get_node_id(), variables


def add(first: Arrays, second: Arrays, number: int) -> Iterator[Arrays]:
    """Stage that returns a sum, and then a difference."""
    yield {"sum": first["a"] + second["a"] + number}
    yield {"difference": first["a"] - second["a"]}


def fail(number: int) -> Iterator[Arrays]:
    """Stage that fails: with an error of lmzoo for a number other than 0, otherwise with one of Python."""
    raise CorpusError(f"{number} is too much") if number else ValueError("no number")
    yield {}


def die_once(flag: Path) -> Iterator[Arrays]:
    """Stage whose process is killed after the first result, unless `flag` exists, which it creates."""
    yield {"a": np.zeros(1)}
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    yield {"a": np.ones(1)}


def blind(shared: Path, reply: str, version: str) -> str:
    """Probes another folder on one of the nodes, as if that node did not share the folder."""
    import ray  # pyright: ignore[reportMissingImports]

    first = min(node["NodeID"] for node in ray.nodes())
    return probe(shared if reply == first else shared / "elsewhere", reply, version)


def unlocked(shared: Path, reply: str, version: str) -> str:
    """Probes the folder as if locks were seen on the node only that holds them: with another file for the lock."""
    (shared / "lock").unlink(missing_ok=True)
    return probe(shared, reply, version)


def silent(shared: Path, reply: str, version: str) -> str:
    """Finds no fault and writes nothing, as if the file were written to another folder."""
    return ""


def broken(shared: Path, reply: str, version: str) -> str:
    """Fails as a node does on which lmzoo is not installed."""
    raise ModuleNotFoundError("No module named 'lmzoo'")
