"""The registry of corpora with a name: those of `data/corpora.toml`, and the generated ones."""

from __future__ import annotations

import importlib
import importlib.resources
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from lmzoo import sources
from lmzoo.corpora.corpus import Splits
from lmzoo.errors import UnknownNameError

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
    """How documents and splits are made, in one line."""
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
    """The origin of the text: "embedded" (in a package installed with lmzoo), "nltk", "url" or "generated"."""
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


def list_corpora() -> list[CorpusCard]:
    """Returns the descriptions (cards) of all corpora, in the order of the registry."""
    return list(_cards().values())


def corpus_card(spec: str) -> CorpusCard:
    """Returns the description (card) of a corpus; raises UnknownNameError, with the nearest match, if there is none.

    `spec` is the name of the corpus, "name" or "name:protocol". A protocol is one way to divide the text into documents
    and splits.
    """
    return find_protocol(spec)[0]


def find_protocol(spec: str) -> tuple[CorpusCard, Protocol]:
    """Returns the description (card) of a corpus, and the rule by which its text is divided into documents and splits.

    Such a rule is called a protocol. `spec` names both, as "name:protocol", or "name" for the default protocol. Raises
    UnknownNameError, with the nearest match, if there is no such corpus or protocol.
    """
    name, _, protocol = spec.partition(":")
    if name not in _cards():
        raise UnknownNameError("corpus", name, _cards())
    card = _cards()[name]
    protocol = protocol or DEFAULT_PROTOCOL
    if protocol not in card.protocols:
        raise UnknownNameError(f"protocol of corpus '{name}'", protocol, card.protocols)
    return card, card.protocols[protocol]


def is_known(spec: str) -> bool:
    """Returns True if the part of `spec` before the first colon is the name of a corpus."""
    return spec.partition(":")[0] in _cards()


@cache
def _cards() -> dict[str, CorpusCard]:
    entries = tomllib.loads(_registry_file().read_text(encoding="utf-8"))
    return {name: _card(name, **entry) for name, entry in entries.items()} | {"source": _generated()}


def _card(name: str, *, files: list[dict[str, Any]], protocols: dict[str, dict[str, Any]], **facts: str) -> CorpusCard:
    return CorpusCard(
        name=name,
        files=tuple(DataFile(**{**file, "urls": tuple(file.get("urls", ()))}) for file in files),
        protocols={protocol: Protocol(**entry) for protocol, entry in protocols.items()},
        **facts,
    )


def _generated() -> CorpusCard:
    """Returns the registry entry of the corpus "source": text that lmzoo generates by rules of known entropy.

    The entry has one variant for each rule, such as "source:copying". The registry calls a variant of a corpus a
    protocol.
    """
    protocols = {
        name: Protocol(
            rule=f"{sources.card(name).rule}; sampled with a fixed seed",
            reader="lmzoo.corpora.generated:documents",
            tokenizer="word-space:1",
            vocabulary=sources.source(name).words,
            options={"name": name},
        )
        for name in sources.names()
    }
    return CorpusCard(
        name="source",
        title="Generated text of known entropy",
        provider="generated",
        language="none",
        licence="CC0",
        citation="lmzoo, lmzoo.sources",
        files=(),
        protocols=protocols,
    )


def _registry_file() -> Traversable:
    """Returns the path of the registry: inside the package if lmzoo is installed, else in the top folder `data`."""
    packaged = importlib.resources.files("lmzoo") / "data" / "corpora.toml"
    return packaged if packaged.is_file() else Path(__file__).parents[3] / "data" / "corpora.toml"
