"""The header of a GGUF file, in which llama.cpp and many others publish pretrained models.

A GGUF file begins with the magic number "GGUF", a version, and the numbers of tensors and of metadata entries. Each
entry is a name, a type and a value; each tensor is described by its name, shape, type and offset. The data of the
tensors follow (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

The header is checked before other libraries read the file, because they trust its sizes.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmzoo.errors import SavedModelError
from lmzoo.system.git_lfs import check_no_pointer

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Formats of the metadata types with a fixed size, as the module `struct` names them."""
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class TensorEntry:
    """The description of one tensor in a GGUF file."""

    shape: tuple[int, ...]
    """Sizes of the dimensions; the values along the first dimension are adjacent in the file."""
    kind: int
    """Number of the GGML type, such as 0 for float32."""
    offset: int
    """Position of the data, in bytes after the header."""


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file: its metadata and the descriptions of its tensors."""

    metadata: Mapping[str, Any]
    """Numbers and texts by name; of an array only the length is kept."""
    tensors: Mapping[str, TensorEntry]
    data_start: int
    """Position of the first byte after the header."""
    n_bytes: int
    """Size of the file."""

    @property
    def architecture(self) -> str:
        """Name of the kind of model, such as "llama"; empty if the file does not name it."""
        return str(self.metadata.get("general.architecture", ""))


def check_magic(path: Path) -> None:
    """Raises SavedModelError if a file cannot be read, or does not begin with the magic number of GGUF files."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise SavedModelError(f"cannot read {path}: {error.strerror or error}") from error
    check_no_pointer(path, SavedModelError)
    if magic != _MAGIC:
        raise SavedModelError(
            f"{path} is not a GGUF file, because it does not begin with the letters GGUF; a predictor is a folder or a "
            "GGUF file"
        )


def read_header(path: Path) -> GgufHeader:
    """Reads the header of a GGUF file.

    Raises SavedModelError if the file is not a GGUF file, has another version, or ends within the header.
    """
    check_magic(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(path, content).header()
    except OSError as error:
        raise SavedModelError(f"cannot read {path}: {error.strerror or error}") from error
    except struct.error as error:
        raise SavedModelError(
            f"{path} is cut off: it has {path.stat().st_size:,} bytes and ends within its header; download it again"
        ) from error


def check_complete(path: Path, header: GgufHeader, block_sizes: Mapping[int, tuple[int, int]]) -> None:
    """Raises SavedModelError if the header of a GGUF file does not fit the file, or contradicts itself.

    It does not fit if the tensors that it lists need more bytes than the file has. It contradicts itself if it names
    more layers than tensors. A tensor of an unknown type is an error, too. `block_sizes` maps the number of each type
    of GGML, the library that defines the format, to the pair (values in a block, bytes of a block).
    """
    end = header.data_start
    for name, tensor in header.tensors.items():
        if tensor.kind not in block_sizes:
            raise SavedModelError(f"{path}: the tensor '{name}' has the unknown type {tensor.kind}: update gguf")
        n_values, size = block_sizes[tensor.kind]
        end = max(end, header.data_start + tensor.offset + math.prod(tensor.shape) // n_values * size)
    if end > header.n_bytes:
        raise SavedModelError(
            f"{path} is cut off: it has {header.n_bytes:,} bytes, but its tensors need {end:,}; download it again"
        )
    n_blocks = header.metadata.get(f"{header.architecture}.block_count", 0)
    if not isinstance(n_blocks, int) or not 0 <= n_blocks <= len(header.tensors):
        raise SavedModelError(f"{path} is damaged: it has {n_blocks} layers, but only {len(header.tensors)} tensors")


class _Reader:
    """Reads the parts of a header one after the other; raises struct.error at the end of the file."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path, self._content, self._position = path, content, len(_MAGIC)

    def header(self) -> GgufHeader:
        (version,) = self._take("I")
        if version not in _VERSIONS:
            raise SavedModelError(
                f"{self._path} has version {version} of the GGUF format; lmzoo reads versions 2 and 3"
            )
        n_tensors, n_entries = self._take("QQ")
        metadata = {}
        for _ in range(n_entries):
            name = self._text()
            (kind,) = self._take("I")
            metadata[name] = self._value(kind)
        tensors = {}
        for _ in range(n_tensors):
            name = self._text()
            (n_dimensions,) = self._take("I")
            if n_dimensions > _MAX_DIMENSIONS:
                raise SavedModelError(f"{self._path} is damaged: a tensor has {n_dimensions} dimensions")
            shape = self._take(f"{n_dimensions}Q")
            tensors[name] = TensorEntry(shape, *self._take("IQ"))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise SavedModelError(f"{self._path} is damaged: its alignment is {alignment!r}")
        start = -(-self._position // alignment) * alignment
        return GgufHeader(metadata, tensors, start, len(self._content))

    def _take(self, layout: str) -> tuple[Any, ...]:
        """Reads numbers in the given layout of the module `struct`, little-endian and without gaps."""
        layout = f"<{layout}"
        values = struct.unpack_from(layout, self._content, self._position)
        self._position += struct.calcsize(layout)
        return values

    def _skip(self, n_bytes: int) -> int:
        """Moves on by `n_bytes` bytes and returns the position before."""
        before, self._position = self._position, self._position + n_bytes
        if self._position > len(self._content):
            raise struct.error("the file ends before")
        return before

    def _text(self) -> str:
        (length,) = self._take("Q")
        start = self._skip(length)
        return self._content[start : start + length].decode("utf-8", errors="replace")

    def _value(self, kind: int) -> Any:
        if kind in _FORMATS:
            return self._take(_FORMATS[kind])[0]
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise SavedModelError(f"{self._path} is damaged: a metadata entry has the unknown type {kind}")
        kind, length = self._take("IQ")
        if kind == _STRING:
            for _ in range(length):
                self._skip(*self._take("Q"))
        elif kind in _FORMATS:
            self._skip(length * struct.calcsize(f"<{_FORMATS[kind]}"))
        else:
            raise SavedModelError(f"{self._path} is damaged: an array has values of the type {kind}")
        return length
