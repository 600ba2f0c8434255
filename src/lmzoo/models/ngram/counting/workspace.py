"""Allocates the large arrays of a fit in memory or, if memory is short, in memory-mapped temporary files.

A mapped file is used as an array like any other. The code that fits n-gram models processes arrays block by block from
front to back, with look-ups in the shorter n-grams. After each block, the pages of mapped arrays are dropped from
memory; the system reads them again from the file, or from its cache, at their next use.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError
from lmzoo.system.files import temporary_files_error

Number = TypeVar("Number", bound=np.generic)
Piece = TypeVar("Piece")
Result = TypeVar("Result")

_BLOCK = 1 << 17
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(size: str) -> int:
    """Converts a memory size such as "500M", "1.5G" or "2000000000" to a number of bytes.

    Units are K, M, G and T (powers of 1024). Raises ConfigurationError for any other text, and for a number below 1,000
    without a unit, which was probably forgotten: bytes as few as that are written as "200B".
    """
    size = str(size).strip()
    match = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", size, re.IGNORECASE)
    if not match or (match[1] == size and float(size) < 1000):
        raise ConfigurationError(f"a memory size must be a number and a unit, such as 500M or 2G; got '{size}'")
    return int(float(match[1]) * _UNITS[match[2].upper()])


class Workspace:
    """Allocates arrays in memory or, if `on_disk` is True, in temporary files that are mapped into memory.

    A file is deleted when no array uses it any longer. `on_share` is called during `run` with the fraction of the work
    that is done.
    """

    def __init__(self, on_disk: bool = False, on_share: Callable[[float], None] = lambda share: None) -> None:
        self.on_disk = on_disk
        self._on_share = on_share
        self._maps = weakref.WeakSet[mmap.mmap]()  # a strong reference would keep the file

    def empty(self, size: int, dtype: type[Number]) -> NDArray[Number]:
        """Returns an uninitialised array of `size` elements. Raises LmzooError if the disk is full."""
        size = int(size)
        if not self.on_disk or size == 0:
            return np.empty(size, dtype)
        n_bytes = size * np.dtype(dtype).itemsize
        try:
            with tempfile.TemporaryFile(prefix="lmzoo-") as file:
                if hasattr(os, "posix_fallocate"):  # a sparse file would crash the process when the disk is full
                    os.posix_fallocate(file.fileno(), 0, n_bytes)
                else:
                    file.truncate(n_bytes)
                mapped = mmap.mmap(file.fileno(), n_bytes)
        except OSError as error:
            raise temporary_files_error(error, f"{n_bytes:,} bytes") from error
        self._maps.add(mapped)
        return np.frombuffer(mapped, dtype)

    def zeros(self, size: int, dtype: type[Number]) -> NDArray[Number]:
        """Returns an array of `size` zeros."""
        return self.empty(size, dtype) if self.on_disk else np.zeros(size, dtype)

    def run(
        self, work: Callable[[Piece], Result], pieces: Iterable[Piece], shares: tuple[float, float] = (0.0, 1.0)
    ) -> list[Result]:
        """Calls the function `work` for each item of `pieces`, in parallel threads, and returns the results in order.

        After each item, the data of arrays in temporary files are removed from memory; they remain in the files.
        If the items are a part of longer work, `shares` are the fractions of this work that are done before the first
        item and after the last one; they are needed to report progress.
        """
        from lmzoo.system.compiled import N_THREADS  # slow to import, and needed only by a fit

        def work_and_release(piece: Piece) -> Result:
            result = work(piece)
            self.release()  # in this thread: another one could lag behind, and let memory grow
            return result

        pieces, results = list(pieces), []
        before, after = shares
        with ThreadPoolExecutor(N_THREADS) as pool:
            map_pieces = pool.map if len(pieces) > 1 else map  # a single piece is often done before a thread starts
            for result in map_pieces(work_and_release, pieces):
                results.append(result)
                self._on_share(before + (after - before) * len(results) / len(pieces))
        return results

    def release(self) -> None:
        """Removes the data of arrays in temporary files from memory.

        The data remain in the files, and are read from there when they are next used.
        """
        if hasattr(mmap, "MADV_DONTNEED"):  # other systems drop pages themselves when memory is short
            for mapped in list(self._maps):
                mapped.madvise(mmap.MADV_DONTNEED)


def blocks(whole: slice, size: int = _BLOCK) -> Iterator[slice]:
    """Divides the slice `whole` into consecutive slices of `size` elements, of which the last may be shorter."""
    for start in range(whole.start, whole.stop, size):
        yield slice(start, min(start + size, whole.stop))
