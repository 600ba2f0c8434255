"""Checkpoints of long training runs: an interrupted run resumes and gives the same result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmzoo.arrays import Arrays, load_arrays, save_arrays
from lmzoo.errors import SavedModelError, TrainingError


class Checkpoint:
    """A file with the latest state of one training run. Each save replaces the file atomically.

    With `replaces_others`, the state of a run with other data or settings is ignored, and replaced by the next save.
    """

    def __init__(self, path: str | Path, *, replaces_others: bool = False) -> None:
        self.path = Path(path)
        self._replaces_others = replaces_others
        self.earlier_seconds = 0.0
        """Training time in seconds before the interruption; 0 if no run was resumed."""
        self._opened = time.perf_counter()

    def save(self, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Saves the state of a training run: named arrays and a JSON object.

        `facts` must contain `fingerprint`, a hash of the training data and settings, which `load` compares.
        """
        seconds = self.earlier_seconds + time.perf_counter() - self._opened
        save_arrays(self.path, arrays, {**facts, "seconds": seconds})

    def load(self, fingerprint: str) -> tuple[Arrays, dict[str, Any]] | None:
        """Returns the saved state of a training run as (arrays, facts), or None if there is none to continue from.

        `fingerprint` is a hash of the training data and settings. Raises TrainingError if the file is damaged, or if it
        was saved by a run with another fingerprint and such states are not to be replaced.
        """
        if not self.path.exists():
            return None
        try:
            arrays, facts = load_arrays(self.path)
        except SavedModelError as error:
            raise TrainingError(f"the checkpoint {self.path} is damaged; delete it to start over") from error
        if facts.get("fingerprint") != fingerprint:
            if self._replaces_others:
                return None
            raise TrainingError(
                f"the checkpoint {self.path} belongs to a training run with other data or settings; "
                "delete it to start over, or choose another folder"
            )
        self.earlier_seconds = facts.get("seconds", 0.0)
        return {name: array.copy() for name, array in arrays.items()}, facts

    def discard(self) -> None:
        """Deletes the checkpoint file, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
