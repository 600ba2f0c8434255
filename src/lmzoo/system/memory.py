"""Memory of the process."""

from __future__ import annotations

import ctypes
import sys

from lmzoo.system.messages import one_line


def return_freed_memory() -> None:
    """Gives memory that the process has freed back to the operating system.

    The C library of Linux (glibc) keeps much of the freed memory for later use: 176 MB in a test that read, encoded and
    deleted a text of 100 MB in small documents. On other systems this function does nothing.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries lack this function
        if trim is not None:
            trim(0)


def describe_memory_error(error: MemoryError) -> str:
    """Returns the message for an array or another object that does not fit into the memory, and what to do."""
    reason = one_line(error)
    return (
        f"the memory is not large enough{f' ({reason})' if reason else ''}: choose smaller settings or a smaller text"
    )
