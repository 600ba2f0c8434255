"""Reading text from files and standard input: UTF-8, optionally compressed; other bytes are a clear error."""

from __future__ import annotations

import codecs
import itertools
import os
import stat
import sys
from pathlib import Path
from typing import IO

from lmzoo.corpora.compression import DamagedDataError, DecompressionMemoryError, decompress, is_compressed
from lmzoo.errors import ConfigurationError, CorpusError

MAX_BYTES_VARIABLE = "LMZOO_MAX_BYTES"
"""Environment variable: the largest number of bytes of a decompressed file, of a pipe, or of standard input."""
_DEFAULT_MAX_BYTES = 1 << 30
_BLOCK = 1 << 20
_BYTE_ORDER_MARKS = (  # the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_OTHER_FILES = (
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x04\x22\x4d\x18", "an lz4 file"),
    (b"%PDF-", "a PDF file"),
)


def read_text(path: Path) -> str:
    """Reads the text of a file, and decompresses gzip, Zstandard, xz and bzip2, whatever the name of the file.

    A byte-order mark is removed, and the line ends "\\r\\n" become "\\n", so that a text is the same on every system.
    Raises CorpusError if the file cannot be read, is damaged, is not UTF-8, or is larger than the limit: a compressed
    file or a pipe may have 1 GiB of text, or the value of the environment variable LMZOO_MAX_BYTES.
    """
    try:
        with path.open("rb") as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return decode(_read(file, str(path), is_regular=is_regular), str(path))
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error


def read_standard_input() -> str:
    """Reads all text of standard input, decompressed if necessary.

    The size limit for the text and the exceptions are those of `read_text` for a compressed file.
    """
    return decode(_read(sys.stdin.buffer, "standard input", is_regular=False), "standard input")


def decode(data: bytes | bytearray, name: str) -> str:
    """Decodes UTF-8 bytes as text, without a byte-order mark and with "\\n" in place of "\\r\\n".

    Raises CorpusError, with the byte offset and the given name of the file, if the bytes are not UTF-8 text.
    """
    if kind := _other_file(data):
        raise CorpusError(f"{name} is {kind}, not a text file: extract its text first")
    if encoding := _wide_encoding(data):
        raise CorpusError(f"{name} is encoded as {encoding}: save it as UTF-8")
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
    """Returns the largest allowed size, in bytes, of the text in a compressed file or a pipe.

    It is 1 GiB, or the value of the environment variable LMZOO_MAX_BYTES. Raises ConfigurationError if this value is
    not a whole number.
    """
    value = os.environ.get(MAX_BYTES_VARIABLE, str(_DEFAULT_MAX_BYTES))
    if not value.isdecimal():
        raise ConfigurationError(f"{MAX_BYTES_VARIABLE} must be a whole number of bytes, got '{value}'")
    return int(value)


def _read(file: IO[bytes], name: str, *, is_regular: bool) -> bytearray:
    """Reads and decompresses all bytes of an open file; `is_regular` is False for a pipe, which may never end.

    Raises CorpusError if the data are damaged, or if a compressed file or a pipe has more bytes than the limit.
    """
    limit = max_bytes()
    more = f"to read it anyway, set the environment variable {MAX_BYTES_VARIABLE} to a larger number"
    head = file.read(_BLOCK)
    is_limited = not is_regular or is_compressed(head)
    data = bytearray()
    try:
        for block in decompress(itertools.chain([head], iter(lambda: file.read(_BLOCK), b"")), max_memory=limit):
            data += block
            if is_limited and len(data) > limit:
                raise CorpusError(f"{name} has more than {limit:,} bytes of text: {more}")
    except DamagedDataError as error:
        raise CorpusError(f"{name} is damaged: {error}; compress the original file again") from error
    except DecompressionMemoryError as error:
        raise CorpusError(
            f"{name} needs more memory to decompress than the limit of {limit:,} bytes: {more}"
        ) from error
    return data


def _wide_encoding(data: bytes | bytearray) -> str | None:
    """Returns the name of the encoding if data are text in UTF-16 or UTF-32, and None otherwise.

    Such text is recognised with and without a byte-order mark.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return name
    head = data[:4096]
    for codec in ("UTF-32-LE", "UTF-32-BE", "UTF-16-LE", "UTF-16-BE") if 0 in head else ():
        try:
            text = head.decode(codec)
        except UnicodeDecodeError:
            continue
        n_ascii = sum(character.isascii() for character in text)  # binary data look like rare characters
        if 10 * n_ascii >= len(text) and all(character.isprintable() or character in "\t\n\r" for character in text):
            return f"{codec[:6]} without a byte-order mark"
    return None


def _other_file(data: bytes | bytearray) -> str | None:
    """Returns what kind of file begins with these bytes, such as "a zip archive", or None if the kind is unknown."""
    if is_compressed(data):
        return "compressed twice"
    if data[257:262] == b"ustar":
        return "a tar archive"
    if data.startswith(b"PAR1") and data.endswith(b"PAR1"):
        return "a Parquet file"
    return next((kind for start, kind in _OTHER_FILES if data.startswith(start)), None)
