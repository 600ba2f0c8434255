"""A corpus as token ids, with the facts about its text that the figures need. In memory, or mapped from a folder."""

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
from lmzoo.system.progress import OnProgress, Progress
from lmzoo.tokenizers import Tokenizer, train_tokenizer

DEFAULT_TOKENIZER = "bpe:4096"
_SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """D documents as ids, and the size of their text."""

    stream: TokenStream
    document_bytes: NDArray[np.int64]
    """(D,) UTF-8 bytes of each document's text."""
    document_words: NDArray[np.int64]
    """(D,) runs of characters between white space in it."""

    @property
    def bytes_by_token(self) -> NDArray[np.float64]:
        """(T,) each token's even share of the bytes of its document."""
        lengths = self.stream.ends - self.stream.starts
        return np.repeat(self.document_bytes / lengths, lengths)


@dataclass(frozen=True, eq=False)
class EncodedCorpus:
    """The three splits of a corpus under one tokenizer."""

    name: str
    fingerprint: str
    protocol: str
    tokenizer: Tokenizer
    train: EncodedSplit
    valid: EncodedSplit
    test: EncodedSplit

    @property
    def training_data(self) -> TrainingData:
        """What `fit` may see."""
        return TrainingData(self.train.stream, self.valid.stream)

    def save(self, folder: str | Path) -> None:
        """Writes one file a split, the tokenizer and the corpus' name; all or nothing."""
        with atomic_folder(folder) as temporary:
            self.tokenizer.save(temporary / "tokenizer.json")
            for name in _SPLITS:
                split: EncodedSplit = getattr(self, name)
                arrays = {"ids": split.stream.ids, "bytes": split.document_bytes, "words": split.document_words}
                save_arrays(temporary / f"{name}.safetensors", arrays)
            facts = {"name": self.name, "fingerprint": self.fingerprint, "protocol": self.protocol}
            (temporary / "corpus.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Maps a saved folder; SavedModelError if a part is missing or damaged."""
        folder = Path(folder)
        try:
            facts = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
            name, fingerprint, protocol = facts["name"], facts["fingerprint"], facts["protocol"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SavedModelError(f"{folder} is not an encoded corpus: {error}") from error
        splits = []
        for split in _SPLITS:
            arrays, _ = load_arrays(folder / f"{split}.safetensors")
            stream = TokenStream(take_array(arrays, "ids", shape=(None,), dtype=np.int32))
            sizes = [
                take_array(arrays, size, shape=(stream.n_documents,), dtype=np.int64) for size in ("bytes", "words")
            ]
            splits.append(EncodedSplit(stream, *sizes))
        return cls(name, fingerprint, protocol, Tokenizer.load(folder / "tokenizer.json"), *splits)


def tokenizer_for(corpus: Corpus, spec: str | None = None, on_progress: OnProgress | None = None) -> Tokenizer:
    """A tokenizer trained on the train split; spec None = what the corpus' protocol asks for, else "bpe:4096"."""
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
    """The corpus under a tokenizer, which is trained first if it is given as a spec (see `tokenizer_for`)."""
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
    """Documents as ids; CorpusError if there are none."""
    if not documents:
        raise CorpusError("there are no documents to encode: the corpus or one of its splits is empty")
    texts = [document.text for document in documents]
    return EncodedSplit(
        TokenStream.from_documents(tokenizer.encode_batch(texts)),
        np.array([len(text.encode()) for text in texts], np.int64),
        np.array([len(text.split()) for text in texts], np.int64),
    )
