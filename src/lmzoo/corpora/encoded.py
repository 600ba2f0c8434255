"""Corpora as token ids, with the sizes of their documents; kept in memory, or memory-mapped from a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import load_arrays, save_arrays, take_array
from lmzoo.corpora import Corpus, Document
from lmzoo.errors import CorpusError, SavedModelError
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.files import atomic_folder
from lmzoo.system.json_files import parse_as, read_text
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers import Tokenizer, train_tokenizer

DEFAULT_TOKENIZER = "bpe:4096"
_SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """A split of a corpus: D documents as token ids, with the sizes of their texts."""

    stream: TokenStream
    document_bytes: NDArray[np.int64]
    """Number of UTF-8 bytes (D,) of each document's text."""
    document_words: NDArray[np.int64]
    """Number of words (D,) of each document's text, separated by white space."""

    @property
    def bytes_by_token(self) -> NDArray[np.float64]:
        """The bytes of each document divided evenly among its tokens, as an array (T,) for T tokens."""
        lengths = self.stream.ends - self.stream.starts
        return np.repeat(self.document_bytes / lengths, lengths)


@dataclass(frozen=True)
class _Facts:
    """The content of `corpus.json`, the description of an encoded corpus."""

    name: str
    fingerprint: str
    protocol: str


@dataclass(frozen=True, eq=False)
class EncodedCorpus:
    """A corpus whose three splits are encoded by one tokenizer."""

    name: str
    fingerprint: str
    protocol: str
    tokenizer: Tokenizer
    train: EncodedSplit
    valid: EncodedSplit
    test: EncodedSplit

    @property
    def training_data(self) -> TrainingData:
        """The training and validation splits, which are the data that `fit` may read."""
        return TrainingData(self.train.stream, self.valid.stream)

    def save(self, folder: str | Path) -> None:
        """Writes the encoded corpus to a folder, atomically: its splits, its tokenizer, and its description."""
        with atomic_folder(folder) as temporary:
            self.tokenizer.save(temporary / "tokenizer.json")
            for name in _SPLITS:
                split: EncodedSplit = getattr(self, name)
                arrays = {"ids": split.stream.ids, "bytes": split.document_bytes, "words": split.document_words}
                save_arrays(temporary / f"{name}.safetensors", arrays)
            facts = _Facts(self.name, self.fingerprint, self.protocol)
            (temporary / "corpus.json").write_text(json.dumps(vars(facts), indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Opens an encoded corpus saved in a folder, by memory-mapping its token ids.

        Raises SavedModelError if a file is missing or damaged.
        """
        folder = Path(folder)
        path = folder / "corpus.json"
        try:
            facts = parse_as(_Facts, read_text(path, "a description of a corpus"))
        except ValueError as error:
            raise SavedModelError(f"{path} is damaged: {error}") from error
        splits = []
        for split in _SPLITS:
            arrays, _ = load_arrays(folder / f"{split}.safetensors")
            stream = TokenStream(take_array(arrays, "ids", shape=(None,), dtype=np.int32))
            sizes = [
                take_array(arrays, size, shape=(stream.n_documents,), dtype=np.int64) for size in ("bytes", "words")
            ]
            splits.append(EncodedSplit(stream, *sizes))
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        return cls(facts.name, facts.fingerprint, facts.protocol, tokenizer, *splits)


def tokenizer_for(corpus: Corpus, spec: str | None = None, on_progress: OnProgress | None = None) -> Tokenizer:
    """Trains a tokenizer on the training split of a corpus.

    `spec` names the kind of tokenizer, such as "bpe:4096" for byte pairs with 4,096 entries. If it is None, the
    tokenizer is the one that the corpus prescribes, or "bpe:4096" if it prescribes none.
    """
    of_protocol = spec is None or spec == corpus.tokenizer
    return train_tokenizer(
        spec or corpus.tokenizer or DEFAULT_TOKENIZER,
        (document.text for document in corpus.train),
        vocabulary=corpus.vocabulary if of_protocol else None,
        on_progress=on_progress,
    )


def encode_corpus(
    corpus: Corpus, tokenizer: str | Tokenizer | None = None, on_progress: OnProgress | None = None
) -> EncodedCorpus:
    """Encodes the documents of a corpus as token ids.

    `tokenizer` is a tokenizer, or the spec of one that is trained on the corpus first (see `tokenizer_for`).
    """
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = tokenizer_for(corpus, tokenizer)
    total = sum(len(getattr(corpus, name)) for name in _SPLITS)
    splits: list[EncodedSplit] = []
    for name in _SPLITS:
        splits.append(encode_documents(getattr(corpus, name), tokenizer))
        if on_progress:
            on_progress(Progress(sum(split.stream.n_documents for split in splits), total, "documents"))
    return EncodedCorpus(corpus.name, corpus.fingerprint, corpus.protocol, tokenizer, *splits)


def encode_documents(documents: Sequence[Document], tokenizer: Tokenizer) -> EncodedSplit:
    """Encodes documents as token ids, and records their sizes; raises CorpusError if there are no documents."""
    if not documents:
        raise CorpusError("there are no documents to encode: the corpus or one of its splits is empty")
    texts = [document.text for document in documents]
    return EncodedSplit(
        TokenStream.from_documents(tokenizer.encode_batch(texts)),
        np.array([len(text.encode()) for text in texts], np.int64),
        np.array([len(text.split()) for text in texts], np.int64),
    )
