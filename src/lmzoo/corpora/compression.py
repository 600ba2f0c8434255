"""Decompression of gzip, Zstandard, xz and bzip2 data, which are recognised by their first bytes and not by a name."""

from __future__ import annotations

import bz2
import itertools
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from lmzoo.errors import needs_extra

SUFFIXES = (".gz", ".zst", ".xz", ".bz2")
"""The usual suffixes of compressed files."""
_STEP = 1 << 12
"""Compressed bytes per step: Zstandard can expand one byte to 32,768, so that larger steps could fill the memory."""
_LEAST_MEMORY = 1 << 27
"""Memory that a decompressor may use at least: the default limit of `zstd`, which most compressed files respect."""
_MOST_MEMORY = 1 << 31
"""The largest window that a Zstandard decompressor supports."""


class DamagedDataError(Exception):
    """Raised for compressed data that are damaged or incomplete."""


class DecompressionMemoryError(Exception):
    """Raised for compressed data that cannot be decompressed within the memory limit."""


@dataclass(frozen=True)
class _Format:
    """A format of compressed data, with a regular expression for its first bytes and a function for decompression."""

    start: re.Pattern[bytes]
    new: Callable[[int], Any]
    """Takes the memory limit in bytes, and returns a decompressor of one stream."""


def inner_suffix(path: PurePath) -> str:
    """Returns the suffix of a path in lower case, ignoring one for compression: ".txt" for "a.TXT.gz"."""
    return PurePath(path.stem if path.suffix.lower() in SUFFIXES else path.name).suffix.lower()


def is_compressed(head: bytes | bytearray) -> bool:
    """Returns True if data that begin with the bytes `head` are compressed in a known format."""
    return any(known.start.match(head) for known in _FORMATS)


def decompress(blocks: Iterable[bytes], *, max_memory: int) -> Iterator[bytes]:
    """Yields the decompressed bytes of data that are given as consecutive blocks of bytes.

    The formats are gzip, Zstandard, xz and bzip2. Data in another format, such as plain text, are yielded unchanged. If
    several compressed streams follow each other, as in the output of `cat a.gz b.gz`, all of them are decompressed.
    `max_memory` is the memory in bytes that a decompressor may use; 128 MiB are always allowed. Raises DamagedDataError
    if the data are damaged, DecompressionMemoryError if they need more memory, and MissingExtraError if the package for
    Zstandard is not installed.
    """
    blocks = iter(blocks)
    head = next(blocks, b"")
    known = next((known for known in _FORMATS if known.start.match(head)), None)
    if known is None:
        yield head
        yield from blocks
        return
    max_memory = min(max(max_memory, _LEAST_MEMORY), _MOST_MEMORY)
    decompressor = None  # of the current stream
    for rest in _steps(itertools.chain([head], blocks)):
        while rest := rest if decompressor else rest.lstrip(b"\0"):
            decompressor = decompressor or known.new(max_memory)
            try:
                yield decompressor.decompress(rest)
            except Exception as error:  # each library has its own exception, and bz2 raises OSError
                if "memory" in str(error).lower():
                    raise DecompressionMemoryError(str(error)) from error
                raise DamagedDataError(str(error)) from error
            rest = decompressor.unused_data
            if not decompressor.eof:
                break
            decompressor = None
    if decompressor is not None:
        raise DamagedDataError("the compressed data end too early")


def _steps(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), _STEP):
            yield block[start : start + _STEP]


def _new_zstd(max_memory: int) -> Any:
    """Returns a decompressor of one Zstandard frame, from the standard library (Python 3.14) or the package zstandard.

    Raises MissingExtraError if the package is not installed.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd

        limit = max_memory.bit_length() - 1
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: limit})
    with needs_extra("zstandard", "data", "reading Zstandard files (.zst)"):
        import zstandard
    return zstandard.ZstdDecompressor(max_window_size=max_memory).decompressobj()


_FORMATS = (
    _Format(re.compile(rb"\x1f\x8b"), lambda _: zlib.decompressobj(16 + zlib.MAX_WBITS)),
    _Format(re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), _new_zstd),  # a frame, or one that is skipped
    _Format(re.compile(rb"\xfd7zXZ\0"), lambda limit: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limit)),
    _Format(
        re.compile(rb"BZh[1-9](\x31\x41\x59\x26\x53\x59|\x17\x72\x45\x38\x50\x90)"), lambda _: bz2.BZ2Decompressor()
    ),
)
