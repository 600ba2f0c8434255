"""Reading text from files and standard input: UTF-8, optionally compressed; other bytes are a clear error."""

from __future__ import annotations

import codecs
import gzip
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from lmzoo.errors import ConfigurationError, CorpusError, MissingExtraError

MAX_BYTES_VARIABLE = "LMZOO_MAX_BYTES"
"""Environment variable: the largest number of bytes of a decompressed file or of standard input."""
_DEFAULT_MAX_BYTES = 1 << 30
_BLOCK = 1 << 20
_ZST_BLOCK = 1 << 12
"""Compressed bytes per step: Zstandard can expand one byte to 32,768, so that larger steps could fill the memory."""


def read_text(path: Path) -> str:
    """Reads the text of a file, and decompresses files named `.gz` and `.zst`.

    A byte-order mark is removed and "\\r\\n" becomes "\\n", so that a text is the same on every system. Raises
    CorpusError if the file cannot be read, is damaged, is not UTF-8, or decompresses to more bytes than the limit:
    1 GiB, or the value of the environment variable LMZOO_MAX_BYTES.
    """
    try:
        with path.open("rb") as file:
            match path.suffix.lower():
                case ".gz":
                    data = _limited(_gzip_blocks(file), str(path))
                case ".zst":
                    data = _limited(_zst_blocks(file), str(path))
                case _:
                    data = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error, _ZstError) as error:
        raise CorpusError(f"{path} is damaged: {error}; compress the original file again") from error
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error
    return decode(data, str(path))


def read_standard_input() -> str:
    """Reads all text of standard input, with the same size limit as a decompressed file."""
    return decode(_limited(iter(lambda: sys.stdin.buffer.read(_BLOCK), b""), "standard input"), "standard input")


def decode(data: bytes | bytearray, name: str) -> str:
    """Decodes UTF-8 bytes as text.

    Raises CorpusError, with the byte offset and the given name of the file, if the bytes are not UTF-8 text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CorpusError(f"{name} is encoded as UTF-16: save it as UTF-8")
    nul = data.find(0)
    if nul >= 0:
        raise CorpusError(f"{name} is not a text file: it has a NUL byte at offset {nul:,}; lmzoo reads UTF-8 text")
    mark = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{name} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start:,} (line {line:,}); "
            "save it as UTF-8"
        ) from error
    return text[1 if mark else 0 :].replace("\r\n", "\n")


def max_bytes() -> int:
    """Returns the largest allowed number of decompressed bytes.

    Raises ConfigurationError if the environment variable LMZOO_MAX_BYTES is not a whole number.
    """
    value = os.environ.get(MAX_BYTES_VARIABLE, str(_DEFAULT_MAX_BYTES))
    if not value.isdecimal():
        raise ConfigurationError(f"{MAX_BYTES_VARIABLE} must be a whole number of bytes, got '{value}'")
    return int(value)


def _limited(blocks: Iterable[bytes], name: str) -> bytearray:
    limit = max_bytes()
    data = bytearray()
    for block in blocks:
        data += block
        if len(data) > limit:
            raise CorpusError(
                f"{name} has more than {limit:,} bytes of text: to read it anyway, set the environment variable "
                f"{MAX_BYTES_VARIABLE} to a larger number"
            )
    return data


def _gzip_blocks(file: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as unpacked:
        while block := unpacked.read(_BLOCK):
            yield block


class _ZstError(Exception):
    """An error of the Zstandard library, whichever library is used."""


def _zst_blocks(file: IO[bytes]) -> Iterator[bytes]:
    new_decompressor, library_error = _zstandard()
    decompressor = None  # of the current frame
    while block := file.read(_ZST_BLOCK):
        while block:
            decompressor = decompressor or new_decompressor()
            try:
                yield decompressor.decompress(block)
            except library_error as error:
                raise _ZstError(str(error)) from error
            block = decompressor.unused_data
            if decompressor.eof:
                decompressor = None
    if decompressor is not None:
        raise EOFError("the file ends in the middle of a frame")


def _zstandard() -> tuple[Any, type[Exception]]:
    """Returns a function that creates a decompressor for one Zstandard frame, and the exception that it raises.

    Uses the standard library of Python 3.14 or later, and the package `zstandard` before. Raises MissingExtraError if
    the package is not installed.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.ZstdDecompressor, zstd.ZstdError
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError("zstandard", "data", "reading .zst files") from error
    return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
