"""Reads texts in zip archives without extracting them."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from lmzoo.corpora.text_files import READ_ANYWAY, begins_with, blocks_of, check_no_office_file, max_bytes
from lmzoo.errors import CorpusError

_START, _EMPTY = b"PK\x03\x04", b"PK\x05\x06"
_NOT_TEXTS = "__MACOSX"
"""The folder in which the archiver of macOS keeps the attributes of files."""


def is_zip(path: Path) -> bool:
    """Returns True if the content of the file `path` begins like a zip archive; False if it cannot be read."""
    return begins_with(path, _START, _EMPTY)


def member_names(path: Path) -> list[str]:
    """Returns the names of the files in the archive `path`, sorted, without folders and hidden files.

    Raises CorpusError if the archive is damaged, is an office document or an e-book, or if its files together are
    larger than the limit for a compressed file: 1 GiB, or the value of the environment variable LMZOO_MAX_BYTES.
    """
    with _opened(path) as archive:
        members = archive.infolist()
        n_bytes, limit = sum(member.file_size for member in members), max_bytes()
        if n_bytes > limit:
            raise CorpusError(f"{path} has {n_bytes:,} bytes of files, more than the limit of {limit:,}: {READ_ANYWAY}")
        names = {member.filename for member in members if not member.is_dir() and _is_visible(member.filename)}
        check_no_office_file(str(path), names)
        return sorted(names)


def member_blocks(path: Path, name: str) -> Iterator[str]:
    """Yields the text of the file `name` in the archive `path` in blocks; the file may be compressed once more.

    Raises CorpusError if the archive is damaged or encrypted, or if the file is not UTF-8 text.
    """
    with _opened(path) as archive, archive.open(name) as file:  # it yields no more bytes than the archive states
        yield from blocks_of(file, f"{path}/{name}")


def _is_visible(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return _NOT_TEXTS not in parts and not any(part.startswith(".") and part != ".." for part in parts)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens a zip archive; replaces errors of the archive inside the `with` block by CorpusErrors."""

    def damaged(error: Exception) -> CorpusError:
        return CorpusError(f"{path} is damaged: {error or 'it ends too early'}; make the archive again")

    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise damaged(error) from error
    except (RuntimeError, NotImplementedError) as error:  # it is encrypted, or compressed in a rare way
        raise CorpusError(f"{path} cannot be read: {error}; extract its files, and name their folder") from error
    except OSError as error:
        if error.errno is None:  # bz2 found damage, and not the operating system
            raise damaged(error) from error
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error
