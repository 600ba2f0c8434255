"""Run folders: each holds one run, which can be interrupted and continued; `run.json` holds the request of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lmzoo.errors import SavedModelError, UsageError
from lmzoo.system.files import atomic_file
from lmzoo.system.json_files import parse_json, read_text


@contextmanager
def open_run(folder: Path, request: Mapping[str, Any]) -> Iterator[None]:
    """Opens a run folder for writing within a `with` block, and creates the folder if it does not exist.

    A lock keeps other processes out of the folder. `request` holds the values that identify the run, such as the corpus
    and the seed; they are stored in `run.json`. Raises UsageError if the folder belongs to a run with other values,
    holds other files, or is in use by another process. Raises SavedModelError if `run.json` is damaged.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, but a run needs a folder: choose another name")
    _claim(folder, request)
    try:
        with FileLock(folder / "run.lock", blocking=False):
            yield
    except Timeout:
        raise UsageError(f"another process is using {folder}: wait until it ends, or choose another folder") from None


def _claim(folder: Path, request: Mapping[str, Any]) -> None:
    """Writes the request of a run to `run.json` in a new or empty folder, or checks that `run.json` holds the same one.

    The request consists of the values that identify the run, such as the corpus and the seed. Raises UsageError or
    SavedModelError as `open_run` does.
    """
    path = folder / "run.json"
    if path.exists():
        try:
            earlier = parse_json(read_text(path, "the request of a run"))
        except ValueError:
            earlier = None
        if not isinstance(earlier, dict):
            raise SavedModelError(f"{path} is damaged: choose another folder, or delete this one")
        if earlier.keys() != request.keys():
            raise UsageError(f"{folder} holds a run of another kind: choose another folder")
        for key, value in request.items():
            if earlier.get(key) != value:
                raise UsageError(
                    f"{folder} holds a run with {key} {earlier.get(key)!r}, not {value!r}: choose another folder"
                )
    elif folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds other files: choose an empty or new folder")
    else:
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")


def scores_path(folder: Path, name: str, split: str) -> Path:
    """Returns the path, in a run folder, of the file with a model's scores of each token of a split."""
    return folder / "scores" / name / f"{split}.safetensors"
