"""Folders and names of saved predictors."""

from __future__ import annotations

from pathlib import Path

from lmzoo.errors import UsageError
from lmzoo.system.printable import name_text


def default_name(source: str | Path) -> str:
    """Returns the name of a predictor in tables: the name of its folder or file, or of the installed model."""
    path = Path(source)
    if path.is_file():
        return name_text(path.resolve().stem)
    return name_text(path.resolve().name if path.is_dir() else source)


def check_folder(folder: str | Path) -> Path:
    """Returns the path of a folder to save in; raises UsageError unless the folder is new, empty, or a saved predictor.

    The current folder and mount points are refused as well, because they cannot be replaced.
    """
    folder = Path(folder)
    if folder.name in ("", "..") or folder.is_mount() or folder.absolute() == Path.cwd():
        raise UsageError(f"{folder} cannot be replaced by a saved predictor: name a folder inside it")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "predictor.json").exists()):
        raise UsageError(f"{folder} holds other files, which would be replaced: choose an empty or a new folder")
    return folder
