"""Corpora as token ids, with the sizes of their documents; kept in memory, or memory-mapped from a folder."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import load_arrays, save_arrays, take_array
from lmzoo.corpora import Corpus, Document
from lmzoo.corpora.sentence_marks import report_marks
from lmzoo.corpora.stored import count_characters
from lmzoo.errors import ConfigurationError, CorpusError, SavedModelError
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.files import atomic_folder
from lmzoo.system.growing import GrowingArray
from lmzoo.system.json_files import parse_as, read_text
from lmzoo.system.progress import OnProgress, progress_counter
from lmzoo.tokenizers import Tokenizer, train_tokenizer
from lmzoo.tokenizers.segments import parts
from lmzoo.tokenizers.words import count_words

DEFAULT_TOKENIZER = "bpe:4096"
_SPLITS = ("train", "valid", "test")
_BYTE_PAIR_CHARACTERS = 1 << 25
_PASSAGE_CHARACTERS = 1 << 12


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """A split of a corpus: D documents as token ids, with the sizes of their texts."""

    stream: TokenStream
    document_bytes: NDArray[np.int64]
    """Number of UTF-8 bytes (D,) of each document's text."""
    document_words: NDArray[np.int64]
    """Number of words (D,) of each document's text, separated by NUL, tab, line end and space."""
    alteration: str = ""
    """The first difference between the texts and their decoded token ids; empty if there is none, or for a word
    tokenizer, which always changes white space."""

    @property
    def bytes_by_token(self) -> NDArray[np.float64]:
        """The number of bytes of text per token, for each of the T tokens of the split, as an array (T,).

        It is an average: the bytes of each document are divided evenly among the tokens of the document.
        """
        lengths = self.stream.ends - self.stream.starts
        return np.repeat(self.document_bytes / lengths, lengths)

    def between(self, first: int, last: int) -> EncodedSplit:
        """Returns the documents with the indices `first` to `last` - 1 as a split."""
        ids = self.stream.ids[self.stream.starts[first] : self.stream.ends[last - 1]]
        sizes = self.document_bytes[first:last], self.document_words[first:last]
        return EncodedSplit(TokenStream(ids), *sizes, self.alteration)

    def is_recovered_by(self, tokenizer: Tokenizer) -> bool:
        """Returns True if the texts can be recovered exactly by decoding their token ids.

        `tokenizer` is the tokenizer that encoded the documents.
        """
        return tokenizer.lossless or (tokenizer.kind != "word" and not self.alteration)


@dataclass(frozen=True)
class _Facts:
    """The description of an encoded corpus, which is stored in `corpus.json`."""

    name: str
    fingerprint: str
    protocol: str
    tokenizer: str = ""
    alterations: dict[str, str] = field(default_factory=dict)


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
            alterations = {name: getattr(self, name).alteration for name in _SPLITS}
            facts = _Facts(self.name, self.fingerprint, self.protocol, self.tokenizer.spec, alterations)
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
            n_bytes, n_words = (
                take_array(arrays, size, shape=(stream.n_documents,), dtype=np.int64) for size in ("bytes", "words")
            )
            splits.append(EncodedSplit(stream, n_bytes, n_words, facts.alterations.get(split, "")))
        tokenizer = Tokenizer.load(folder / "tokenizer.json", facts.tokenizer)
        return cls(facts.name, facts.fingerprint, facts.protocol, tokenizer, *splits)


def tokenizer_for(corpus: Corpus, spec: str | None = None, on_progress: OnProgress | None = None) -> Tokenizer:
    """Trains a tokenizer on the training split of a corpus.

    `spec` names the kind of tokenizer, such as "bpe:4096" for byte pairs with 4,096 entries. If it is None, the
    tokenizer is the one that the corpus prescribes, or "bpe:4096" if it prescribes none. Byte pairs are learned from at
    most 32 million characters, sampled evenly from the training split.
    """
    of_protocol = spec is None or spec == corpus.tokenizer
    spec = (corpus.tokenizer or DEFAULT_TOKENIZER) if spec is None else spec
    texts, total = (document.text for document in corpus.train), count_characters(corpus.train)
    if spec.startswith("bpe") and total > _BYTE_PAIR_CHARACTERS:
        sample = evenly_sampled(texts, total, _BYTE_PAIR_CHARACTERS)
        texts, total = sample, sum(map(len, sample))
    vocabulary = corpus.vocabulary if of_protocol else None
    return train_tokenizer(spec, texts, vocabulary=vocabulary, n_characters=total, on_progress=on_progress)


