"""Ray clusters of several nodes on this computer, for tests; a module that imports this one is skipped without Ray."""

from __future__ import annotations

import os
import secrets
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
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
_SECONDS_TO_START = 600.0
# A node waits for ports that its helpers choose, and gives up after some seconds, which are too few on busy computers.
_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


def _patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Returns Ray's look for a node that has started, with more time than Ray allows, for busy computers."""

    def get(*arguments: Any) -> Any:
        end = time.monotonic() + _SECONDS_TO_START
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.2)

    return get


def _free_ports(n: int) -> list[int]:
    """Returns ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def running_cluster(n_nodes: int) -> Iterator[str]:
    """Starts a Ray cluster of nodes with one core each, which can import `ray_tasks`, and yields its address."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), before])
    cluster = Cluster()
    try:
        with patch.object(ray._private.services, "get_node", _patient(ray._private.services.get_node)):
            for number in range(n_nodes):
                more = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
                if number == 0:
                    more["include_dashboard"] = False
                cluster.add_node(num_cpus=1, object_store_memory=_STORE, **more)
        yield cluster.address
    finally:
        cluster.shutdown()
        os.environ["PYTHONPATH"] = before
