"""Reading text from files and standard input: UTF-8, optionally compressed; other bytes raise a clear error.

`read_text` and `read_standard_input` return the whole text. `text_blocks` and `blocks_of_standard_input` read it block
by block, and a `LineReader` reads it line by line.
"""

from __future__ import annotations

import codecs
import io
import itertools
import os
import re
import reprlib
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, final

from lmzoo.corpora.compression import DamagedDataError, DecompressionMemoryError, decompress, is_compressed
from lmzoo.errors import ConfigurationError, CorpusError
from lmzoo.system.git_lfs import ADVICE, POINTER
from lmzoo.system.printable import name_text

MAX_BYTES_VARIABLE = "LMZOO_MAX_BYTES"
"""Environment variable: the largest number of bytes of a decompressed file, of a pipe, or of standard input."""
READ_ANYWAY = f"to read it anyway, set the environment variable {MAX_BYTES_VARIABLE} to a larger number"
"""Advice in messages about texts that are larger than this number."""
_DEFAULT_MAX_BYTES = 1 << 30
_BLOCK = 1 << 20
_BYTE_ORDER_MARKS = (  # the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_ZIP_ARCHIVE = "a zip archive"
_OFFICE_FILE = "a file of Word, Excel or another office program, or an e-book"
_OFFICE_MEMBERS = ("[Content_Types].xml", "mimetype")
"""Files that mark a zip archive as one of the formats of Office, or as OpenDocument or EPUB."""
_OFFICE_HEADER = re.compile(
    rb"PK\x03\x04.{22}(%b)"
    % b"|".join(len(name).to_bytes(2, "little") + b".." + re.escape(name.encode()) for name in _OFFICE_MEMBERS),
    re.DOTALL,
)
"""The header of such a file in a zip archive: the length of its name is followed by another length and the name."""
_OTHER_FILES = (
    (b"PK\x03\x04", _ZIP_ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x04\x22\x4d\x18", "an lz4 file"),
    (b"FEA1", "a Feather file of version 1"),
    (b"%PDF-", "a PDF file"),
    (rb"{\rtf", "an RTF file"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OFFICE_FILE),
)


def read_text(path: Path) -> str:
    """Reads the text of a file, and decompresses gzip, Zstandard, xz and bzip2, whatever the name of the file.

    A byte-order mark is removed, and the line ends "\\r\\n" become "\\n", so that a text is the same on every system.
    Raises CorpusError if the file cannot be read, is damaged, is not UTF-8, or is larger than the limit: a compressed
    file or a pipe may have 1 GiB of text, or the value of the environment variable LMZOO_MAX_BYTES.
    """
    return "".join(text_blocks(path))


def text_blocks(path: Path, on_read: Callable[[int], None] = lambda n_bytes: None) -> Iterator[str]:
    """Yields the text of a file in blocks of about a million characters; together they are the result of `read_text`.

    `on_read` is called with the number of bytes that have been read from the file since its last call. The exceptions
    are those of `read_text`.
    """
    try:
        with path.open("rb") as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            yield from _decoded(_read(file, str(path), is_regular=is_regular, on_read=on_read), str(path))
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error


def begins_with(path: Path, *starts: bytes) -> bool:
    """Returns True if the content of a regular file begins with one of some bytes.

    Returns False for other files, such as pipes, whose first bytes can be read only once, and for files that cannot be
    read: whoever reads them reports the error.
    """
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(max(map(len, starts))).startswith(starts)
    except OSError:
        return False


def read_standard_input() -> str:
    """Reads all text of standard input, decompressed if necessary.

    The size limit for the text and the exceptions are those of `read_text` for a compressed file.
    """
    return "".join(blocks_of_standard_input())


def blocks_of_standard_input() -> Iterator[str]:
    """Yields the text of standard input in blocks of about a million characters.

    The size limit and the exceptions are those of `read_standard_input`.
    """
    return blocks_of(sys.stdin.buffer, "standard input")


def blocks_of(file: IO[bytes], name: str) -> Iterator[str]:
    """Yields the text of an open file of unknown size, such as a pipe, decompressed if necessary, in blocks.

    `name` is the name of the file in messages. The size limit for the text and the exceptions are those of `read_text`
    for a compressed file.
    """
    return _decoded(_read(file, name, is_regular=False), name)


def _decoded(blocks: Iterable[bytes | bytearray], name: str) -> Iterator[str]:
    """Yields the text of UTF-8 bytes in blocks, without a byte-order mark and with "\\n" in place of "\\r\\n".

    Raises CorpusError, with the byte offset and the given name of the file, if the bytes are not UTF-8 text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    n_bytes = n_lines = 0  # before the current block
    held = ""  # a carriage return at the end of a block, which a line feed may follow
    for block in itertools.chain(_checked_blocks(blocks, name), [b""]):
        try:
            text = held + decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            offset = n_bytes + len(block) - len(error.object) + error.start
            line = n_lines + error.object.count(b"\n", 0, error.start) + 1
            raise CorpusError(
                f"{name} is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {offset:,} (line {line:,}); "
                "save it as UTF-8"
            ) from error
        if not n_bytes:
            text = text.removeprefix("\ufeff")
        n_bytes, n_lines = n_bytes + len(block), n_lines + block.count(b"\n")
        held = "\r" if block and text.endswith("\r") else ""
        if text := text.removesuffix(held):
            yield text.replace("\r\n", "\n")


@final
class LineReader:
    """The lines of a text file, or of standard input, which are read while they are iterated over.

    Lines end with "\n"; the last one may lack it. Compression, encoding and errors are those of `read_text`, but the
    limit for a compressed file or a pipe applies to each line, not to the whole text.
    """

    def __init__(self, path: Path | None) -> None:
        """Prepares to read a file; None = standard input. Raises CorpusError for a folder or a missing file."""
        self._path = path
        self.name = "standard input" if path is None else name_text(path)
        self.n_bytes: int | None = None
        """Size of the file in bytes; None for a pipe."""
        self.n_read = 0
        """Number of bytes of the file that have been read so far."""
        self.is_limited = True
        """True for a pipe, which may never end, and for a compressed file. Known when the first line has been read."""
        if path is not None:
            try:
                status = path.stat()
            except OSError as error:
                raise CorpusError(f"cannot read {self.name}: {error.strerror or error}") from error
            if stat.S_ISDIR(status.st_mode):
                raise CorpusError(f"{self.name} is a folder: name its files, such as {name_text(path / '*.txt')}")
            self.n_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None

    def __iter__(self) -> Iterator[str]:
        with ExitStack() as stack:
            try:
                file = sys.stdin.buffer if self._path is None else stack.enter_context(self._path.open("rb"))
                yield from self._lines(file)
            except OSError as error:
                raise CorpusError(f"cannot read {self.name}: {error.strerror or error}") from error

    def _lines(self, file: IO[bytes]) -> Iterator[str]:
        limit, head = max_bytes(), file.read(_BLOCK)
        self.is_limited = self.n_bytes is None or is_compressed(head)
        number, line = 1, ""
        for text in _decoded(_decompressed(head, file, self.name, on_read=self._count), self.name):
            for part in io.StringIO(text, newline="\n"):
                line += part
                if self.is_limited and len(line) > limit:
                    raise CorpusError(f"{self.name} line {number:,} has more than {limit:,} characters: {READ_ANYWAY}")
                if part.endswith("\n"):
                    yield line
                    number, line = number + 1, ""
        if line:
            yield line

    def _count(self, n_bytes: int) -> None:
        self.n_read += n_bytes


def _checked_blocks(blocks: Iterable[bytes | bytearray], name: str) -> Iterator[bytes | bytearray]:
    """Yields the blocks of a file that are not empty, and raises CorpusError if they are not those of a text."""
    offset = 0
    for block in blocks:
        if block:
            _check_is_text(block, name, offset)
            yield block
            offset += len(block)


def _check_is_text(data: bytes | bytearray, name: str, offset: int) -> None:
    """Raises CorpusError if data are not text in an encoding that contains ASCII.

    `name` is the name of the file that contains the data, and `offset` the position of their first byte in it.
    """
    if not offset and data.startswith(POINTER):
        raise CorpusError(f"{name} is a pointer of Git LFS, not the file itself: {ADVICE}")
    if not offset and (kind := _other_file(data)):
        raise _not_text(name, kind)
    if not offset and (encoding := _wide_encoding(data)):
        raise CorpusError(f"{name} is encoded as {encoding}: save it as UTF-8")
    nul = data.find(0)
    if nul >= 0:
        raise CorpusError(
            f"{name} is not a text file: it has a NUL byte at offset {offset + nul:,}; lmzoo reads UTF-8 text"
        )


def check_no_office_file(name: str, members: Collection[str]) -> None:
    """Raises CorpusError if a zip archive with these members is an office document or an e-book.

    Its members hold the text between codes that say how it is printed.
    """
    if not set(_OFFICE_MEMBERS).isdisjoint(members):
        raise _not_text(name, _OFFICE_FILE)


def _not_text(name: str, kind: str) -> CorpusError:
    advice = "save it as plain text, or a table as CSV" if kind == _OFFICE_FILE else "extract its text first"
    return CorpusError(f"{name} is {kind}, not a text file: {advice}")


def max_bytes() -> int:
    """Returns the largest allowed size, in bytes, of the text in a compressed file or a pipe.

    It is 1 GiB, or the value of the environment variable LMZOO_MAX_BYTES if it is set and not empty. Raises
    ConfigurationError if this value is not a whole number, or has more than 18 digits.
    """
    value = os.environ.get(MAX_BYTES_VARIABLE) or str(_DEFAULT_MAX_BYTES)
    if not value.isdecimal() or len(value) > 18:
        shown = reprlib.repr(value)
        raise ConfigurationError(f"{MAX_BYTES_VARIABLE} must be a whole number of bytes below 10^18, got {shown}")
    return int(value)


def _read(
    file: IO[bytes], name: str, *, is_regular: bool, on_read: Callable[[int], None] = lambda n_bytes: None
) -> Iterator[bytearray]:
    """Reads and decompresses an open file, as `_decompressed` does.

    `is_regular` is False for a pipe, which may never end. Raises CorpusError, too, if a compressed file or a pipe has
    more bytes than the limit.
    """
    limit, n_bytes = max_bytes(), 0
    head = file.read(_BLOCK)
    is_limited = not is_regular or is_compressed(head)
    for block in _decompressed(head, file, name, on_read=on_read):
        n_bytes += len(block)
        if is_limited and n_bytes > limit:
            raise CorpusError(f"{name} has more than {limit:,} bytes of text: {READ_ANYWAY}")
        yield block


def _decompressed(head: bytes, file: IO[bytes], name: str, *, on_read: Callable[[int], None]) -> Iterator[bytearray]:
    """Yields the decompressed bytes of an open file in blocks of at least `_BLOCK`, except for the last one.

    `head` is the first block of the file, which has been read already. `on_read` is called with the number of bytes
    read since its last call. Raises CorpusError if the data are damaged.
    """

    def blocks() -> Iterator[bytes]:
        for block in itertools.chain([head], iter(lambda: file.read(_BLOCK), b"")):
            on_read(len(block))
            yield block

    limit, data = max_bytes(), bytearray()
    try:
        for block in decompress(blocks(), max_memory=limit):
            data += block
            if len(data) >= _BLOCK:
                yield data
                data = bytearray()
    except DamagedDataError as error:
        raise CorpusError(f"{name} is damaged: {error}; compress the original file again") from error
    except DecompressionMemoryError as error:
        raise CorpusError(
            f"{name} needs more memory to decompress than the limit of {limit:,} bytes: {READ_ANYWAY}"
        ) from error
    yield data


def _wide_encoding(data: bytes | bytearray) -> str | None:
    """Returns the name of the encoding if data are text in UTF-16 or UTF-32, and None otherwise.

    Such text is recognised with and without a byte-order mark.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return name
    head = data[:4096]
    if 0 not in head or _is_utf8_with_few_nuls(head):
        return None
    for codec in ("UTF-32-LE", "UTF-32-BE", "UTF-16-LE", "UTF-16-BE"):
        try:
            text = head.decode(codec)
        except UnicodeDecodeError:
            continue
        n_ascii = sum(character.isascii() for character in text)  # binary data look like rare characters
        if 10 * n_ascii >= len(text) and all(character.isprintable() or character in "\t\n\r" for character in text):
            return f"{codec[:6]} without a byte-order mark"
    return None


def _is_utf8_with_few_nuls(head: bytes | bytearray) -> bool:
    """Returns True if the beginning of a text is UTF-8 in which less than a quarter of the bytes are NUL.

    Half of the bytes of English text in UTF-16 are NUL, and other text in UTF-16 is hardly ever valid UTF-8.
    """
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut off
    except UnicodeDecodeError:
        return False
    return 4 * head.count(0) < len(head)


def _other_file(data: bytes | bytearray) -> str | None:
    """Returns what kind of file begins with these bytes, such as "a zip archive", or None if the kind is unknown."""
    if is_compressed(data):
        return "compressed twice"
    if data[257:262] == b"ustar":
        return "a tar archive"
    if data.startswith(b"PAR1") and 0 in data:  # a text may begin like this, too
        return "a Parquet file"
    kind = next((kind for start, kind in _OTHER_FILES if data.startswith(start)), None)
    return _OFFICE_FILE if kind == _ZIP_ARCHIVE and _OFFICE_HEADER.search(data) else kind
