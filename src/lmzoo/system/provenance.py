"""The software versions and the machine with which results were computed, and the time."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from lmzoo.system.version import __version__


def versions(*others: str) -> dict[str, str]:
    """Returns the installed versions of lmzoo, Python, and the packages that affect numerical results.

    The positional arguments, `others`, are the names of further packages; packages that are not installed are left out.
    """
    installed = {"lmzoo": __version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "torch", "tokenizers", "numba", "transformers", *others):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def timestamp() -> str:
    """Returns the current date and time (UTC) in ISO 8601 format, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine() -> dict[str, Any]:
    """Returns a description of this machine: platform, processor, numbers of cores and threads, memory in bytes."""
    return {
        "platform": platform.platform(terse=True),
        "processor": _processor(),
        "n_cores": psutil.cpu_count(logical=True) or 1,
        "n_threads": _n_threads(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _n_threads() -> int:
    """Returns the number of threads for numerical work: OMP_NUM_THREADS if it is set, else the number of cores.

    If the environment variable is a list, one number for each level of nested loops, this is the first of them.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else psutil.cpu_count(logical=False) or 1


def peak_memory_bytes() -> int:
    """Returns the peak resident memory of this process so far, in bytes."""
    try:  # Linux: unlike getrusage, this does not include the memory of the parent process
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
