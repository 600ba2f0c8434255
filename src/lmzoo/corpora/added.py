"""Named corpora of the user's own files, which `lmzoo corpus add NAME PATH` adds to the registry.

Each of these corpora is described by a file `NAME.json` in the user's data folder. Its texts stay where they are.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lmzoo.corpora.corpus import Size, Splits
from lmzoo.corpora.corpus_card import DEFAULT_PROTOCOL, CorpusCard, DataFile, Protocol
from lmzoo.corpora.own import load_own
from lmzoo.corpora.own_files import STANDARD_INPUT, TEXT_FIELD, with_field
from lmzoo.errors import CorpusError, UnknownNameError, UsageError
from lmzoo.system.files import atomic_file, writing
from lmzoo.system.json_files import parse_as, read_text
from lmzoo.system.printable import name_text
from lmzoo.system.progress import OnProgress

_logger = logging.getLogger(__name__)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_VERSION = 1


@dataclass(frozen=True)
class _Entry:
    """The content of the file `NAME.json` that describes a corpus in the registry."""

    version: int
    paths: list[str]
    """Absolute paths. One whose text is not in the field "text" ends with a colon and the name of the field."""
    rule: str
    fingerprint: str
    size: int
    """Size of the text in bytes."""
    title: str
    licence: str
    citation: str


def folder() -> Path:
    """Returns the folder with the descriptions of the corpora that the user has added."""
    from platformdirs import user_data_path

    return user_data_path("lmzoo") / "corpora"


def names() -> list[str]:
    """Returns the names of the corpora that the user has added, sorted."""
    added: list[str] = []
    with suppress(OSError):  # there is no such folder until a corpus is added
        added = [path.stem for path in folder().iterdir() if path.suffix == ".json" and _NAME.fullmatch(path.stem)]
    return sorted(added)


def cards() -> list[CorpusCard]:
    """Returns the descriptions (cards) of the corpora that the user has added, sorted by name.

    A damaged description is left out, with a warning.
    """
    readable: list[CorpusCard] = []
    for name in names():
        try:
            readable.append(card(name))
        except CorpusError as error:
            _logger.warning("%s", error)
    return readable


def card(name: str) -> CorpusCard:
    """Returns the description (card) of a corpus that the user has added; raises CorpusError if it is damaged."""
    entry = _read(name)
    rule = Protocol(
        entry.rule, "lmzoo.corpora.added:documents", options={"paths": entry.paths, "fingerprint": entry.fingerprint}
    )
    return CorpusCard(
        name=name,
        title=entry.title,
        provider="own",
        language="not stated",
        licence=entry.licence,
        citation=entry.citation,
        files=tuple(DataFile(path, entry.size if i == 0 else 0) for i, path in enumerate(entry.paths)),
        protocols={DEFAULT_PROTOCOL: rule},
    )


def add(name: str, specs: Sequence[str | Path]) -> CorpusCard:
    """Loads a corpus of the user's own files, and adds it to the registry under a name; returns its card.

    `specs` are paths, folders and glob patterns. Adding the same files again replaces the description, so that changed
    files are accepted. Raises UsageError if the name cannot be used, or belongs to other files.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be the name of a corpus: use small letters, digits, dots, dashes and underscores"
        )
    paths = [_absolute(spec) for spec in specs]
    if name in names() and (known := _read(name)).paths != paths:
        raise UsageError(
            f"the corpus '{name}' has other files ({', '.join(known.paths)}): choose another name, or run "
            f"`lmzoo corpus remove {name}` first"
        )
    corpus = load_own(paths)
    entry = _Entry(
        version=_VERSION,
        paths=paths,
        rule=corpus.protocol,
        fingerprint=corpus.fingerprint,
        size=sum(Size.of(documents).bytes for documents in corpus.splits.values()),
        title=name if corpus.title == corpus.name else corpus.title,
        licence=corpus.licence,
        citation=corpus.citation,
    )
    with atomic_file(_file(name)) as temporary:
        temporary.write_text(json.dumps(asdict(entry), indent=2), encoding="utf-8")
    return card(name)


def remove(name: str) -> None:
    """Removes a corpus that the user has added from the registry; its texts stay where they are.

    Raises UnknownNameError if the user has added no corpus with this name.
    """
    if name not in names():
        raise UnknownNameError("added corpus", name, names())
    with writing(_file(name)):
        _file(name).unlink()


def documents(
    card: CorpusCard, *, paths: Sequence[str], fingerprint: str, on_progress: OnProgress | None = None
) -> Splits:
    """Reads the documents of a corpus that the user has added, described by `card`, from the files `paths`.

    `on_progress` receives the number of bytes that have been read. Raises CorpusError if the files cannot be read,
    or if their `fingerprint` is not that of the added corpus.
    """
    corpus = load_own(paths, on_progress)
    if corpus.fingerprint != fingerprint:
        raise CorpusError(
            f"the corpus '{card.name}' has changed since it was added: restore its files, or accept them as they are "
            f"with `lmzoo corpus add {card.name} {' '.join(paths)}`"
        )
    return Splits(corpus.train, corpus.valid, corpus.test)


def _file(name: str) -> Path:
    return folder() / f"{name}.json"


def _read(name: str) -> _Entry:
    path = _file(name)
    advice = f"run `lmzoo corpus remove {name}`, and add the corpus again"
    try:
        entry = parse_as(_Entry, read_text(path, "a description of a corpus", CorpusError))
    except ValueError as error:
        raise CorpusError(f"{path} is damaged: {error}; {advice}") from error
    if entry.version != _VERSION or not entry.paths:
        raise CorpusError(f"{path} was written by another version of lmzoo: {advice}")
    return entry


def _absolute(spec: str | Path) -> str:
    """Returns the absolute path of an input, followed by a colon and its text field if this is not "text"."""
    path, text_field = with_field(spec)
    if path == STANDARD_INPUT:
        raise UsageError("standard input cannot be added, because it can be read only once: save it as a file")
    absolute = name_text(os.path.abspath(path))  # noqa: PTH100 (keeps symbolic links)
    return absolute if text_field == TEXT_FIELD else f"{absolute}:{text_field}"
