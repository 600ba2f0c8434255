"""Generated corpora: documents sampled from the sources of known entropy, the same on every machine."""

from __future__ import annotations

import numpy as np

from lmzoo.corpora.corpus import Document, Splits
from lmzoo.corpora.registry import CorpusCard
from lmzoo.sources import source

_N_DOCUMENTS = (10_000, 500, 1000)
"""Numbers of documents in the splits train, valid and test."""
_SEED = 0


def documents(card: CorpusCard, *, name: str) -> Splits:
    """Samples the documents of a generated corpus from a probabilistic source, with a fixed seed.

    `name` is the name of the source, such as "copying". The documents are named "copying 1", "copying 2", and so on.
    """
    text_source = source(name)
    sampled = text_source.sample(sum(_N_DOCUMENTS), np.random.default_rng(_SEED)).documents()
    documents = [Document(f"{name} {number}", text_source.text(ids)) for number, ids in enumerate(sampled, start=1)]
    n_train, n_valid, _ = _N_DOCUMENTS
    return Splits(documents[:n_train], documents[n_train : n_train + n_valid], documents[n_train + n_valid :])
