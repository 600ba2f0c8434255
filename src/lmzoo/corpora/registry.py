"""The corpora that are known by name: `data/corpora.toml`, read into cards, and the generated ones."""

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
    """One file that a corpus is made from."""

    name: str
    """What it is called in the cache, in the folder LMZOO_DATA and in the provider's package."""
    size: int
    """In bytes."""
    sha256: str | None = None
    """None only where the provider has a checksum of its own (NLTK's index)."""
    urls: tuple[str, ...] = ()
    """Where it lies, best first."""


@dataclass(frozen=True)
class Protocol:
    """One published way to make documents and splits."""

    rule: str
    reader: str
    """ "module:function"; the function takes the card and the options, and returns the splits."""
    tokenizer: str | None = None
    vocabulary_min_count: int | None = None
    """Words seen at least so often in the three splits together are the closed vocabulary; None = it is not closed."""
    vocabulary: tuple[str, ...] | None = None
    """The closed vocabulary, where it is known without reading the text."""
    has_tags: bool = False
    """Whether the reader, asked for `tags`, gives the part of speech of each word in place of the word."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self) -> Callable[..., Splits]:
        """Imports the reader."""
        module, _, name = self.reader.partition(":")
        return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class CorpusCard:
    """What is known of a corpus without reading it."""

    name: str
    title: str
    provider: str
    """ "embedded" in a package that comes with lmzoo, "nltk", "url", or "generated"."""
    language: str
    licence: str
    citation: str
    files: tuple[DataFile, ...]
    protocols: Mapping[str, Protocol]
    """By name; "default" is the one of the bare name."""

    @property
    def size(self) -> int:
        """Bytes on disk, or to download."""
        return sum(file.size for file in self.files)

    @property
    def specs(self) -> list[str]:
        """What `load_corpus` takes: the name, and "name:protocol" for every further protocol."""
        return [self.name if protocol == DEFAULT_PROTOCOL else f"{self.name}:{protocol}" for protocol in self.protocols]


def list_corpora() -> list[CorpusCard]:
    """The cards of all corpora, in the order of the registry."""
    return list(_cards().values())


def corpus_card(spec: str) -> CorpusCard:
    """The card of "name" or "name:protocol"; UnknownNameError with the nearest match."""
    return find_protocol(spec)[0]


def find_protocol(spec: str) -> tuple[CorpusCard, Protocol]:
    """The card and the protocol of "name" or "name:protocol"; UnknownNameError with the nearest match."""
    name, _, protocol = spec.partition(":")
    if name not in _cards():
        raise UnknownNameError("corpus", name, _cards())
    card = _cards()[name]
    protocol = protocol or DEFAULT_PROTOCOL
    if protocol not in card.protocols:
        raise UnknownNameError(f"protocol of corpus '{name}'", protocol, card.protocols)
    return card, card.protocols[protocol]


def is_known(spec: str) -> bool:
    """Whether the part of `spec` before the first colon is the name of a corpus."""
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
    """The sources of known entropy, each one a protocol."""
    protocols = {
        name: Protocol(
            rule=f"{sources.card(name).rule}; drawn with a fixed seed",
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
    """In a wheel the registry lies inside the package; in a source checkout in the top-level folder `data`."""
    packaged = importlib.resources.files("lmzoo") / "data" / "corpora.toml"
    return packaged if packaged.is_file() else Path(__file__).parents[3] / "data" / "corpora.toml"
