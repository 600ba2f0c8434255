"""Run folders: each holds one run, which can be interrupted and continued; `run.json` holds the request of the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lmzoo.errors import SavedModelError, UsageError
from lmzoo.evaluation.records import AnyRecord, read_lines, write_records
from lmzoo.system.files import atomic_file, is_workspace, make_folder, remove_remains, writing
from lmzoo.system.jobs import Outcome
from lmzoo.system.json_files import parse_json, read_text

_REQUEST = "run.json"
_LOCK = "run.lock"


@contextmanager
def open_run(folder: Path, request: Mapping[str, Any]) -> Iterator[None]:
    """Opens a run folder for writing within a `with` block, and creates the folder if it does not exist.

    A lock keeps other processes out of the folder, and temporary files of killed runs are deleted. `request` holds the
    values that identify the run, such as the corpus and the seed; they are stored in `run.json`. Raises UsageError if
    the folder belongs to a run with other values, holds other files, or is in use by another process. Raises
    SavedModelError if `run.json` is damaged.
    """
    with writing(folder):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file, but a run needs a folder: choose another name")
        _check(folder, request)  # before the lock, which is a file in the folder
        make_folder(folder)
        try:
            lock = FileLock(folder / _LOCK).acquire(blocking=False)
        except Timeout:
            raise UsageError(
                f"another process is using {folder}: wait until it ends, or choose another folder"
            ) from None
    with lock:
        _check(folder, request)
        remove_remains(folder, recursive=True)
        if not (folder / _REQUEST).exists():
            with atomic_file(folder / _REQUEST) as temporary:
                temporary.write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")
        yield


def _check(folder: Path, request: Mapping[str, Any]) -> None:
    """Raises UsageError unless a run folder is new or empty, or holds a run with the values in `request`.

    These values identify a run, such as its corpus and its seed. Raises SavedModelError if the file with the values of
    the earlier run is damaged.
    """
    earlier = read_request(folder)
    if not earlier:
        if folder.exists() and any(not is_workspace(entry) for entry in folder.iterdir() if entry.name != _LOCK):
            raise UsageError(f"{folder} holds other files: choose an empty or new folder")
        return
    if earlier.keys() != request.keys():
        raise UsageError(f"{folder} holds a run of another kind: choose another folder")
    for key, value in request.items():
        if earlier.get(key) != value:
            what, _, kind = key.partition("_")
            if kind == "fingerprint":
                raise UsageError(
                    f"the {what} has changed since the run in {folder} began, so that the run cannot be continued: "
                    "choose another folder"
                )
            raise UsageError(
                f"{folder} holds a run with {key} {earlier.get(key)!r}, not {value!r}: choose another folder"
            )


def read_request(folder: Path) -> dict[str, Any]:
    """Returns the values that identify the run in a run folder, such as its corpus and its seed, from `run.json`.

    Returns {} if the folder has no such file. Raises SavedModelError if the file is damaged.
    """
    path = folder / _REQUEST
    if not path.exists():
        return {}
    try:
        request = parse_json(read_text(path, "the request of a run"))
    except ValueError:
        request = None
    if not isinstance(request, dict) or not request:
        raise SavedModelError(f"{path} is damaged: choose another folder, or delete this one")
    return request


def scores_path(folder: Path, name: str, split: str) -> Path:
    """Returns the path of the file in a run folder that holds a model's log-probability of each token of a split.

    `name` is the name of the model, and `split` is "valid" or "test".
    """
    return folder / "scores" / name / f"{split}.safetensors"


def record_keeper(
    path: Path, order: Sequence[str], on_outcome: Callable[[Outcome[AnyRecord]], None] | None
) -> Callable[[Outcome[AnyRecord]], None]:
    """Returns a function that writes the record of a finished job to a file of JSON lines, and calls `on_outcome`.

    A record replaces an earlier one of the same name. Records are sorted by the position of their names in `order`;
    records with other names follow them.
    """

    def on_done(outcome: Outcome[AnyRecord]) -> None:
        if outcome.record is not None and not outcome.reused:
            records: list[Any] = [*read_lines(path, type(outcome.record)), outcome.record]
            known = {record.name: record for record in records}
            write_records(path, [known[name] for name in dict.fromkeys([*order, *known]) if name in known])
        if on_outcome:
            on_outcome(outcome)

    return on_done
