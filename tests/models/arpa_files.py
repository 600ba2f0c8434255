"""ARPA files for the tests, and the scores of KenLM."""

from __future__ import annotations

import importlib
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lmzoo.models.ngram import NgramModel
from lmzoo.stream import TokenStream

WORDS = ["</s>", "<unk>", "a", "b", "日本", "don't", "\\data\\", "-1"]

PRUNED = r"""
\data\
ngram 1=4
ngram 2=2
ngram 3=2

\1-grams:
-0.60206	a	-0.30103
-99	<s>	-0.30103
-0.30103	b
-0.60206	</s>

\2-grams:
-0.1249387	a b	-0.1760913
-0.20412	<s> a

\3-grams:
-0.05799195	b a b
-0.30103	a b </s>

\end\
"""


def written(folder: Path, text: str | bytes, name: str = "model.arpa") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def log10_probs(model: NgramModel, vocabulary: list[str], sentences: list[str]) -> list[float]:
    """Returns the log10 probability of every word and sentence end, like KenLM's `full_scores`."""
    ids = {word: token_id for token_id, word in enumerate(vocabulary)}
    documents = [[ids.get(word, ids.get("<unk>", -1)) for word in sentence.split()] for sentence in sentences]
    return (model.log_probs(TokenStream.from_documents(documents)) / math.log(10)).tolist()


HAS_KENLM = find_spec("kenlm") is not None
needs_kenlm = pytest.mark.skipif(not HAS_KENLM, reason="the Python package kenlm is not installed")


def kenlm_scores(path: Path, sentences: list[str]) -> list[float]:
    """Returns KenLM's log10 probability of every word and sentence end."""
    kenlm: Any = importlib.import_module("kenlm")
    config = kenlm.Config()
    config.show_progress = False
    model = kenlm.Model(str(path), config)
    return [log_prob for sentence in sentences for log_prob, _, _ in model.full_scores(sentence)]
