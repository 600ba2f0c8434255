"""The predictors that come with lmzoo: small models of every era, fitted on the King James Bible.

Each has the name of its species and is a folder like any other saved predictor. Most continue texts; two are chat
models, which a run of `lmzoo align` made, with pairs of replies to vote on. `data/predictors/README.md` says how all of
them are made.
"""

from __future__ import annotations

import importlib.resources
import os
import reprlib
from functools import cache
from pathlib import Path

from lmzoo import zoo
from lmzoo.errors import SavedModelError, UsageError
from lmzoo.system.files import describe_os_error

CHAT_MODEL = "chat"
"""Name of the chat model that replies if no other one is named."""
VOTES = Path("runs/votes/votes.jsonl")
"""File of the votes on the replies that come with lmzoo, in the folder from which lmzoo is started."""


def shipped_folder() -> Path:
    """Returns the folder of the predictors that come with lmzoo.

    It is inside the package if lmzoo is installed, else in the top folder `data`.
    """
    packaged = Path(str(importlib.resources.files("lmzoo"))) / "data" / "predictors"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "data" / "predictors"


@cache
def shipped_names() -> tuple[str, ...]:
    """Returns the names of the predictors that come with lmzoo, in order of year."""
    present = {path.parent.name for path in shipped_folder().glob("*/predictor.json")}
    return tuple(name for name in zoo.built_in_names() if name in present)


def shipped_text_models() -> tuple[str, ...]:
    """Returns the names of those predictors that have learned from plain text, in order of year."""
    return tuple(name for name in shipped_names() if zoo.card(name).learns_from == "text")


def shipped_comparisons() -> Path:
    """Returns the file with pairs of replies that come with lmzoo, for people to vote on."""
    return shipped_folder() / "gpt-3.5" / "comparisons.jsonl"


def shipped_or_path(source: str | Path) -> Path:
    """Returns the folder of the predictor named `source` that comes with lmzoo; any other `source` is a path.

    A file or folder with the name of a predictor is preferred to the predictor. Raises UsageError if `source` is
    neither a name nor a path, and SavedModelError for a path that cannot be read.
    """
    if not isinstance(source, str | os.PathLike):
        raise UsageError(f"a predictor must be a Predictor, or the path or name of one, got {reprlib.repr(source)}")
    path = Path(source)
    try:
        exists = path.exists()
    except OSError as error:  # for example, the name is too long
        raise SavedModelError(f"cannot read {describe_os_error(error, path)}") from error
    return shipped_folder() / path if str(source) in shipped_names() and not exists else path
