"""An ARPA file as a sequence of lines: decompression, reading in blocks, and errors with the number of the line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lmzoo.errors import SavedModelError
from lmzoo.system.progress import OnProgress, Progress

START, END = "<s>", "</s>"
ZERO: Final = -99.0
"""The log10 that is read and written for a probability of zero, as in SRILM."""
_BLOCK = 1 << 22
"""Number of bytes that are read from the file at a time."""
_LONGEST_LINE = 1 << 20


class ArpaFile:
    """A file of an n-gram model in the ARPA text format, which is read in blocks of whole lines.

    The file may be compressed by gzip. Use the object as a context manager. Raises SavedModelError if the file cannot
    be read.
    """

    def __init__(self, path: Path, on_progress: OnProgress | None) -> None:
        self.number = 1
        """The number of the next line, from 1."""
        self.report = on_progress or (lambda progress: None)
        self._path = path
        self._unread, self._at = b"", 0
        try:
            self._raw = path.open("rb")
            self._size = path.stat().st_size
            compressed = self._raw.read(2) == b"\x1f\x8b"
            self._raw.seek(0)
        except OSError as error:
            raise SavedModelError(f"cannot read {path}: {error.strerror or error}") from error
        self._file = gzip.GzipFile(fileobj=self._raw) if compressed else self._raw

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self._raw.close()

    def error(self, message: str, line: int | None = None) -> SavedModelError:
        """Returns an error with a message, the path of the ARPA file and a line number (default: the next line)."""
        return SavedModelError(f"{self._path}:{line or self.number}: {message}")

    def line(self) -> bytes:
        """Returns the next line of the ARPA file with its line end, or b"" at the end of the file."""
        while (end := self._unread.find(b"\n", self._at)) < 0:
            if not self._read():
                return b""
        line = self._unread[self._at : end + 1]
        self._at = end + 1
        self.number += 1
        return line

    def expect(self, keyword: str) -> None:
        """Reads the next non-empty line of the ARPA file; raises SavedModelError unless it is `keyword`."""
        while (line := self.line()).isspace():
            pass
        if line.strip() != keyword.encode():
            shown_line = quoted(line) if line else "the end of the file"
            number = self.number - 1 if line else self.number
            raise self.error(f"expected {keyword}, got {shown_line}: the file is truncated or damaged", number)

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Yields blocks of whole lines, each with the number of its first line.

        Stops before the next line that begins with a backslash, or at the end of the ARPA file.
        """
        while True:
            while (stop := self._unread.rfind(b"\n", self._at) + 1) == 0:
                if not self._read():
                    return
            if self._unread.startswith(b"\\", self._at):
                return
            keyword = self._unread.find(b"\n\\", self._at, stop)
            stop = keyword + 1 if keyword >= 0 else stop
            number, block = self.number, self._unread[self._at : stop]
            self._at = stop
            self.number += block.count(b"\n")
            yield number, block

    def _read(self) -> bool:
        """Reads the next block of the file; returns False at the end of the file.

        Called when no whole line is left in memory. Adds a line end to the last line if it has none.
        """
        rest = self._unread[self._at :]
        if len(rest) > _LONGEST_LINE:
            raise self.error(f"this line is longer than {_LONGEST_LINE:,} bytes: this is not an ARPA file")
        try:
            block = self._file.read(_BLOCK)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self.error(
                f"the gzip data are damaged after this line ({error}): copy or download it again"
            ) from error
        except OSError as error:
            raise self.error(f"cannot read beyond this line: {error.strerror or error}") from error
        self.report(Progress(self._raw.tell(), self._size, "bytes"))
        if not block and rest:
            block = b"\n"
        self._unread, self._at = rest + block, 0
        return bool(block)


def quoted(text: bytes) -> str:
    """Returns a part of a file in quotes for an error message, shortened to 40 bytes."""
    text = text.strip()
    return "'" + (text[:40] + b"..." * (len(text) > 40)).decode(errors="backslashreplace") + "'"
