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

    Other arrays are not changed. The map must be shared with its file, not a private copy.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def blocks_of(array: NDArray[Number]) -> Iterator[tuple[int, NDArray[Number]]]:
    """Yields consecutive blocks (B,) of an array, each with the index of its first element.

    A block has four million elements; the last one may have fewer. If the array is memory-mapped, its pages are dropped
    from memory after each block.
    """
    for start in range(0, array.size, _BLOCK):
        yield start, array[start : start + _BLOCK]
        drop_pages(array)
