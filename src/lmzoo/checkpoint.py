"""Where a long fit leaves its work, so that a killed one resumes to the same result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmzoo.arrays import Arrays, load_arrays, save_arrays
from lmzoo.errors import SavedModelError, TrainingError


class Checkpoint:
    """One file with the newest state of one fit. Each save replaces the last one atomically."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.earlier_seconds = 0.0
        """How long the fit that `load` resumed had already run."""
        self._opened = time.perf_counter()

    def save(self, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Keeps the arrays and a JSON object of facts, among them `fingerprint`: what the fit was of."""
        seconds = self.earlier_seconds + time.perf_counter() - self._opened
        save_arrays(self.path, arrays, {**facts, "seconds": seconds})

    def load(self, fingerprint: str) -> tuple[Arrays, dict[str, Any]] | None:
        """The last state saved, or None. TrainingError if it was saved by a fit of something else."""
        if not self.path.exists():
            return None
        try:
            arrays, facts = load_arrays(self.path)
        except SavedModelError as error:
            raise TrainingError(f"the checkpoint {self.path} is damaged; delete it to start over") from error
        if facts.get("fingerprint") != fingerprint:
            raise TrainingError(
                f"the checkpoint {self.path} belongs to a fit with other data or settings; "
                "delete it to start over, or fit into another folder"
            )
        self.earlier_seconds = facts.get("seconds", 0.0)
        return {name: array.copy() for name, array in arrays.items()}, facts

    def discard(self) -> None:
        """Removes the file, once the fitted model is saved elsewhere."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
