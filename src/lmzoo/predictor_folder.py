"""Folders and names of saved predictors, and the description that each folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmzoo.errors import SavedModelError, UsageError, did_you_mean
from lmzoo.models.gguf_file import check_magic
from lmzoo.models.pretrained_names import PACKAGES, installed_file
from lmzoo.models.shipped import shipped_names, shipped_or_path
from lmzoo.provenance import Provenance
from lmzoo.system.files import atomic_folder, writing
from lmzoo.system.json_files import parse_as, parse_json, read_text
from lmzoo.system.printable import name_text
from lmzoo.training_history import HISTORY

FORMAT_VERSION = 1
SAMPLE = "training_sample.safetensors"
_FILES = {"predictor.json", "tokenizer.json", "arrays.safetensors", "README.md", SAMPLE, HISTORY}
"""Names of the files of a saved predictor. Other files in its folder are the user's."""


def find_predictor(source: str | Path) -> Path:
    """Returns the path of a predictor: a folder that `Predictor.load` can open, or a GGUF file.

    `source` is such a path, the name of a predictor that comes with lmzoo, or the name of a pretrained model that is
    installed as a package. Raises SavedModelError if there is no predictor, and MissingExtraError if the package of a
    named model is not installed.
    """
    path = installed_file(shipped_or_path(source))
    if path.is_file() or (path.suffix == ".gguf" and not path.is_dir()):
        check_magic(path)
    elif (path / "predictors").is_dir():
        raise SavedModelError(f"{path} is a run folder: choose one of the predictors in {path / 'predictors'}")
    elif not any((path / name).is_file() for name in ("predictor.json", "config.json")):
        names = [] if path.exists() else [*shipped_names(), *PACKAGES]
        train = "" if path.exists() else f"train one with lmzoo fit SPECIES --out {path}, or "
        advice = did_you_mean(str(source), names) or (
            f"{train}name the folder of a predictor, a GGUF file, a predictor that comes with "
            f"lmzoo ({', '.join(shipped_names())}), or an installed model ({', '.join(PACKAGES)})"
        )
        raise SavedModelError(f"no saved predictor in {path}: {advice}")
    return path


def default_name(source: str | Path) -> str:
    """Returns the name of a predictor in tables: the name of its folder or file, or of the installed model."""
    path = Path(source)
    if path.is_file():
        return name_text(path.resolve().stem)
    return name_text(path.resolve().name if path.is_dir() else source)


def check_folder(folder: str | Path) -> Path:
    """Returns the path of a folder to save in; raises UsageError unless the folder is new, empty, or a saved predictor.

    The current folder, the folders that contain it, and mount points are refused as well, because they cannot be
    replaced. Raises LmzooError for a path that the file system refuses, for example because the name is too long.
    """
    folder = Path(folder)
    if "\0" in str(folder):
        raise UsageError(f"{name_text(folder)} has a NUL character, which no folder can have: choose another name")
    with writing(folder):
        _check_content(folder)
    return folder


def _check_content(folder: Path) -> None:
    if folder.name in ("", "..") or folder.is_mount() or Path.cwd().is_relative_to(folder.resolve()):
        raise UsageError(f"{folder} cannot be replaced by a saved predictor: name a folder inside it")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, but a predictor is saved in a folder: choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "predictor.json").exists():
        raise UsageError(f"{folder} holds other files and no saved predictor: choose an empty or a new folder")


def new_files(folder: str | Path) -> AbstractContextManager[Path]:
    """Yields a temporary folder for the files of a predictor, which get their place in `folder` after the `with` block.

    They replace the files of an earlier predictor, all at once, and all other files in the folder stay. Raises
    UsageError for a folder that `check_folder` refuses.
    """
    return atomic_folder(check_folder(folder), replaced=_FILES)


def plain_values(value: Any) -> Any:
    """Returns a value with all numbers of NumPy as those of Python, which JSON can hold.

    Numbers within lists, tuples and mappings are converted, too.
    """
    if isinstance(value, Mapping):
        return {name: plain_values(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain_values, value))
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Description:
    """The content of `predictor.json`, except for the version of the format."""

    species: str
    settings: dict[str, Any]
    vocab_size: int
    tokenizer_fingerprint: str
    provenance: Provenance
    label: str = ""
    tokenizer: str = ""


def read_description(path: Path) -> Description:
    """Reads `predictor.json`; raises SavedModelError if the file is damaged or of another version."""
    text = read_text(path, "a description of a predictor")
    try:
        values = parse_json(text)
        if not isinstance(values, dict) or "format_version" not in values:
            raise ValueError("it must be an object with the field 'format_version'")
        if (version := values["format_version"]) != FORMAT_VERSION:
            raise SavedModelError(
                f"{path} has format {version!r}, but this lmzoo reads only format {FORMAT_VERSION}: update lmzoo"
            )
        return parse_as(Description, text)
    except ValueError as error:
        raise SavedModelError(f"{path} is damaged: {error}") from error


def training_fingerprint(folder: str | Path) -> str | None:
    """Returns the hash of the corpus on which a saved predictor was trained; None if it is unknown or unreadable.

    `folder` is the folder of the predictor, or the name of one that comes with lmzoo.
    """
    try:
        return read_description(shipped_or_path(folder) / "predictor.json").provenance.corpus_fingerprint
    except SavedModelError:
        return None
