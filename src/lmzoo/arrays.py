"""Reading and writing of named arrays in safetensors files, atomically and with memory maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save_file

from lmzoo.errors import SavedModelError
from lmzoo.system.files import atomic_file
from lmzoo.system.json_files import parse_json

Arrays = Mapping[str, NDArray[Any]]

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip


def save_arrays(
    path: str | Path,
    arrays: Arrays,
    facts: Mapping[str, Any] | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes named arrays to a safetensors file, atomically: after an error, no incomplete file is left.

    `facts` is a JSON object stored with the arrays. `metadata` holds further texts for other programs that read the
    file.
    """
    described = {**(metadata or {}), **({"facts": json.dumps(facts, sort_keys=True)} if facts is not None else {})}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_file(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata=described or None)
        except safetensors.SafetensorError as error:
            raise OSError(f"{error}") from error


def load_arrays(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Loads the named arrays of a safetensors file and the JSON object that was stored with them.

    The arrays are read-only memory maps. Raises SavedModelError if the file is missing, truncated or of another format.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise SavedModelError(f"{path} is missing: the folder is incomplete or was not saved by lmzoo")
        with safetensors.safe_open(path, framework="numpy") as opened:  # validates sizes, offsets and types
            facts = parse_json((opened.metadata() or {}).get("facts", "{}"))
        if not isinstance(facts, dict):
            raise ValueError("its 'facts' are not a JSON object")
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(header_size))
        header.pop("__metadata__", None)
        # safetensors' own numpy reader copies every array, so the validated offsets are mapped here instead.
        whole = np.memmap(path, np.uint8, "r", offset=0) if header else np.empty(0, np.uint8)
        arrays = {}
        for name, entry in header.items():
            start, end = (8 + header_size + offset for offset in entry["data_offsets"])
            arrays[name] = whole[start:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise SavedModelError(f"{path} is damaged or not a safetensors file: {error}") from error
    return arrays, facts


def check_numbers(arrays: Arrays) -> None:
    """Raises SavedModelError if an array of a saved model holds NaN or +inf.

    Logarithms of probabilities may be -inf. The check reads each array once.
    """
    for name, array in arrays.items():
        if array.size and np.issubdtype(array.dtype, np.floating) and not array.max() < np.inf:
            raise SavedModelError(f"the saved array '{name}' holds NaN or infinity: it is damaged")


def take_array(
    arrays: Arrays, name: str, *, shape: tuple[int | None, ...], dtype: type[np.generic] | None = None
) -> NDArray[Any]:
    """Returns the array `name` of a saved model after checking its shape and type.

    In `shape`, None stands for any size. Raises SavedModelError if the array is missing or does not match.
    """
    if name not in arrays:
        raise SavedModelError(f"the saved model lacks the array '{name}'; it has {', '.join(sorted(arrays)) or 'none'}")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or (dtype is not None and array.dtype != dtype):
        wanted = f"{'x'.join('?' if size is None else str(size) for size in shape)} {np.dtype(dtype) if dtype else ''}"
        raise SavedModelError(f"the saved array '{name}' is {array.shape} {array.dtype}, but the model needs {wanted}")
    return array
