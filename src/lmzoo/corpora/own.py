"""Corpora from a user's own files: text or JSON lines, compressed or not, in folders, globs, or standard input.

Documents: each line of a `.jsonl` file (its field "text"), and each text file; a single text file is cut into passages.
Splits: if there are several files and one of them (or a folder) is named train, the files and folders named train,
valid (or val, validation, dev) and test. Otherwise passages are split in order, 80/10/10, and documents by
`every_tenth`. Empty documents are left out.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmzoo.corpora.corpus import Corpus, Document, Splits
from lmzoo.corpora.splitting import every_tenth, in_order, passages
from lmzoo.corpora.text_files import read_standard_input, read_text
from lmzoo.errors import CorpusError

STANDARD_INPUT = "-"
_PACKED = (".gz", ".zst")
_IN_FOLDERS = (".txt", ".jsonl")
_JSON_LINES = (".jsonl", ".json", ".ndjson")
_SPLIT_NAMES = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
}


@dataclass(frozen=True)
class _File:
    path: Path
    name: str
    """Path of the file relative to the given folder, so that names do not depend on the location of that folder."""

    @property
    def is_json_lines(self) -> bool:
        return _unpacked_suffix(self.path) in _JSON_LINES

    @property
    def split(self) -> str | None:
        """The split, such as "train", to which the file belongs according to its path; None if the path names none.

        The first part of the relative path is read, without its extension: both "train.txt" and "train/a.txt" belong to
        the training split.
        """
        outermost = Path(self.name).parts[0]
        return _SPLIT_NAMES.get(outermost.partition(".")[0].lower())


def exists(spec: str) -> bool:
    """Returns True if `spec` is the name of an input: "-" for standard input, a glob, or an existing file or folder."""
    if spec == STANDARD_INPUT or glob.has_magic(spec):
        return True
    try:
        return bool(spec) and Path(spec).exists()
    except OSError:  # a name longer than the system allows
        return False


def is_written_like_a_path(spec: str) -> bool:
    """Returns True if `spec` looks like a path: it has a separator or a dot."""
    return os.sep in spec or "/" in spec or "." in spec


def load_own(specs: Sequence[str | Path]) -> Corpus:
    """Loads a corpus from files, folders and globs, or from standard input if the only spec is "-".

    Raises CorpusError, which names the file and the position of the fault.
    """
    name = _name(specs)
    if [str(spec) for spec in specs] == [STANDARD_INPUT]:
        rule, splits = _in_passages(passages("stdin", read_standard_input()), "standard input")
    else:
        rule, splits = _from_files(_files(specs), name)
    return Corpus(name, title=name, licence="not stated", citation="", protocol=rule, **splits._asdict())


def load_own_documents(specs: Sequence[str | Path]) -> tuple[str, list[Document]]:
    """Loads the documents of files, folders and globs, or of standard input, without dividing them into splits.

    Returns the name of the text and its documents, of which one is enough. Raises CorpusError as `load_own` does.
    """
    name = _name(specs)
    if [str(spec) for spec in specs] != [STANDARD_INPUT]:
        return name, _documents(_files(specs))
    documents = passages("stdin", read_standard_input())
    if not any(document.text.strip() for document in documents):
        raise CorpusError("there is no text in standard input")
    return name, documents


def _name(specs: Sequence[str | Path]) -> str:
    if not specs:
        raise CorpusError("no file was given: give a file, a folder, a glob, or - for standard input")
    return str(specs[0]) if len(specs) == 1 else f"{specs[0]} and {len(specs) - 1} more"


# ---- Finding files ----------------------------------------------------------------------------------


def _files(specs: Sequence[str | Path]) -> list[_File]:
    """Returns the files that the specs name, each once, in the given order; files of a folder or glob by name."""
    try:
        return list({file.path.resolve(): file for spec in specs for file in _expand(spec)}.values())
    except OSError as error:
        raise CorpusError(f"cannot read {error.filename}: {error.strerror}") from error


def _expand(spec: str | Path) -> Iterator[_File]:
    path = Path(spec)
    if path.is_dir():
        inside = sorted((file.relative_to(path) for file in path.rglob("*")), key=lambda file: file.as_posix())
        kept = [file for file in inside if _is_corpus_file(path / file) and not _is_hidden(file)]
        if not kept:
            raise CorpusError(f"the folder {path} has no .txt or .jsonl files (also as .gz or .zst)")
        yield from (_File(path / file, file.as_posix()) for file in kept)
    elif path.exists():
        yield _File(path, path.name)
    elif glob.has_magic(str(path)):
        # Path.glob does not accept absolute patterns.
        paths = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        matches = [Path(match) for match in paths if not Path(match).is_dir()]
        if not matches:
            raise CorpusError(f"no file matches {spec}")
        root = Path(os.path.commonpath([match.parent for match in matches]))
        yield from (_File(match, match.relative_to(root).as_posix()) for match in matches)
    else:
        raise CorpusError(f"there is no file or folder {path}")


def _is_corpus_file(path: Path) -> bool:
    return path.is_file() and _unpacked_suffix(path) in _IN_FOLDERS


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _unpacked_suffix(path: Path) -> str:
    return Path(path.stem if path.suffix.lower() in _PACKED else path.name).suffix.lower()


# ---- Documents and splits ---------------------------------------------------------------------------


def _from_files(files: Sequence[_File], name: str) -> tuple[str, Splits]:
    if len(files) > 1 and any(file.split == "train" for file in files):
        return "the files named train, valid and test", _named_splits(files, name)
    documents = _documents(files)
    if _is_single_text(files):
        return _in_passages(documents, name)
    if len(documents) < 3:
        raise CorpusError(
            f"{name} has {len(documents)} non-empty document(s), but train, valid and test need one each: add "
            "documents, or give a single text file, which is cut into passages"
        )
    rule = "every tenth document is for test, and the one before it for validation"
    if len(documents) < 10:
        rule = "the last document is for test, and the one before it for validation"
    return rule, every_tenth(documents)


def _named_splits(files: Sequence[_File], name: str) -> Splits:
    splits: dict[str, list[Document]] = {}
    for split in Splits._fields:
        inside = [file for file in files if file.split == split]
        if not inside:
            raise CorpusError(
                f"{name} has a train split but no {split} split: add {split}.txt, or rename the train file"
            )
        splits[split] = _documents(inside)
    return Splits(**splits)


def _in_passages(documents: Sequence[Document], name: str) -> tuple[str, Splits]:
    if len(documents) < 3:
        n_characters = sum(len(document.text) for document in documents)
        raise CorpusError(
            f"{name} has {n_characters} characters of text, too few for the splits train, valid and test: give at "
            "least 500"
        )
    rule = "one text, cut into passages of about 4,000 characters (fewer in a short text); "
    return rule + "the first 80 % for training, the next 10 % for validation, the last 10 % for test", in_order(
        documents
    )


def _is_single_text(files: Sequence[_File]) -> bool:
    return len(files) == 1 and not files[0].is_json_lines


def _documents(files: Sequence[_File]) -> list[Document]:
    """Reads the non-empty documents of the files; raises CorpusError if there are none."""
    documents: list[Document] = []
    for file in files:
        text = read_text(file.path)
        if file.is_json_lines:
            documents += _json_lines(file, text)
        elif _is_single_text(files):
            documents += passages(file.name, text)
        else:
            documents.append(Document(file.name, text))
    documents = [document for document in documents if document.text and not document.text.isspace()]
    if not documents:
        others = f" and {len(files) - 1} other file(s)" if len(files) > 1 else ""
        raise CorpusError(f"there is no text in {files[0].path}{others}")
    return documents


def _json_lines(file: _File, text: str) -> Iterator[Document]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.isspace():
            yield Document(f"{file.name}:{number}", _json_text(line, f"{file.path} line {number}"))


def _json_text(line: str, location: str) -> str:
    """Returns the field "text" of a line of JSON; raises CorpusError, which names `location`, if there is none."""
    entry = None
    try:
        entry = json.loads(line)
        text = entry["text"]
        text.encode()
    except json.JSONDecodeError as error:
        raise CorpusError(f"{location} is not JSON: {error.msg} at column {error.colno}") from error
    except KeyError as error:
        raise CorpusError(f'{location} has no field "text"; its fields are: {", ".join(entry or ["none"])}') from error
    except UnicodeEncodeError as error:
        raise CorpusError(f'{location}: "text" has half of a surrogate pair at character {error.start}') from error
    except (TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CorpusError(f'{location} must be an object with a string in "text": {line[:60]}') from error
    return text
