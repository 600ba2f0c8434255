"""Where the large arrays of a fit lie: in memory or, if there are more n-grams than fit, in files on disk.

A file is mapped, so that all code sees an array either way. The arrays are worked on block by block from front to back,
with look-ups in the shorter n-grams; after every block the pages of the mapped ones leave memory, to come back from the
file, or from the system's cache of it, when they are looked at again.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError, LmzooError

Number = TypeVar("Number", bound=np.generic)
Piece = TypeVar("Piece")

_BLOCK = 1 << 17
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(size: str) -> int:
    """The bytes that "500M", "1.5G" or "2000000000" stand for; ConfigurationError for anything else."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", str(size).strip(), re.IGNORECASE)
    if not match:
        raise ConfigurationError(f"a size in memory is a number and a unit, as in 500M or 2G; got '{size}'")
    return int(float(match[1]) * _UNITS[match[2].upper()])


class Workspace:
    """Makes arrays in memory or, with `on_disk`, in temporary files, which go when the last array on them goes."""

    def __init__(self, on_disk: bool = False) -> None:
        self.on_disk = on_disk
        self._maps: list[mmap.mmap] = []

    def empty(self, size: int, dtype: type[Number]) -> NDArray[Number]:
        """An array whose content does not matter yet. LmzooError if the disk is full."""
        size = int(size)
        if not self.on_disk or size == 0:
            return np.empty(size, dtype)
        n_bytes = size * np.dtype(dtype).itemsize
        try:
            with tempfile.TemporaryFile(prefix="lmzoo-") as file:
                if hasattr(os, "posix_fallocate"):  # a file with holes would crash us when the disk gets full
                    os.posix_fallocate(file.fileno(), 0, n_bytes)
                else:
                    file.truncate(n_bytes)
                mapped = mmap.mmap(file.fileno(), n_bytes)
        except OSError as error:
            raise LmzooError(
                f"no room for {n_bytes:,} bytes in {tempfile.gettempdir()}: {error.strerror}; "
                "free some space, or name a folder on a larger disk in the environment variable TMPDIR"
            ) from error
        self._maps.append(mapped)
        return np.frombuffer(mapped, dtype)

    def zeros(self, size: int, dtype: type[Number]) -> NDArray[Number]:
        """An array of zeros."""
        return self.empty(size, dtype) if self.on_disk else np.zeros(size, dtype)

    def run(self, work: Callable[[Piece], object], pieces: Iterable[Piece]) -> None:
        """Does the work on every piece, on all cores that kernels may use; releases what each piece touched."""
        from lmzoo.system.compiled import N_THREADS  # slow to import: when something is fitted, not before

        with ThreadPoolExecutor(N_THREADS) as pool:
            for _ in pool.map(work, pieces):
                self.release()

    def release(self) -> None:
        """Lets the pages of mapped arrays leave memory; their content stays in the files."""
        if hasattr(mmap, "MADV_DONTNEED"):  # elsewhere the system takes the pages when memory is short
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)


def blocks(places: slice, size: int = _BLOCK) -> Iterator[slice]:
    """Cuts a range into blocks to work on."""
    for start in range(places.start, places.stop, size):
        yield slice(start, min(start + size, places.stop))
