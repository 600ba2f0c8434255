"""Finds the files of a user's own corpus in folders, glob patterns and zip archives, and the files that describe it.

An input is given by its path. A name after a colon, as in `texts.parquet:content`, says which field of JSON objects or
which column of a table has the text. By default, this is "text".
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmzoo.corpora import arrow_tables, compression, zip_archives
from lmzoo.corpora.split_names import is_about_a_corpus, listed
from lmzoo.corpora.text_files import text_blocks
from lmzoo.errors import CorpusError
from lmzoo.system.printable import name_from_text, name_text, printable

STANDARD_INPUT = "-"
TEXT_FIELD = "text"
_TEXTS = (".txt", ".text", ".tokens", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class OwnFile:
    """A file of a corpus, or a member of a zip archive."""

    path: Path
    name: str
    """Path of the file relative to the folder of the corpus, so that names do not depend on the folder's location."""
    field: str = TEXT_FIELD
    """Name of the JSON field, or of the table column, that has the text."""
    member: str | None = None
    """Name of the file in the zip archive `path`; None for a file that is not in an archive."""

    @property
    def shown(self) -> str:
        """The name of the file in messages."""
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"

    @property
    def suffix(self) -> str:
        """The suffix of the file in lower case, ignoring a suffix for compression: ".txt" for "a.TXT.gz"."""
        return compression.inner_suffix(Path(self.member or self.path))

    @property
    def is_table(self) -> bool:
        """True for a Parquet or Arrow file, which is recognised by its content, not by its name."""
        return self.member is None and arrow_tables.is_table(self.path)

    @property
    def n_bytes(self) -> int | None:
        """Size of the file in bytes; None for a member of an archive, and for a pipe, whose size is unknown."""
        return self.path.stat().st_size if self.member is None and self.path.is_file() else None

    def read_text(self) -> str:
        """Reads the text of the file; raises CorpusError if it cannot be read, or is not UTF-8 text."""
        return "".join(self.text_blocks())

    def text_blocks(self, on_read: Callable[[int], None] = lambda n_bytes: None) -> Iterator[str]:
        """Yields the text of the file in blocks of about a million characters.

        `on_read` is called with the number of bytes that have been read since its last call, unless the file is in an
        archive. The exceptions are those of `read_text`.
        """
        if self.member is not None:
            return zip_archives.member_blocks(self.path, self.member)
        return text_blocks(self.path, on_read)


@dataclass(frozen=True)
class OwnFiles:
    """The files of a corpus that the user names by file names, folder names and glob patterns."""

    files: Sequence[OwnFile]
    is_one_file: bool
    """True if they were given as the name of a single file that is not an archive."""
    skipped: Sequence[str]
    """The names of files in the folders and archives that are not read because of their type."""
    about: Sequence[OwnFile]
    """The files that describe the corpus, such as README.md and LICENSE, in the top folders of the corpus."""


@dataclass(frozen=True)
class _Found:
    """The files that match one path or one glob pattern given by the user."""

    files: Sequence[tuple[Path, str | None]]
    """Paths of files, with the name of the member if the file is a zip archive."""
    folder: Path
    """The folder to which the names of the files are relative."""
    skipped: Sequence[Path] = field(default=())
    """Paths, relative to the folder or archive, of the files in it that are not read."""
    about: Sequence[tuple[Path, str | None]] = field(default=())
    is_one_file: bool = False
    """True if the name is that of a file, and not of a folder, an archive or a pattern."""


def exists(spec: str) -> bool:
    """Returns True if `spec` is the name of an input: "-" for standard input, a glob, or an existing file or folder.

    The name of an input may end with the name of a field or a column, as in "texts.parquet:content".
    """
    path, _ = with_field(spec)
    return glob.has_magic(path) or _is_input(path)


def is_written_like_a_path(spec: str) -> bool:
    """Returns True if `spec` looks like a path: it has a separator or a dot."""
    return os.sep in spec or "/" in spec or "." in spec


def with_field(spec: str | Path) -> tuple[str, str]:
    """Divides the name of an input, such as "texts.parquet:content", into its path and the name of its text field.

    If a file with the whole name exists, the name is not divided, and the field is "text".
    """
    if isinstance(spec, Path) or _is_input(spec):
        return str(spec), TEXT_FIELD
    path, _, named = spec.rpartition(":")
    if not path or not named or os.sep in named or "/" in named:
        return spec, TEXT_FIELD
    is_pattern = glob.has_magic(path) and not glob.glob(spec, recursive=True)  # noqa: PTH207
    return (path, named) if is_pattern or _is_input(path) else (spec, TEXT_FIELD)


