"""Reading and writing of named arrays in safetensors files, atomically and with memory maps.

A file can be made small without a loss: `save_arrays(.., narrow=True)` stores each array in the smallest type that
represents all its values, or as one-byte codes and a table if it has at most 256 different values. `load_arrays`
returns the arrays in their own types.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from lmzoo.errors import SavedModelError
from lmzoo.mapped import blocks_of, drop_pages
from lmzoo.system.files import atomic_file
from lmzoo.system.git_lfs import check_no_pointer
from lmzoo.system.json_files import parse_json

Arrays = Mapping[str, NDArray[Any]]

# In the order in which the arrays of a file are sorted, so that wide numbers are aligned in memory maps.
_DTYPES = {
    "U64": "<u8", "I64": "<i8", "F64": "<f8", "F32": "<f4", "U32": "<u4", "I32": "<i4",
    "F16": "<f2", "U16": "<u2", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_RANKS = {dtype: rank for rank, dtype in enumerate(_NAMES)}
_BLOCK = 1 << 24
_N_CODES = 256
_TABLE = ".values"
"""Suffix of the name of an array that holds the different values of another one, which is stored as codes."""


def save_arrays(
    path: str | Path,
    arrays: Arrays,
    facts: Mapping[str, Any] | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
    narrow: bool = False,
) -> None:
    """Writes named arrays to a safetensors file, atomically: after an error, no incomplete file is left.

    `facts` is a JSON object stored with the arrays. `metadata` holds further texts for other programs that read the
    file. Memory-mapped arrays are written block by block and never are in memory as a whole. With `narrow`, each array
    is stored in the smallest form that keeps all its values; it cannot be mapped to memory when it is loaded.
    """
    little = {name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for name, array in arrays.items()}
    types = {name: _NAMES[array.dtype] for name, array in little.items()}
    if narrow:
        little = {part: values for name, array in little.items() for part, values in _narrowed(name, array).items()}
    ordered = sorted(little.items(), key=lambda item: (_RANKS[item[1].dtype], item[0]))
    header: dict[str, Any] = {}
    described = {"facts": facts} if facts is not None else {}
    described |= {"types": types} if narrow else {}
    if metadata or described:
        texts = {name: json.dumps(value, sort_keys=True) for name, value in described.items()}
        header["__metadata__"] = {**(metadata or {}), **texts}
    end = 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            content = array.reshape(-1).view(np.uint8)
            for start in range(0, content.size, _BLOCK):
                file.write(content[start : start + _BLOCK].data)
                drop_pages(array)


def load_arrays(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Loads the named arrays of a safetensors file and the JSON object that was stored with them.

    The arrays are read-only memory maps, unless they were stored in a smaller form. Raises SavedModelError if the file
    is missing, truncated or of another format.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise SavedModelError(f"{path} is missing: the folder is incomplete or was not saved by lmzoo")
        check_no_pointer(path, SavedModelError)
        with safetensors.safe_open(path, framework="numpy") as opened:  # validates sizes, offsets and types
            described = opened.metadata() or {}
        facts, types = (parse_json(described.get(name, "{}")) for name in ("facts", "types"))
        if not isinstance(facts, dict) or not isinstance(types, dict):
            raise ValueError("its 'facts' or 'types' are not a JSON object")
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(header_size))
        header.pop("__metadata__", None)
        # safetensors' own numpy reader copies every array, so the validated offsets are mapped here instead.
        # A view as a plain array makes the slices cheaper.
        whole = np.memmap(path, np.uint8, "r", offset=0).view(np.ndarray) if header else np.empty(0, np.uint8)
        arrays = {}
        for name, entry in header.items():
            start, end = (8 + header_size + offset for offset in entry["data_offsets"])
            arrays[name] = whole[start:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if types:
            arrays = {name: _widened(arrays, name, _DTYPES[dtype]) for name, dtype in types.items()}
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, IndexError) as error:
        raise SavedModelError(f"{path} is damaged or not a safetensors file: {error}") from error
    return arrays, facts


def _narrowed(name: str, array: NDArray[Any]) -> Arrays:
    """Returns an array in the smallest form that keeps all its values, under the names with which it is stored.

    This is the array in a smaller type, or its one-byte codes and the table of the values that they denote.
    """
    for dtype in sorted(map(np.dtype, _DTYPES.values()), key=lambda dtype: dtype.itemsize):
        if dtype.itemsize < array.itemsize and dtype.kind != "b":
            with np.errstate(invalid="ignore", over="ignore"):
                narrow = array.astype(dtype)
                kept = np.array_equal(narrow.astype(array.dtype), array)
            if kept:
                array = narrow
                break
    if array.itemsize > 1 and array.size > _N_CODES:
        values, codes = np.unique(array, return_inverse=True)
        if values.size <= _N_CODES:
            return {name: codes.astype(np.uint8).reshape(array.shape), name + _TABLE: values}
    return {name: array}


def _widened(arrays: Arrays, name: str, dtype: str) -> NDArray[Any]:
    """Returns an array in the type `dtype`, from the smaller form in which it was stored."""
    array, table = arrays[name], arrays.get(name + _TABLE)
    return (array if table is None else table[array]).astype(dtype)


def check_numbers(arrays: Arrays) -> None:
    """Raises SavedModelError if an array of a saved model holds NaN or +inf.

    Logarithms of probabilities may be -inf. The check reads each array once.
    """
    for name, array in arrays.items():
        is_real = np.issubdtype(array.dtype, np.floating)
        if is_real and not all(block.max() < np.inf for _, block in blocks_of(array.reshape(-1))):
            raise SavedModelError(f"the saved array '{name}' holds NaN or infinity: it is damaged")


def take_array(
    arrays: Arrays, name: str, *, shape: tuple[int | None, ...], dtype: type[np.generic] | None = None
) -> NDArray[Any]:
    """Returns the array `name` of a saved model, of the given shape such as (V, D), after checking shape and type.

    `arrays` are all arrays of the model by name. In `shape`, None stands for any size; `dtype` None allows any type.
    Raises SavedModelError if the array is missing or does not match.
    """
    if name not in arrays:
        raise SavedModelError(f"the saved model lacks the array '{name}'; it has {', '.join(sorted(arrays)) or 'none'}")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or (dtype is not None and array.dtype != dtype):
        wanted = f"{'x'.join('?' if size is None else str(size) for size in shape)} {np.dtype(dtype) if dtype else ''}"
        raise SavedModelError(f"the saved array '{name}' is {array.shape} {array.dtype}, but the model needs {wanted}")
    return array
