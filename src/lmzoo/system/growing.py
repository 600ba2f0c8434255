"""Arrays that grow at their end: in memory while they are short, and in a temporary file when they are long."""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Final, Generic, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.system.files import temporary_files_error

Number = TypeVar("Number", bound=np.generic)

MEMORY_BYTES: Final = 1 << 26
"""An array of at least this many bytes is kept in a temporary file."""


@final
class GrowingArray(Generic[Number]):
    """An array (N,) of unknown size N, which is filled from its start to its end.

    It is kept in memory until it has 64 MiB, and in a temporary file from then on, so that it can be larger than the
    memory. The file has no name and is deleted when the array is no longer used, even if the process is killed.
    """

    def __init__(self, dtype: type[Number]) -> None:
        self.dtype = np.dtype(dtype)
        self._memory = bytearray()  # what is not in the file; it grows in place, so that no part is in memory twice
        self._file: IO[bytes] | None = None

    def extend(self, values: ArrayLike) -> None:
        """Appends the elements of an array or a sequence. Raises LmzooError if the disk is full."""
        self._memory += np.ascontiguousarray(values, self.dtype).reshape(-1).view(np.uint8).data
        if len(self._memory) >= MEMORY_BYTES:
            self._write()

    def finish(self) -> NDArray[Number]:
        """Returns the whole array, which can then grow no further. If it is in a file, it is a read-only memory map.

        Raises LmzooError if the disk is full.
        """
        if self._file is None:
            return np.frombuffer(self._memory, self.dtype)
        self._write()
        try:
            with self._file as file:
                return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), self.dtype)
        except OSError as error:
            raise temporary_files_error(error, "a long text") from error

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="lmzoo-")  # noqa: SIM115 (it outlives this method)
                weakref.finalize(self, _close, self._file)
            self._file.write(self._memory)
            self._file.flush()
        except OSError as error:
            raise temporary_files_error(error, "a long text") from error
        self._memory.clear()


def concatenated(parts: Iterable[ArrayLike], dtype: type[Number]) -> NDArray[Number]:
    """Returns the elements of several arrays or sequences as one array, which is in a temporary file if it is long.

    Only one of the parts at a time needs to be in memory. Raises LmzooError if the disk is full.
    """
    whole = GrowingArray(dtype)
    for part in parts:
        whole.extend(part)
    return whole.finish()


def _close(file: IO[bytes]) -> None:
    """Closes the file of an array that is no longer used, whether or not the rest of its data can be written."""
    with suppress(OSError):
        file.close()
