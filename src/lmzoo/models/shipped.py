"""The predictors that come with lmzoo: small models of every era, fitted on the King James Bible.

Each has the name of its species and is a folder like any other saved predictor. `data/predictors/README.md` says how
they are made.
"""

from __future__ import annotations

import importlib.resources
from functools import cache
from pathlib import Path

from lmzoo import zoo


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


def shipped_or_path(source: str | Path) -> Path:
    """Returns the folder of the predictor named `source` that comes with lmzoo; any other `source` is a path.

    A file or folder with the name of a predictor is preferred to the predictor.
    """
    path = Path(source)
    return shipped_folder() / path if str(source) in shipped_names() and not path.exists() else path
