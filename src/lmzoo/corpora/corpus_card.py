"""Descriptions (cards) of corpora that have a name: their files, and the rules that divide their texts into splits."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmzoo.corpora.corpus import Splits

DEFAULT_PROTOCOL = "default"


@dataclass(frozen=True)
class DataFile:
    """A file of a corpus, with its size, checksum and addresses."""

    name: str
    """Name of the file in the cache, in the folder LMZOO_DATA, and in the provider's package."""
    size: int
    """Size in bytes."""
    sha256: str | None = None
    """SHA-256 checksum (hex); None only if the provider verifies the file by its own checksum (NLTK's index)."""
    urls: tuple[str, ...] = ()
    """Addresses from which the file can be downloaded, the preferred one first."""


@dataclass(frozen=True)
class Protocol:
    """One way to divide the text of a corpus into documents and splits, in most cases taken from a published paper."""

    rule: str
    """A one-line description of how documents and splits are made."""
    reader: str
    """The reader as "module:function"; the function takes the card and the options, and returns the splits."""
    tokenizer: str | None = None
    """The tokenizer that the protocol requires; None if any may be used."""
    vocabulary_min_count: int | None = None
    """Minimum number of occurrences, in all splits together, of a word of the closed vocabulary; None if it is open."""
    vocabulary: tuple[str, ...] | None = None
    """The closed vocabulary, if it is known without reading the text."""
    has_tags: bool = False
    """True if the reader has an option `tags`, which replaces each word by its part of speech."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self) -> Callable[..., Splits]:
        """Imports and returns the function that reads a corpus and divides its text by this protocol."""
        module, _, name = self.reader.partition(":")
        return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class CorpusCard:
    """A description of a corpus, available without reading its text."""

    name: str
    title: str
    provider: str
    """The origin of the text: "embedded" (in a package installed with lmzoo), "nltk", "url", "generated", or "own" for
    a corpus that the user has added."""
    language: str
    licence: str
    citation: str
    files: tuple[DataFile, ...]
    protocols: Mapping[str, Protocol]
    """The protocols by name; "default" is used if only the name of the corpus is given."""

    @property
    def size(self) -> int:
        """Total size of the files of the corpus, in bytes."""
        return sum(file.size for file in self.files)

    @property
    def specs(self) -> list[str]:
        """The names that can be given to `load_corpus`: "name", and "name:protocol" for each further protocol.

        A protocol is one way to divide the text of the corpus into documents and splits.
        """
        return [self.name if protocol == DEFAULT_PROTOCOL else f"{self.name}:{protocol}" for protocol in self.protocols]
