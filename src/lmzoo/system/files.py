"""Atomic writes: a file or folder is replaced completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmzoo.errors import LmzooError


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yields the path of a temporary file, which replaces the file `path` at the end of the `with` block.

    The temporary file is in the same folder. After an error it is deleted, and `path` is unchanged.
    """
    path = Path(path)
    with _writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(descriptor)
    temporary = Path(name)
    try:
        with _writable(path):
            yield temporary
            # mkstemp creates private files; the final file has the permissions of the user's umask.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields the path of a temporary folder, which replaces the folder `path` at the end of the `with` block.

    The old content of `path` is deleted. After an error the temporary folder is deleted, and `path` is unchanged.
    """
    path = Path(path)
    with _writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        with _writable(path):
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                # Two renames, because there is no portable way to swap folders; a few microseconds lie between them.
                old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
                path.replace(old / "old")
                temporary.replace(path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Converts OSError inside the `with` block, such as a full disk or a read-only folder, to LmzooError."""
    try:
        yield
    except OSError as error:
        raise LmzooError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another place"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
