"""Compilation by numba of loops that numpy cannot express.

This module is slow to import, so models import it when they are first fitted or used.
"""

from __future__ import annotations

import atexit
import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from lmzoo.system.files import private_folder


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Turns off garbage collection inside the `with` block.

    Numba creates very many objects that are never freed; searching them for garbage would slow its import.
    """
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

# At the end of the process, Python would search all objects once more, which takes a third of a second.
atexit.register(gc.freeze)

N_THREADS: int = vars(config)["NUMBA_NUM_THREADS"]
"""Number of threads that run kernels in parallel: the environment variable NUMBA_NUM_THREADS, or the number of cores.

`numba.get_num_threads` returns the same number, but starts numba's own threads, which changes torch's thread count.
"""

Function = Callable[..., Any]
Types = Sequence[types.Type]


def read_only(dtype: types.Type, ndim: int = 1) -> types.Type:
    """Returns the numba type of an array argument that a compiled function only reads.

    The function then also accepts arrays that cannot be written, such as read-only memory-mapped arrays.
    """
    return types.Array(dtype, ndim, "C", readonly=True)


def writable(dtype: types.Type, ndim: int = 1) -> types.Type:
    """Returns the numba type of an array argument to which a compiled function may write."""
    return types.Array(dtype, ndim, "C")


def kernel(
    *arguments: types.Type | Types, returns: types.Type = types.void, reassociate: bool = False
) -> Callable[[Function], Any]:
    """Returns a decorator that compiles a function with numba.

    The positional arguments, `arguments`, are the numba types of the arguments of the function, or several sequences of
    such types, each of which the compiled function then accepts. The keyword arguments are the numba type of the
    result, `returns`, and `reassociate`: if it is True, sums may be computed in a different order, which allows vector
    instructions. The machine code is cached on disk: beside the source, in the cache folder of the user, or else in a
    private temporary folder. The compiled function runs without the interpreter lock, so that several threads can run
    it in parallel.
    """
    fastmath: Any = {"reassoc", "contract"} if reassociate else False
    choices: Any = [arguments] if isinstance(arguments[0], types.Type) else arguments
    signatures = [returns(*choice) for choice in choices]

    def compile_kernel(function: Function) -> Any:
        with _no_garbage_collection():
            for has_cache in (lambda: True, _cache_elsewhere):
                # RuntimeError: there is no writable folder for the cache; OSError: the disk is full.
                with suppress(RuntimeError, OSError):
                    if has_cache():
                        return numba.njit(signatures, cache=True, nogil=True, fastmath=fastmath)(function)
            return numba.njit(signatures, nogil=True, fastmath=fastmath)(function)

    return compile_kernel


@cache
def _cache_elsewhere() -> bool:
    """Makes numba cache machine code in the temporary folder of this user; returns False if that is not possible.

    It is called if neither the folder of the program nor the user's cache folder can be written. Warns if nothing can
    be cached, or if the temporary folder is new.
    """
    where = "neither beside the program nor in the home folder; set NUMBA_CACHE_DIR to a folder of your own"
    folder, is_new = private_folder()
    if folder is None:
        warnings.warn(f"compiled code cannot be kept, so that each start takes longer: {where}", stacklevel=2)
        return False
    config.__dict__["CACHE_DIR"] = str(folder)  # a module without declared names
    if is_new:
        warnings.warn(f"compiled code is kept in {folder}, because it can be kept {where}", stacklevel=2)
    return True
