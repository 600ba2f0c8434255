"""Writes n-gram models as ARPA files."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError
from lmzoo.models.ngram.arpa.files import END, START, ZERO
from lmzoo.models.ngram.model import NgramModel
from lmzoo.models.ngram.trie import Trie
from lmzoo.models.ngram.weights import Weights
from lmzoo.system.files import atomic_file
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers.words import split_words

_GZIP_LEVEL = 4
"""Takes half the time of gzip's default level, 6; files are 5 % larger."""
_BLOCK_LINES = 1 << 15
"""Number of lines that are written at a time."""


def write_arpa(
    path: str | Path, model: NgramModel, vocabulary: Sequence[str], on_progress: OnProgress | None = None
) -> None:
    """Writes a fitted n-gram model as an ARPA file, compressed by gzip if the name ends in `.gz`.

    `vocabulary` is a sequence of V words, one for each token id. The word of id 0 is ignored: this token is written as
    `<s>` and `</s>`. Numbers have 7 significant digits, like KenLM's (float32). If writing fails, no file is left.
    Raises ConfigurationError for words that ARPA files cannot contain.
    """
    path = Path(path)
    model.require_fitted()
    _check_words(vocabulary, model.vocab_size)
    with atomic_file(path) as temporary, temporary.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as compressed:
                _write(compressed, model, vocabulary, on_progress)
        else:
            _write(raw, model, vocabulary, on_progress)


def _check_words(vocabulary: Sequence[str], vocab_size: int) -> None:
    if len(vocabulary) != vocab_size:
        raise ConfigurationError(
            f"the vocabulary has {len(vocabulary)} words, but the model has {vocab_size} tokens: give one word for each"
        )
    seen: set[str] = {START, END, "<UNK>"}
    for token_id, word in enumerate(vocabulary[1:], 1):
        if word in seen:
            raise ConfigurationError(
                f"the word '{word}' (id {token_id}) is reserved in ARPA files or occurs twice: rename it"
            )
        if split_words(word) != [word]:
            raise ConfigurationError(
                f"the word {word!r} (id {token_id}) is empty or contains NUL, tab, line end or space, which ARPA files "
                "cannot store: rename it"
            )
        seen.add(word)


def _write(
    file: IO[bytes] | gzip.GzipFile, model: NgramModel, vocabulary: Sequence[str], on_progress: OnProgress | None
) -> None:
    arrays = model.arrays()
    trie = Trie.from_arrays(arrays, model.vocab_size, model.order)
    weights = Weights.from_arrays(arrays, trie)
    backoffs = _log10(weights.backoffs)
    first_words, last_words = (np.array([end, *vocabulary[1:]], object) for end in (START, END))
    counts = np.diff(trie.levels)[1:] + (np.arange(trie.order) == 0)  # one unigram of the trie is both <s> and </s>
    file.write("".join(["\\data\\\n", *(f"ngram {k}={count}\n" for k, count in enumerate(counts, 1))]).encode())
    for k in range(1, trie.order + 1):
        file.write(f"\n\\{k}-grams:\n".encode())
        n_columns = k + 1 + (k < trie.order)
        line = "%.7g\t" + " ".join(["%s"] * k) + "\t%.7g" * (k < trie.order) + "\n"
        if k == 1:
            file.write((line % (ZERO, START, backoffs[trie.document_start])[:n_columns]).encode())
            backoffs[trie.document_start] = 0  # the weight of </s>, which no word follows
        level = trie.level(k)
        for begin in range(level.start, level.stop, _BLOCK_LINES):
            block = slice(begin, min(begin + _BLOCK_LINES, level.stop))
            nodes = np.arange(block.start, block.stop)
            fields = np.empty((nodes.size, n_columns), object)
            fields[:, 0] = _log10(weights.log_probs(block))
            if k < trie.order:
                fields[:, -1] = backoffs[block]
            fields[:, k] = last_words[trie.tokens[nodes]]
            for column in range(k - 1, 0, -1):
                nodes = np.searchsorted(trie.first_child, nodes, side="right") - 1  # the parent of each node
                fields[:, column] = first_words[trie.tokens[nodes]]
            file.write((line * len(fields) % tuple(fields.ravel())).encode())
            if on_progress:
                on_progress(Progress(block.stop, int(trie.levels[-1]), "n-grams"))
    file.write(b"\n\\end\\\n")


def _log10(nats: NDArray[np.float32]) -> NDArray[np.float64]:
    """Converts natural logarithms to base 10, with -99 for the logarithm of zero, and never -0."""
    return np.where(np.isneginf(nats), ZERO, nats.astype(np.float64) / np.log(10)) + 0.0
