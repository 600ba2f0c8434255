"""Memory-mapped arrays: reading them block by block, without keeping in memory what has been read."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)

_BLOCK = 1 << 22


def drop_pages(array: NDArray[Any]) -> None:
    """Drops the pages of a memory-mapped array from memory; they are read from its file again when they are used.

    Other arrays are not changed. The map must be shared with its file: a private copy would lose what was written to
    it. See `drop_read_only_pages` for arrays of unknown origin.
    """
    if (mapped := _map_of(array)) is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def drop_read_only_pages(array: NDArray[Any]) -> None:
    """Drops the pages of an array from memory, as `drop_pages` does, if it is a read-only memory map.

    Other arrays are not changed, so that no data are lost if the array is a private copy of a file (mode "c" of
    `numpy.memmap`), which cannot be told apart from a writable map that is shared with its file.
    """
    if (mapped := _map_of(array)) is not None and memoryview(mapped).readonly:
        drop_pages(array)


def blocks_of(array: NDArray[Number]) -> Iterator[tuple[int, NDArray[Number]]]:
    """Yields consecutive blocks (B,) of an array, each with the index of its first element.

    A block has four million elements; the last one may have fewer. If the array is a read-only memory map of several
    blocks, its pages are dropped from memory after each block.
    """
    for start in range(0, array.size, _BLOCK):
        yield start, array[start : start + _BLOCK]
        if array.size > _BLOCK:
            drop_read_only_pages(array)


def ranges(stop: int) -> Iterator[NDArray[np.int64]]:
    """Yields the numbers from 0 to `stop` - 1 in order, in arrays of four million; the last one may have fewer."""
    for start in range(0, stop, _BLOCK):
        yield np.arange(start, min(start + _BLOCK, stop))


def _map_of(array: NDArray[Any]) -> mmap.mmap | None:
    """Returns the memory map that holds the data of an array; None if there is none."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return owner if isinstance(owner, mmap.mmap) else None
