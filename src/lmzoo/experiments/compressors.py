"""General compressors, each with its strongest setting, as baselines for compression with language models.

| name   | method                                                                                                  |
|--------|---------------------------------------------------------------------------------------------------------|
| gzip   | references to the last 32 kB (Ziv & Lempel 1977), then Huffman coding (1952)                            |
| bzip2  | the Burrows-Wheeler transform (1994), which sorts by the following text, then Huffman coding            |
| xz     | references without this limit, and a range coder whose probabilities adapt bit by bit (LZMA)            |
| zstd   | references without this limit, then an asymmetric numeral system (Duda 2009)                            |
| ppmd   | prediction by partial matching (Cleary & Witten 1984; variant I, Shkarin 2002): an n-gram model of      |
|        | bytes that is updated after every byte                                                                  |
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmzoo.errors import needs_extra

_EXTRA = "compressors"
_PPMD_BYTES = 64
"""Memory per byte of text: enough to keep all contexts of any order."""
_PPMD_MIN, _PPMD_MAX = 1 << 20, (1 << 32) - 37
_ZSTD_LEVEL = 22


@dataclass(frozen=True)
class Compressor:
    """A general compressor, such as gzip, with its settings."""

    name: str
    compress: Callable[[bytes], bytes]
    """Compresses bytes; raises MissingExtraError if a package that it needs is not installed."""
    settings: Mapping[str, Any]
    packages: tuple[str, ...] = ()
    """Packages that the compressor needs besides Python."""


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def _bzip2(data: bytes) -> bytes:
    return bz2.compress(data, 9)


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)


def _zstd(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.compress(data, _ZSTD_LEVEL)
    with needs_extra("zstandard", _EXTRA, "compressing with zstd"):
        import zstandard
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data)


def _ppmd(order: int) -> Callable[[bytes], bytes]:
    def compress(data: bytes) -> bytes:
        with needs_extra("pyppmd", _EXTRA, "compressing with PPMd"):
            import pyppmd
        memory = min(max(_PPMD_BYTES * len(data), _PPMD_MIN), _PPMD_MAX)
        return pyppmd.compress(data, max_order=order, mem_size=memory, variant="I")

    return compress


COMPRESSORS = (
    Compressor("gzip", _gzip, {"level": 9}),
    Compressor("bzip2", _bzip2, {"level": 9}),
    Compressor("xz", _xz, {"preset": "9e"}),
    Compressor("zstd", _zstd, {"level": _ZSTD_LEVEL}, ("zstandard",)),
    Compressor("ppmd-6", _ppmd(6), {"variant": "I", "order": 6}, ("pyppmd",)),
    Compressor("ppmd-16", _ppmd(16), {"variant": "I", "order": 16}, ("pyppmd",)),
)
