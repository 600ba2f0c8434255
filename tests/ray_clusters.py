"""Ray clusters of several nodes on this computer, for tests; a module that imports this one is skipped without Ray."""

from __future__ import annotations

import gc
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

# Ray reads these when it is imported.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'lmzoo[cluster]'")

_STORE = 80 * 2**20  # Ray's smallest object store
_ATTEMPTS = 5
"""A node does not start if its helpers take more than some seconds, as they do on busy computers."""


def fast_start() -> AbstractContextManager[object]:
    """Lets nodes start faster inside a `with` block: without the packages that the dashboard needs."""
    return patch.object(ray._private.utils, "get_dashboard_dependency_error", lambda: ImportError())


@contextmanager
def running_cluster(n_nodes: int) -> Iterator[str]:
    """Starts a Ray cluster of nodes with one core each, which can import `ray_tasks`, and yields its address."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), before])
    cluster = Cluster()
    try:
        with fast_start():
            for _ in range(n_nodes):
                for attempt in range(_ATTEMPTS):
                    try:
                        cluster.add_node(num_cpus=1, object_store_memory=_STORE)
                        break
                    except Exception:
                        if attempt == _ATTEMPTS - 1:
                            raise
        yield cluster.address
    finally:
        cluster.shutdown()
        gc.collect()  # Python warns of processes that Ray has not waited for, and the tests ignore this only here
        os.environ["PYTHONPATH"] = before
