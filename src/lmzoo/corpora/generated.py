"""Corpora that are made, not collected: documents of the sources of known entropy, the same on every machine."""

from __future__ import annotations

import numpy as np

from lmzoo.corpora.corpus import Document, Splits
from lmzoo.corpora.registry import CorpusCard
from lmzoo.sources import source

_N_DOCUMENTS = (10_000, 500, 1000)
"""In train, valid and test."""
_SEED = 0


def documents(card: CorpusCard, *, name: str) -> Splits:
    """A document is one text of the source: "copying 1", "copying 2", ..."""
    maker = source(name)
    drawn = maker.sample(sum(_N_DOCUMENTS), np.random.default_rng(_SEED)).documents()
    made = [Document(f"{name} {number}", maker.text(ids)) for number, ids in enumerate(drawn, start=1)]
    n_train, n_valid, _ = _N_DOCUMENTS
    return Splits(made[:n_train], made[n_train : n_train + n_valid], made[n_train + n_valid :])
