"""Corpora from a user's own files: text or JSON, compressed or not, in folders, globs, or standard input.

Documents: each object of a JSON file (its field "text"), and each text file; a single text file is cut into passages.
Splits: if the names of several files tell their splits, as `train.txt` and `dev/a.txt` do, these splits (see
`lmzoo.corpora.split_names`). Otherwise passages are split in order, 80/10/10, and documents by `every_tenth`. Empty
documents are left out. A log message says which files belong to which split, and which files of a folder are not read.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmzoo.corpora import compression
from lmzoo.corpora.corpus import Corpus, Document, Splits, Text
from lmzoo.corpora.json_texts import is_json, json_documents
from lmzoo.corpora.split_names import listed, splits_by_name
from lmzoo.corpora.splitting import every_tenth, in_order, passages
from lmzoo.corpora.text_files import read_standard_input, read_text
from lmzoo.errors import CorpusError
from lmzoo.system.printable import name_from_text, name_text, printable

STANDARD_INPUT = "-"
_IN_FOLDERS = (".txt", ".text", ".tokens", ".jsonl", ".ndjson")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _File:
    path: Path
    name: str
    """Path of the file relative to the folder of the corpus, so that names do not depend on the folder's location."""


@dataclass(frozen=True)
class _Found:
    """The files that match one path or one glob pattern given by the user."""

    paths: Sequence[Path]
    folder: Path
    """The folder to which the names of the files are relative."""
    skipped: Sequence[Path] = field(default=())
    """The files of a folder that are not read."""
    is_one_file: bool = False
    """True if the name is that of a file, and not of a folder or a pattern."""


def exists(spec: str) -> bool:
    """Returns True if `spec` is the name of an input: "-" for standard input, a glob, or an existing file or folder."""
    if spec == STANDARD_INPUT or glob.has_magic(spec):
        return True
    try:
        return bool(spec) and _path(spec).exists()
    except OSError:  # a name longer than the system allows
        return False


def is_written_like_a_path(spec: str) -> bool:
    """Returns True if `spec` looks like a path: it has a separator or a dot."""
    return os.sep in spec or "/" in spec or "." in spec


def load_own(specs: Sequence[str | Path]) -> Corpus:
    """Loads a corpus from the user's files, folders and glob patterns, or from standard input if `specs` is ["-"].

    Raises CorpusError, which names the file and the position of the error, if the text cannot be read.
    """
    name = _name(specs)
    if _is_standard_input(specs):
        documents, is_one_text = _documents_of_standard_input()
        rule, splits = _divided(documents, "standard input", is_one_text=is_one_text)
    else:
        rule, splits = _from_files(specs, name)
    _logger.info("corpus %s: %s", _shown(name), rule)
    return _corpus(name, rule, splits)


def load_own_text(specs: Sequence[str | Path]) -> Text:
    """Loads the user's files, folders and glob patterns, or standard input, as documents without splits.

    A single document is enough. Raises CorpusError, which names the file and the position of the error, if the text
    cannot be read.
    """
    name = _name(specs)
    if _is_standard_input(specs):
        documents, is_one_text = _documents_of_standard_input()
    else:
        files, is_one_file, skipped = _files(specs)
        _log_skipped(name, skipped)
        documents, is_one_text = _documents(files)
        if not is_one_file:  # the names of the files may tell the splits
            return Text(name, documents, lambda: load_own(specs))
    about = "standard input" if _is_standard_input(specs) else name
    return Text(name, documents, lambda: _corpus(name, *_divided(documents, about, is_one_text=is_one_text)))


def _corpus(name: str, rule: str, splits: Splits) -> Corpus:
    return Corpus(name, title=name, licence="not stated", citation="", protocol=rule, **splits._asdict())


def _name(specs: Sequence[str | Path]) -> str:
    if not specs:
        raise CorpusError("no file was given: give a file, a folder, a glob, or - for standard input")
    first = name_text(specs[0])
    return first if len(specs) == 1 else f"{first} and {len(specs) - 1} more"