def evenly_sampled(texts: Iterable[str], total: int, n_characters: int) -> Sequence[str]:
    """Samples about `n_characters` of the `total` characters of texts, evenly from the first text to the last.

    Returns the sample as a list of passages at equal distances.
    """
    sample: list[str] = []
    n_seen = n_sampled = 0
    for text in texts:
        for passage, _ in parts(text, _PASSAGE_CHARACTERS):
            if n_sampled * total <= n_seen * n_characters:
                sample.append(passage)
                n_sampled += len(passage)
            n_seen += len(passage)
    return sample


def encode_corpus(
    corpus: Corpus, tokenizer: str | Tokenizer | None = None, on_progress: OnProgress | None = None
) -> EncodedCorpus:
    """Encodes the documents of a corpus as token ids.

    `tokenizer` is a Tokenizer, or the specification of a tokenizer, such as "bpe:4096", which is then trained on the
    corpus first. If it is None, the corpus determines the specification (see `tokenizer_for`). Raises
    ConfigurationError for any other value.
    """
    if not isinstance(tokenizer, Tokenizer):
        if not isinstance(tokenizer, str | None):
            raise ConfigurationError(f"tokenizer must be a Tokenizer or a text such as 'bpe:4096', got {tokenizer!r}")
        tokenizer = tokenizer_for(corpus, tokenizer, on_progress)
    report_marks((document.text for document in itertools.chain(*corpus.splits.values())), tokenizer)
    count = encoding_reporter(corpus.splits.values(), on_progress)
    splits = [encode_documents(documents, tokenizer, count) for documents in corpus.splits.values()]
    return EncodedCorpus(corpus.name, corpus.fingerprint, corpus.protocol, tokenizer, *splits)


def encoding_reporter(texts: Iterable[Sequence[Document]], on_progress: OnProgress | None) -> Callable[[int], None]:
    """Returns a function that is called with the number of characters of each encoded part, and reports the progress.

    `texts` are all sequences of documents that will be encoded.
    """
    return progress_counter(on_progress, sum(map(count_characters, texts)), "characters", "encoding")


def encode_documents(
    documents: Sequence[Document], tokenizer: Tokenizer, on_encoded: Callable[[int], None] = lambda n_characters: None
) -> EncodedSplit:
    """Encodes documents as token ids, and records their sizes; raises CorpusError if there are no documents.

    The text is encoded in parts. After each part, `on_encoded` is called with its number of characters.
    """
    if not documents:
        raise CorpusError("there are no documents to encode: the corpus or one of its splits is empty")
    ids, n_bytes, n_words = GrowingArray(np.int32), GrowingArray(np.int64), GrowingArray(np.int64)

    def measured_texts() -> Iterator[str]:
        for document in documents:
            yield document.text
            n_bytes.extend([document.n_bytes])  # the tokenizer has accepted the text as UTF-8
            n_words.extend([count_words(document.text)])

    for part, part_ids in tokenizer.encode_parts(measured_texts()):
        ids.extend(part_ids)
        if part.is_last:
            ids.extend([EOT])
        on_encoded(len(part.text))
    stream = TokenStream(ids.finish())
    alteration = ""
    if not tokenizer.lossless and tokenizer.kind != "word":
        alteration = tokenizer.alteration(
            (document.text for document in documents), (ids[:-1] for ids in stream.documents())
        )
    return EncodedSplit(stream, n_bytes.finish(), n_words.finish(), alteration)
