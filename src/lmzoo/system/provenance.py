"""What figures rest on: versions and machine."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from lmzoo.system.version import __version__


def versions(*others: str) -> dict[str, str]:
    """Versions of lmzoo, Python, the packages whose arithmetic the figures rest on, and others that are installed."""
    found = {"lmzoo": __version__, "python": platform.python_version()}
    for package in ("numpy", "scipy", "torch", "tokenizers", "numba", "transformers", *others):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What time and memory were measured on."""
    return {
        "platform": platform.platform(terse=True),
        "processor": _processor(),
        "n_cores": psutil.cpu_count(logical=True) or 1,
        "n_threads": _n_threads(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _n_threads() -> int:
    """As many as OMP_NUM_THREADS says, which may be a list, for loops in loops; else as many as there are cores."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else psutil.cpu_count(logical=False) or 1


def peak_memory_bytes() -> int:
    """Highest resident memory of this process so far."""
    try:  # Linux: unlike getrusage, this does not start from the memory of the process that started us
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