def _is_standard_input(specs: Sequence[str | Path]) -> bool:
    return [str(spec) for spec in specs] == [STANDARD_INPUT]


# ---- Finding files ----------------------------------------------------------------------------------


def _path(spec: str | Path) -> Path:
    """Returns the path of a file or folder from its name as the user or a report gives it.

    If no file has the name `spec`, then `spec` is read as printable text, in which escape sequences such as \\xe9
    replace bytes that are not UTF-8.
    """
    path = Path(spec)
    return path if path.exists() else Path(name_from_text(str(spec)))


def _expand(spec: str | Path) -> _Found:
    path = _path(spec)
    if path.is_dir():
        inside = sorted(_visible_files(path), key=lambda file: file.relative_to(path).as_posix())
        kept = [file for file in inside if _is_corpus_file(file)]
        skipped = [file for file in inside if not _is_corpus_file(file)]
        if not kept:
            others = f"; it has {listed([_shown(file.relative_to(path)) for file in skipped])}" if skipped else ""
            raise CorpusError(
                f"the folder {path} has no .txt or .jsonl files (also as {', '.join(compression.SUFFIXES)}){others}"
            )
        return _Found(kept, path, skipped)
    if path.exists():
        return _Found([path], path.parent, is_one_file=True)
    if glob.has_magic(str(path)):
        # Path.glob does not accept absolute patterns.
        paths = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        matches = [Path(match) for match in paths if not Path(match).is_dir()]
        if not matches:
            raise CorpusError(f"no file matches {spec}")
        return _Found(matches, Path(os.path.commonpath([match.parent for match in matches])))
    raise CorpusError(f"there is no file or folder {path}")


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


def _is_corpus_file(path: Path) -> bool:
    return path.is_file() and _suffix(path) in _IN_FOLDERS


def _suffix(path: Path) -> str:
    """Returns the suffix of a file in lower case, without the suffix of its compression: ".txt" for "a.TXT.gz"."""
    is_compressed = path.suffix.lower() in compression.SUFFIXES
    return Path(path.stem if is_compressed else path.name).suffix.lower()


def _files(specs: Sequence[str | Path]) -> tuple[list[_File], bool, list[str]]:
    """Finds the files that the user names by file names, folder names and glob patterns.

    Returns the files, True if they were given as the name of a single file, and the names of the files in the folders
    that are not read because of their type. No file occurs twice. The name of each file is relative to the folder that
    contains all files. Raises CorpusError if a file or folder cannot be read.
    """
    try:
        found = [_expand(spec) for spec in specs]
    except OSError as error:
        raise CorpusError(f"cannot read {error.filename}: {error.strerror}") from error
    root = os.path.commonpath([os.path.abspath(one.folder) for one in found])  # noqa: PTH100 (keeps symbolic links)
    paths = {path.resolve(): path for one in found for path in one.paths}
    files = [_File(path, name_text(Path(os.path.relpath(path, root)).as_posix())) for path in paths.values()]
    skipped = [_shown(path.relative_to(one.folder)) for one in found for path in one.skipped]
    return files, len(found) == 1 and found[0].is_one_file, skipped


def _log_skipped(name: str, skipped: Sequence[str]) -> None:
    if skipped:
        _logger.info("corpus %s: not read: %s", _shown(name), listed(skipped))


def _shown(name: str | Path) -> str:
    return printable(name_text(name), keep="")


# ---- Documents and splits ---------------------------------------------------------------------------


