"""A corpus from a user's own files: text, JSON lines, packed or not, folders, globs, standard input.

Documents: a line of a `.jsonl` file (its field "text"), or a whole text file; a text file that stands alone is cut into
passages. Splits: the files or folders named train, valid (val, validation, dev) and test where there is a train among
them; otherwise passages are split in order, 80/10/10, and documents by `every_tenth`. Empty documents are left out.
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
    """Its path inside the folder that was given: names must not depend on where that folder lies."""

    @property
    def is_json_lines(self) -> bool:
        return _unpacked_suffix(self.path) in _JSON_LINES

    @property
    def split(self) -> str | None:
        """The split that its name, or that of the outermost folder, asks for."""
        outermost = Path(self.name).parts[0]
        return _SPLIT_NAMES.get(outermost.partition(".")[0].lower())


def exists(spec: str) -> bool:
    """Whether `spec` names something that can be read: standard input, a glob, a file or a folder."""
    if spec == STANDARD_INPUT or glob.has_magic(spec):
        return True
    try:
        return bool(spec) and Path(spec).exists()
    except OSError:  # longer than any path may be
        return False


def is_written_like_a_path(spec: str) -> bool:
    """Whether somebody who wrote `spec` meant a path."""
    return os.sep in spec or "/" in spec or "." in spec


def load_own(specs: Sequence[str | Path]) -> Corpus:
    """The corpus of files, folders, globs, or "-" alone. CorpusError says which file is at fault and where."""
    if not specs:
        raise CorpusError("no file was given: name a file, a folder, a glob, or - for standard input")
    name = str(specs[0]) if len(specs) == 1 else f"{specs[0]} and {len(specs) - 1} more"
    if [str(spec) for spec in specs] == [STANDARD_INPUT]:
        rule, splits = _in_passages(passages("stdin", read_standard_input()), "standard input")
    else:
        rule, splits = _from_files(_files(specs), name)
    return Corpus(name, title=name, licence="not stated", citation="", protocol=rule, **splits._asdict())


# ---- Which files ------------------------------------------------------------------------------------


def _files(specs: Sequence[str | Path]) -> list[_File]:
    """Every file once, in the order given; those of a folder or glob in the order of their names."""
    try:
        return list({file.path.resolve(): file for spec in specs for file in _expand(spec)}.values())
    except OSError as error:
        raise CorpusError(f"cannot look for {error.filename}: {error.strerror}") from error


def _expand(spec: str | Path) -> Iterator[_File]:
    path = Path(spec)
    if path.is_dir():
        inside = sorted((file.relative_to(path) for file in path.rglob("*")), key=lambda file: file.as_posix())
        kept = [file for file in inside if _is_corpus_file(path / file) and not _is_hidden(file)]
        if not kept:
            raise CorpusError(f"the folder {path} has no .txt or .jsonl files (each also .gz or .zst)")
        yield from (_File(path / file, file.as_posix()) for file in kept)
    elif path.exists():
        yield _File(path, path.name)
    elif glob.has_magic(str(path)):
        # Not Path.glob, which takes no absolute pattern.
        found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        matches = [Path(match) for match in found if not Path(match).is_dir()]
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


# ---- Which documents, in which split ----------------------------------------------------------------


def _from_files(files: Sequence[_File], name: str) -> tuple[str, Splits]:
    if len(files) > 1 and any(file.split == "train" for file in files):
        return "files named train, valid and test, as given", _named_splits(files, name)
    documents = _documents(files)
    if _stands_alone(files):
        return _in_passages(documents, name)
    if len(documents) < 3:
        raise CorpusError(
            f"{name} has {len(documents)} document(s) that are not empty, but train, valid and test need one each: "
            "add documents, or give one text file, which is cut into passages"
        )
    rule = "of the documents in order every tenth is test, the one before it valid"
    if len(documents) < 10:
        rule = "the last document is test, the one before it valid"
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
            f"{name} has {n_characters} characters of text, too few to be cut into train, valid and test: "
            "give at least 500"
        )
    rule = "one text, cut into passages of about 4,000 characters (shorter if it is short); "
    return rule + "first 80 % train, next 10 % valid, last 10 % test", in_order(documents)


def _stands_alone(files: Sequence[_File]) -> bool:
    return len(files) == 1 and not files[0].is_json_lines


def _documents(files: Sequence[_File]) -> list[Document]:
    """The documents that are not empty; CorpusError if there are none."""
    documents: list[Document] = []
    for file in files:
        text = read_text(file.path)
        if file.is_json_lines:
            documents += _json_lines(file, text)
        elif _stands_alone(files):
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


def _json_text(line: str, place: str) -> str:
    entry = None
    try:
        entry = json.loads(line)
        text = entry["text"]
        text.encode()
    except json.JSONDecodeError as error:
        raise CorpusError(f"{place} is not JSON: {error.msg} at column {error.colno}") from error
    except KeyError as error:
        raise CorpusError(f'{place} has no field "text"; its fields are: {", ".join(entry or ["none"])}') from error
    except UnicodeEncodeError as error:
        raise CorpusError(f'{place}: "text" has half of a surrogate pair at character {error.start}') from error
    except (TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CorpusError(f'{place} must be an object with a string in "text": {line[:60]}') from error
    return text
