"""Compiles loops that numpy cannot express, with numba.

This module is slow to import, so models import it when they are first fitted or used.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import linecache
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from lmzoo.system.files import private_folder
from lmzoo.system.garbage import no_garbage_collection

with no_garbage_collection():
    import numba
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils, config
    from numba.extending import intrinsic

# Otherwise Python would search all objects for garbage when the process ends, which takes a third of a second.
atexit.register(gc.freeze)

N_THREADS: int = vars(config)["NUMBA_NUM_THREADS"]
"""Number of threads that run kernels in parallel: the environment variable NUMBA_NUM_THREADS, or the number of cores.

`numba.get_num_threads` returns the same number, but starts numba's own threads, which changes torch's thread count.
"""

_intrinsic: Any = intrinsic
"""Numba's decorator for functions that generate machine code; callers leave out their argument `typing_context`."""
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

    `arguments` are the numba types of the arguments of the function. To compile the function for several combinations
    of types, give a sequence of types for each of them. `returns` is the numba type of the result. If `reassociate` is
    True, sums may be computed in a different order, which allows vector instructions. The machine code is cached on
    disk: beside the source, in the cache folder of the user, or else in a private temporary folder. It is compiled
    again if the source of the function has changed, or a constant or another kernel that it uses. The compiled function
    runs without the interpreter lock, so that several threads can run it in parallel. Kernels that call it contain a
    copy of its machine code, because a call that passes tuples of arrays takes longer than most kernels.
    """
    fastmath: Any = {"reassoc", "contract"} if reassociate else False
    options: Any = {"nogil": True, "forceinline": True, "fastmath": fastmath}
    choices: Any = [arguments] if isinstance(arguments[0], types.Type) else arguments
    signatures = [returns(*choice) for choice in choices]

    def compile_kernel(function: Function) -> Any:
        with no_garbage_collection():
            for has_cache in (lambda: True, _cache_elsewhere):
                # RuntimeError: there is no writable folder for the cache; OSError: the disk is full.
                with suppress(RuntimeError, OSError):
                    if has_cache():
                        return _compiled_or_cached(numba.njit(cache=True, **options)(function), signatures)
            return numba.njit(signatures, **options)(function)

    return compile_kernel


def _compiled_or_cached(dispatcher: Any, signatures: Sequence[Any]) -> Any:
    """Compiles a function for some signatures, or loads its machine code from the cache, and returns the dispatcher.

    `dispatcher` is the result of numba's decorator. Numba compares cached code with the source file of the function
    only. The code also contains what the function uses from other files, so that their hash is added to the comparison.
    """
    if hasattr(dispatcher, "compile"):  # otherwise the environment variable NUMBA_DISABLE_JIT is set
        with suppress(AttributeError):  # private attributes, which another version of numba may name differently
            index = dispatcher._cache._cache_file
            index._source_stamp = index._source_stamp, _hash_of(dispatcher.py_func)
        for signature in signatures:
            dispatcher.compile(signature)
        dispatcher.disable_compile()
    return dispatcher


@cache
def _hash_of(function: Function) -> str:
    """Returns a hash of all that determines the machine code of a function.

    This is the text of this module and of the module of the function, the numbers and arrays that are global variables
    of the function, and everything that determines the code of the kernels that it calls.
    """
    parts = [*linecache.getlines(__file__), *linecache.getlines(function.__code__.co_filename)]
    for name in function.__code__.co_names:
        value: Any = function.__globals__.get(name)
        if hasattr(value, "py_func"):
            parts.append(_hash_of(value.py_func))
        elif isinstance(value, np.ndarray):
            parts.append(f"{name} = {value.dtype} {value.shape} {value.tobytes().hex()}")
        elif isinstance(value, bool | int | float | str | tuple | np.generic):
            parts.append(f"{name} = {value!r}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@_intrinsic
def borrowed(typing_context: Any, value: types.Type) -> Any:
    """Returns the same array, or tuple of arrays and tuples, without the reference counts of numba.

    Only compiled code can call this function. Numba counts the references to an array whenever the array is taken from
    a tuple or a view of it is made, by atomic operations that take longer than short loops. The result must not be used
    after the compiled function has returned.
    """

    def strip(context: Any, builder: Any, numba_type: Any, given: Any) -> Any:
        if isinstance(numba_type, types.Array):
            array = context.make_array(numba_type)(context, builder, given)
            for owner in ("meminfo", "parent"):
                setattr(array, owner, cgutils.get_null_value(getattr(array, owner).type))
            return array._getvalue()
        for index, part_type in enumerate(numba_type):
            part = strip(context, builder, part_type, builder.extract_value(given, index))
            given = builder.insert_value(given, part, index)
        return given

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return strip(context, builder, signature.args[0], arguments[0])

    return value(value), generate


@_intrinsic
def prefetch(typing_context: Any, table: types.Type, row: types.Type) -> Any:
    """Makes the processor load a row of a table (N,) or (N, K) into its cache while it continues with other work.

    Only compiled code can call this function.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type = signature.args[0]
        array = context.make_array(array_type)(context, builder, arguments[0])
        indices = [arguments[1], *[context.get_constant(types.intp, 0)] * (array_type.ndim - 1)]
        item = cgutils.get_item_pointer(context, builder, array_type, array, indices)
        address = builder.bitcast(item, cgutils.voidptr_t)
        flags = [context.get_constant(types.int32, flag) for flag in (0, 3, 1)]  # to read; to be kept; data
        form = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, *(cgutils.int32_t,) * 3])
        builder.call(builder.module.declare_intrinsic("llvm.prefetch", [cgutils.voidptr_t], form), [address, *flags])
        return context.get_dummy_value()

    return types.void(table, types.intp), generate


@_intrinsic
def bit_length(typing_context: Any, number: types.Type) -> Any:
    """Returns the number of binary digits of a whole number that is at least 0, as `int.bit_length` does.

    Only compiled code can call this function, which is one instruction of the processor.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        n_zeros = builder.ctlz(arguments[0], cgutils.false_bit)
        return builder.sub(n_zeros.type(n_zeros.type.width), n_zeros)

    return types.int64(types.int64), generate


@cache
def _cache_elsewhere() -> bool:
    """Makes numba cache machine code in the temporary folder of this user; returns False if that is not possible.

    It is called if neither the folder of the program nor the user's cache folder can be written. Warns if nothing can
    be cached, or if the temporary folder is new.
    """
    where = "neither beside the program nor in the home folder; set NUMBA_CACHE_DIR to a folder of your own"
    folder, is_new = private_folder()
    if folder is None:
        warnings.warn(
            f"compiled code cannot be cached, so each start takes longer: it can be saved {where}", stacklevel=2
        )
        return False
    config.__dict__["CACHE_DIR"] = str(folder)  # a module without declared names
    if is_new:
        warnings.warn(f"compiled code is cached in {folder}, because it can be saved {where}", stacklevel=2)
    return True
