"""Folders that all workers of a test run share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def shared_folder(name: str, make: Callable[[Path], object]) -> Path:
    """Returns a folder with the same path for all workers; the first one that needs it makes it by `make(folder)`."""
    folder = Path(os.environ["TMPDIR"]) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            make(folder)
    return folder
