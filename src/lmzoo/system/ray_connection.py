"""Connects to a Ray cluster (Moritz et al. 2018); needs the extra `lmzoo[cluster]`.

P. Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, OSDI 2018.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from lmzoo.errors import ConfigurationError, LmzooError, needs_extra
from lmzoo.system.files import temporary_folder
from lmzoo.system.interrupts import keep_handlers
from lmzoo.system.jobs import THREAD_VARIABLES
from lmzoo.system.messages import first_line

LOCAL = "local"
"""The address that stands for a cluster of this computer alone, which is started for one computation."""

_SECONDS_TO_CONNECT = 10.0

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the future default, without which Ray warns
    "RAY_task_oom_retries": "5",  # by default, Ray endlessly repeats a task that needs too much memory
}
"""Environment variables that are set before Ray is imported, except for those that the user has set."""


def check_address(address: object) -> None:
    """Raises ConfigurationError unless `address` can be that of a Ray cluster: "auto", "local" or HOST:PORT."""
    if not isinstance(address, str) or not re.fullmatch(rf"auto|{LOCAL}|(ray://)?[^\s:/]+:\d+", address):
        raise ConfigurationError(f'cluster must be "auto", "{LOCAL}" or HOST:PORT, got {address!r}')


@contextmanager
def ray_connection(address: str, n_workers: int = 0) -> Iterator[Any]:
    """Connects to a Ray cluster, yields the module `ray`, and disconnects at the end of the `with` block.

    `address` is "auto" for the cluster of which this computer is a node, HOST:PORT for another one, or "local" to start
    a cluster of this computer alone with `n_workers` processor cores (0 = all). If this process is already connected to
    a cluster, this connection is used, and stays open at the end. Token authentication is on, unless the environment
    variable RAY_AUTH_MODE is set, and Ray's usage statistics are off. Raises MissingExtraError if Ray is not installed,
    and LmzooError if there is no cluster at the address, or if no cluster can be started on this computer.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address == LOCAL:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with needs_extra("ray", "cluster", "a cluster"):
        import ray  # pyright: ignore[reportMissingImports]
    if ray.is_initialized():
        yield ray
        return
    with temporary_folder(Path(tempfile.gettempdir())) if address == LOCAL else nullcontext() as spilled:
        more = {"num_cpus": n_workers or None, "include_dashboard": False, "object_spilling_directory": str(spilled)}
        context = _connect(ray, address, more if spilled else {})
        try:
            yield ray
        finally:
            ray.shutdown()
            if spilled:  # Ray itself would keep the logs
                shutil.rmtree(context.address_info["session_dir"], ignore_errors=True)


def _connect(ray: Any, address: str, more: Mapping[str, Any]) -> Any:
    """Connects to a cluster, or starts one if the address is "local"; returns what `ray.init` returns.

    `more` are further arguments of `ray.init`.
    """
    environment = {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
    printed: list[bytes] = []
    try:
        if ":" in address and "://" not in address:  # Ray itself waits for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), _SECONDS_TO_CONNECT).close()
        # Ray's handler of SIGTERM ends the program without a message. Its C++ code prints a warning for each attempt to
        # connect with a wrong token, whatever the logging level.
        with keep_handlers(), nullcontext() if address == LOCAL else _token_warnings_kept(printed):
            return ray.init(address, runtime_env=environment, log_to_driver=False, logging_level="ERROR", **more)
    except ray.exceptions.AuthenticationError as error:
        raise LmzooError(
            f"this computer has no authentication token for a Ray cluster at '{address}': create one with ray "
            "get-auth-token --generate, copy ~/.ray/auth_token to all nodes, and start them with "
            "RAY_AUTH_MODE=token"
        ) from error
    except Exception as error:  # Ray raises exceptions of many types
        if printed:
            raise LmzooError(
                f"the Ray cluster at '{address}' refuses the authentication token of this computer: copy "
                "~/.ray/auth_token from a node of the cluster"
            ) from error
        what, advice = (
            ("start a Ray cluster on this computer", "repeat the command when the computer is less busy")
            if address == LOCAL
            else (
                f"connect to a Ray cluster at '{address}'",
                f"start one with ray start --head, give all computers the same ~/.ray/auth_token, or choose '{LOCAL}'",
            )
        )
        reason = first_line(error).rstrip(".")
        raise LmzooError(f"cannot {what}: {reason}; {advice}") from error


@contextmanager
def _token_warnings_kept(printed: list[bytes]) -> Iterator[None]:
    """Appends warnings that the cluster refuses the token to `printed`, instead of printing them on stderr.

    Everything else that this process, also code in C++, prints on stderr inside the `with` block appears at its end.
    """
    if sys.stderr is None:  # as in a service that was started without it
        yield
        return
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            for line in file:
                if b"InvalidAuthToken" in line:
                    printed.append(line)
                else:
                    os.write(2, line)