def _from_files(specs: Sequence[str | Path], name: str) -> tuple[str, Splits]:
    """Reads the files of a corpus, and divides them into splits.

    Returns a one-line description of the rule by which the text was divided, and the splits. If the names of the files
    contain words such as "train" and "test", they decide the split of each file.
    """
    files, is_one_file, skipped = _files(specs)
    names = [_shown(file.name) for file in files]
    split_of = None if is_one_file else splits_by_name(names, _shown(name))
    if split_of is None:
        documents, is_one_text = _documents(files)
        rule, splits = _divided(documents, name, is_one_text=is_one_text)
        if len(files) > 1:
            rule = f"no split in the names of {listed(names)}; {rule}"
    else:
        inside = {name: [i for i, split in enumerate(split_of) if split == name] for name in Splits._fields}
        splits = Splits(**{split: _whole_documents([files[i] for i in inside[split]]) for split in inside})
        parts = (f"{split} from {listed([names[i] for i in inside[split]])}" for split in inside)
        rule = f"splits by the names of the files: {', '.join(parts)}"
        skipped += [name for name, split in zip(names, split_of, strict=True) if split is None]
    _log_skipped(name, skipped)
    return rule, splits


def _divided(documents: Sequence[Document], name: str, *, is_one_text: bool) -> tuple[str, Splits]:
    """Divides documents into training, validation and test set.

    If `is_one_text` is True, the documents are passages of one text: the first 80 % are for training, the next 10 % for
    validation, the last 10 % for test. Otherwise, every tenth document is for test, and the document before it for
    validation. Returns a one-line description of this rule, and the splits. Raises CorpusError if there are fewer than
    three documents.
    """
    if is_one_text and len(documents) < 3:
        n_characters = sum(len(document.text) for document in documents)
        raise CorpusError(
            f"{name} has {n_characters} characters of text, too few for the splits train, valid and test: give at "
            "least 500"
        )
    if is_one_text:
        rule = "one text, cut into passages of about 4,000 characters (fewer in a short text); "
        rule += "the first 80 % for training, the next 10 % for validation, the last 10 % for test"
        return rule, in_order(documents)
    if len(documents) < 3:
        raise CorpusError(
            f"{name} has {len(documents)} non-empty document(s), but train, valid and test need one each: add "
            "documents, or give a single text file, which is cut into passages"
        )
    rule = "every tenth document is for test, and the one before it for validation"
    if len(documents) < 10:
        rule = "the last document is for test, and the one before it for validation"
    return rule, every_tenth(documents)


def _documents(files: Sequence[_File]) -> tuple[list[Document], bool]:
    """Reads the documents of files. A single plain text is cut into passages, which are then the documents.

    Returns the documents, and True if they are passages of one text.
    """
    if len(files) > 1:
        return _whole_documents(files), False
    return _documents_of_input(read_text(files[0].path), files[0])


def _documents_of_standard_input() -> tuple[list[Document], bool]:
    """Reads the documents of standard input. Plain text is cut into passages, which are then the documents.

    Returns the documents, and True if they are passages of one text.
    """
    return _documents_of_input(read_standard_input(), _File(Path("standard input"), "stdin"))


def _documents_of_input(text: str, file: _File) -> tuple[list[Document], bool]:
    """Divides a text into documents: the documents in JSON, or the passages of plain text.

    Returns the documents, and True if they are passages of plain text. `file` is the file that contains the text.
    Raises CorpusError if all documents are empty.
    """
    is_text = not is_json(text, _suffix(file.path))
    documents = passages(file.name, text) if is_text else json_documents(text, file.name, str(file.path))
    return _not_empty(documents, file.path), is_text


def _whole_documents(files: Sequence[_File]) -> list[Document]:
    """Reads the documents of files: the documents in a JSON file, or a whole plain text as one document.

    Raises CorpusError if all documents are empty.
    """
    documents: list[Document] = []
    for file in files:
        text = read_text(file.path)
        if is_json(text, _suffix(file.path)):
            documents += json_documents(text, file.name, str(file.path))
        else:
            documents.append(Document(file.name, text))
    others = f" and {len(files) - 1} other file(s)" if len(files) > 1 else ""
    return _not_empty(documents, f"{files[0].path}{others}")


def _not_empty(documents: Iterable[Document], place: str | Path) -> list[Document]:
    """Removes documents that are empty or consist of white space only.

    Raises CorpusError if no document is left. `place` is the name of the input in the error message.
    """
    kept = [document for document in documents if document.text and not document.text.isspace()]
    if not kept:
        raise CorpusError(f"there is no text in {place}")
    return kept
