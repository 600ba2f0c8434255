"""The registry of corpora: those of `data/corpora.toml`, the generated ones, and those that the user adds."""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from lmzoo import sources
from lmzoo.corpora import added
from lmzoo.corpora.corpus_card import DEFAULT_PROTOCOL, CorpusCard, DataFile, Protocol
from lmzoo.errors import UnknownNameError, UsageError


def list_corpora() -> list[CorpusCard]:
    """Returns the descriptions (cards) of all corpora: first those of lmzoo, then those that the user has added.

    A damaged description of an added corpus is left out, with a warning.
    """
    return [*_cards().values(), *added.cards()]


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
    if not is_known(spec):
        raise UnknownNameError("corpus", name, [*_cards(), *added.names()])
    card = _cards()[name] if name in _cards() else added.card(name)
    protocol = protocol or DEFAULT_PROTOCOL
    if protocol not in card.protocols:
        raise UnknownNameError(f"{name} protocol", protocol, card.protocols)
    return card, card.protocols[protocol]


def is_known(spec: str) -> bool:
    """Returns True if the part of `spec` before the first colon is the name of a corpus."""
    name = spec.partition(":")[0]
    return name in _cards() or name in added.names()


def add_corpus(name: str, paths: Sequence[str | Path]) -> CorpusCard:
    """Adds a corpus of the user's own files to the registry, and returns its description (card).

    From then on, `load_corpus(name)` loads it, and so does `--corpus NAME` in each command. The registry keeps the
    absolute paths of the files, the rule by which they are divided into splits, and the fingerprint of the corpus: a
    corpus whose files have changed is refused, until it is added again.

    - `name`: small letters, digits, dots, dashes and underscores.
    - `paths`: the files as for `load_corpus`: a path, or several paths, folders and glob patterns.

    Raises UsageError if the name cannot be used or belongs to another corpus, and CorpusError if the files cannot be
    read.
    """
    if name in _cards():
        raise UsageError(f"'{name}' is the name of a corpus of lmzoo: choose another name")
    return added.add(name, paths)


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
