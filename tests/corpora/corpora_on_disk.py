"""Helpers of the corpus tests: small corpora, files on disk, and published corpora that are loaded once."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lmzoo.corpora import (
    Corpus,
    CorpusCard,
    DataFile,
    Document,
    Protocol,
    corpus_card,
    downloads,
    is_available,
    load_corpus,
)

load = cache(load_corpus)
"""Loads a published corpus, once for all tests."""


def needs(name: str) -> None:
    if not is_available(corpus_card(name)):
        pytest.skip(f"the corpus '{name}' is not on this machine (NLTK_DATA, LMZOO_DATA)")


def names(documents: Any) -> list[str]:
    return [document.name for document in documents]


def texts(corpus: Corpus) -> list[str]:
    return [document.text for split in corpus.splits.values() for document in split]


def toy(train: list[str], valid: list[str], test: list[str]) -> Corpus:
    splits = ([Document(f"{name} {i}", text) for i, text in enumerate(split)] for name, split in zip(
        ("train", "valid", "test"), (train, valid, test), strict=True))  # fmt: skip
    return Corpus("toy", "Toy", "none", "", "by hand", *splits)


def make_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Creates an empty folder LMZOO_DATA and an empty download cache for one test; returns the folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("LMZOO_DATA", str(folder))
    monkeypatch.setattr(downloads, "cache_folder", lambda: tmp_path / "cache" / "corpora")
    return folder


def card_of(folder: Path, name: str, contents: dict[str, bytes], *urls: str) -> CorpusCard:
    """Writes files into a folder, and returns the card of a corpus of these files."""
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    files = tuple(
        DataFile(file, len(content), hashlib.sha256(content).hexdigest(), tuple(urls))
        for file, content in contents.items()
    )
    return CorpusCard(name, "Toy", "url", "en", "none", "none", files, {"default": Protocol("toy", "m:f")})


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def json_lines(*documents: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in documents)


PROSE = "".join(f"Paragraph {n} has a few words.\nAnd a second line.\n\n" for n in range(2000))
