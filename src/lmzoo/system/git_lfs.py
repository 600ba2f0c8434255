"""Pointers of Git LFS: short texts that stand for large files of a repository which have not been downloaded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lmzoo.errors import LmzooError

POINTER = b"version https://git-lfs.github.com/spec/"
"""First bytes of a pointer."""
ADVICE = "download it with `git lfs pull`"


def check_no_pointer(path: Path, error: type[LmzooError]) -> None:
    """Raises the exception class `error` if a file is a pointer of Git LFS.

    A file that cannot be read is not refused: whoever reads it reports the error.
    """
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise error(f"{path} is a pointer of Git LFS, not the file itself: {ADVICE}")
