"""A folder that holds one run, which can be stopped and gone on with: it says what was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmzoo.errors import SavedModelError, UsageError
from lmzoo.files import atomic_file


def open_run(folder: Path, request: Mapping[str, Any]) -> None:
    """Makes `folder` the home of the run that `request` (plain values) asks for, or finds that it is.

    UsageError if it holds anything else, SavedModelError if its `run.json` is damaged.
    """
    path = folder / "run.json"
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SavedModelError(f"{path} is damaged: choose another folder, or delete this one") from error
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
