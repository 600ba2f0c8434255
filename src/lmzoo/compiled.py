"""numba, for the loops that numpy cannot express. Slow to import: species import it with the first fit or reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import types


def read(dtype: types.Type) -> types.Type:
    """The type of a vector that a kernel only reads; memory-mapped ones cannot be written."""
    return types.Array(dtype, 1, "C", readonly=True)


def write(dtype: types.Type, ndim: int = 1) -> types.Type:
    """The type of an array that a kernel fills."""
    return types.Array(dtype, ndim, "C")


def kernel(*arguments: types.Type, returns: types.Type = types.void) -> Callable[[Callable[..., Any]], Any]:
    """Compiles a function for exactly these types, and keeps the machine code on disk where there is a place for it.

    It runs without the interpreter's lock, so that threads may share work among the cores.
    """

    def compile_kernel(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(returns(*arguments), cache=True, nogil=True)(function)
        except RuntimeError:  # numba found no folder that it may write to
            return numba.njit(returns(*arguments), nogil=True)(function)

    return compile_kernel
