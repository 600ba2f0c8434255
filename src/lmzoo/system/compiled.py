"""numba, for the loops that numpy cannot express. Slow to import: species import it with the first fit or reading."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Numba makes so many objects, all to stay, that searching them for garbage would take a good part of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


with _no_garbage_collection():
    import numba
    from numba import types
    from numba.core import config

# When the process ends, Python would search all of it once more, for a third of a second.
atexit.register(gc.freeze)

N_THREADS: int = vars(config)["NUMBA_NUM_THREADS"]
"""How many threads may run kernels side by side: as many as there are cores, or as NUMBA_NUM_THREADS says.

`numba.get_num_threads` says the same but starts threads of numba's own, which then also decides how many torch has.
"""

Function = Callable[..., Any]
Types = Sequence[types.Type]


def read(dtype: types.Type, ndim: int = 1) -> types.Type:
    """The type of an array that a kernel only reads; memory-mapped ones cannot be written."""
    return types.Array(dtype, ndim, "C", readonly=True)


def write(dtype: types.Type, ndim: int = 1) -> types.Type:
    """The type of an array that a kernel fills."""
    return types.Array(dtype, ndim, "C")


def kernel(
    *arguments: types.Type | Types, returns: types.Type = types.void, reassociate: bool = False
) -> Callable[[Function], Any]:
    """Compiles a function for exactly these types, and keeps the machine code on disk where there is a place for it.

    Several sequences of types make a kernel that takes each. It runs without the interpreter's lock, so that threads
    may share work among the cores. With `reassociate` sums may be taken in another order, so that the processor forms
    many parts of a sum at once.
    """
    fastmath: Any = {"reassoc", "contract"} if reassociate else False
    choices: Any = [arguments] if isinstance(arguments[0], types.Type) else arguments
    signatures = [returns(*choice) for choice in choices]

    def compile_kernel(function: Function) -> Any:
        with _no_garbage_collection():
            try:
                return numba.njit(signatures, cache=True, nogil=True, fastmath=fastmath)(function)
            except RuntimeError:  # numba found no folder that it may write to
                return numba.njit(signatures, nogil=True, fastmath=fastmath)(function)

    return compile_kernel