def find_files(specs: Sequence[str | Path]) -> OwnFiles:
    """Finds the files that the user names by file names, folder names and glob patterns.

    No file occurs twice. The name of each file is relative to the folder that contains all files. Raises CorpusError if
    there is no such file, or if a file or folder cannot be read.
    """
    divided = [with_field(spec) for spec in specs]
    try:
        expanded = [_expand(path) for path, _ in divided]
    except OSError as error:
        raise CorpusError(f"cannot read {error.filename}: {error.strerror}") from error
    root = os.path.commonpath([os.path.abspath(one.folder) for one in expanded])  # noqa: PTH100 (keeps symbolic links)

    def named(path: Path, member: str | None, text_field: str) -> OwnFile:
        name = Path(os.path.relpath(path / (member or ""), root)).as_posix()
        return OwnFile(path, name_text(name), text_field, member)

    files = {
        # `realpath` leaves a symbolic link that leads to itself as it is; reading it raises a clear error.
        (os.path.realpath(path), member, text_field): named(path, member, text_field)
        for one, (_, text_field) in zip(expanded, divided, strict=True)
        for path, member in one.files
    }
    return OwnFiles(
        list(files.values()),
        is_one_file=len(expanded) == 1 and expanded[0].is_one_file,
        skipped=[shown(path) for one in expanded for path in one.skipped],
        about=[named(path, member, TEXT_FIELD) for one in expanded for path, member in one.about],
    )


def shown(name: str | Path) -> str:
    """Returns the name of a file without control characters, as messages show it."""
    return printable(name_text(name), keep="")


def _is_input(spec: str) -> bool:
    """Returns True for "-", which is standard input, and for an existing file or folder."""
    if spec == STANDARD_INPUT:
        return True
    try:
        return bool(spec) and _path(spec).exists()
    except (OSError, ValueError):  # a name that is longer than the system allows, or has a NUL character
        return False


def _path(spec: str) -> Path:
    """Returns the path of a file or folder, given its name as a user types it or as a report prints it.

    If no file has the name `spec`, then `spec` is read as printed text, in which escape sequences such as \\xe9 stand
    for bytes that are not UTF-8.
    """
    path = Path(spec)
    return path if path.exists() else Path(name_from_text(spec))


def _expand(spec: str) -> _Found:
    path = _path(spec)
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        return _in_archive(path) if zip_archives.is_zip(path) else _Found([(path, None)], path.parent, is_one_file=True)
    if glob.has_magic(str(path)):
        # Path.glob does not accept absolute patterns.
        paths = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        matches = [Path(match) for match in paths if not Path(match).is_dir()]
        if not matches:
            raise CorpusError(f"no file matches {spec}")
        files = [
            one
            for match in matches
            for one in (_in_archive(match).files if zip_archives.is_zip(match) else [(match, None)])
        ]
        return _Found(files, Path(os.path.commonpath([match.parent for match in matches])))
    raise CorpusError(f"there is no file or folder {path}")


def _in_folder(folder: Path) -> _Found:
    inside = sorted(_visible_files(folder), key=lambda file: file.relative_to(folder).as_posix())
    saved = arrow_tables.files_of_saved_datasets(inside)
    texts = [file for file in inside if compression.inner_suffix(file) in _TEXTS and file.is_file()]
    texts = [file for file in texts if not is_about_a_corpus(file.name)] or texts
    tables = [file for file in inside if file.suffix.lower() in arrow_tables.SUFFIXES and file.is_file()]
    tables = [file for file in tables if file in saved.get(file.parent, {file})]
    if texts and tables:
        some, others = (listed([shown(file.relative_to(folder)) for file in files]) for files in (texts, tables))
        raise CorpusError(
            f"the folder {folder} has texts ({some}) and tables ({others}): name those that are the corpus, such as "
            f"'{folder}/**/*{tables[0].suffix}'"
        )
    kept = {*texts, *tables}
    rest = [file for file in inside if file not in kept]
    skipped = [file.relative_to(folder) for file in rest]
    if not kept:
        others = f"; it has {listed([shown(file) for file in skipped])}" if skipped else ""
        raise CorpusError(f"the folder {folder} has no {_KINDS} files{others}")
    about = [
        (file, None)
        for file in rest
        if file.name == "dataset_info.json" or (file.parent == folder and is_about_a_corpus(file.name))
    ]
    return _Found([(file, None) for file in texts or tables], folder, skipped, about)


_KINDS = f".txt or .jsonl (also as {', '.join(compression.SUFFIXES)}), .parquet or .arrow"


def _in_archive(path: Path) -> _Found:
    members = zip_archives.member_names(path)
    texts = [member for member in members if compression.inner_suffix(Path(member)) in _TEXTS]
    texts = [member for member in texts if not is_about_a_corpus(member)] or texts
    kept = {*texts}
    rest = [member for member in members if member not in kept]
    if not texts:
        others = f"; it has {listed([*map(shown, rest)])}" if rest else ""
        raise CorpusError(f"the archive {path} has no .txt or .jsonl files{others}")
    about = [(path, member) for member in rest if is_about_a_corpus(member)]
    return _Found([(path, member) for member in texts], path, [*map(Path, rest)], about)


def _visible_files(folder: Path) -> Iterator[Path]:
    """Yields the paths of all files in a folder and its subfolders, without hidden files and folders.

    A symbolic link to a folder is yielded like a file, and its target is not searched. Raises OSError for a folder that
    cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        yield from (Path(parent) / name for name in (*files, *links) if not name.startswith("."))
