"""Corpora: named documents in three fixed splits, for training, validation and test."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from lmzoo.checks import check_text
from lmzoo.errors import CorpusError, UsageError
from lmzoo.system.fact_tables import fact_table
from lmzoo.tokenizers.words import count_words


@dataclass(frozen=True, slots=True)
class Document:
    """A named text. A language model predicts each document, including its end, without the documents before it.

    Raises UsageError if the text is not a str.
    """

    name: str
    text: str

    def __post_init__(self) -> None:
        check_text(self.text)

    @property
    def n_bytes(self) -> int:
        """Length of the document's text in bytes of UTF-8."""
        return len(self.text.encode())


class Splits(NamedTuple):
    """The three splits of a corpus, each a sequence of documents."""

    train: Sequence[Document]
    valid: Sequence[Document]
    test: Sequence[Document]


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Documents in three splits (train, valid, test), with their title, licence and citation.

    Raises CorpusError if a split is empty, and UsageError if it holds other objects than documents.
    """

    name: str
    """The argument of `load_corpus`: "kjv", "brown:bengio2003", a path."""
    title: str
    licence: str
    citation: str
    protocol: str
    """Description, in one line, of how the text was divided into documents and splits."""
    train: Sequence[Document]
    valid: Sequence[Document]
    test: Sequence[Document]
    tokenizer: str | None = None
    """The tokenizer that the published protocol requires, such as "word-space:4"; None if any tokenizer may be used."""
    vocabulary: tuple[str, ...] | None = None
    """The closed vocabulary of a published protocol, most frequent word first; None if the tokenizer learns its own."""

    def __post_init__(self) -> None:
        for name, documents in self.splits.items():
            is_sequence = isinstance(documents, Sequence)
            if is_sequence and not documents:
                raise CorpusError(
                    f"the {name} split of {self.name} has no documents: train, valid and test need at least one each"
                )
            if not is_sequence or not isinstance(documents[0], Document):
                raise UsageError(
                    f"the {name} split must be a sequence of documents, such as the list "
                    f"[Document('first', 'a text')], got {reprlib.repr(documents)}"
                )

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(documents):,} {name}" for name, documents in self.splits.items())
        return f"<Corpus {self.name}, documents: {sizes}>"

    def _repr_html_(self) -> str:
        """Returns the title, licence and sizes as an HTML table for notebooks, without reading the texts."""
        sizes = {name: f"{len(documents):,} documents" for name, documents in self.splits.items()}
        facts = {"title": self.title, "licence": self.licence, "divided by": self.protocol, "cite": self.citation}
        return fact_table(self.name, {name: fact or None for name, fact in (facts | sizes).items()})

    @property
    def splits(self) -> dict[str, Sequence[Document]]:
        """The three splits by name, in the order train, valid, test."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 checksum (hex) of the corpus: the names of its splits, and the names and texts of their documents."""
        digest = hashlib.sha256()
        for name, documents in self.splits.items():
            digest.update(f"{name} {len(documents)}\n".encode())
            digest_documents(documents, digest)
        return digest.hexdigest()


def digest_documents(documents: Sequence[Document], digest: hashlib._Hash) -> None:
    """Adds the names and the texts of documents to the input of a checksum that is being computed."""
    for document in documents:
        for field in (document.name, document.text):
            content = field.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little"))  # so that different documents give different input
            digest.update(content)


@dataclass(frozen=True, eq=False)
class Text:
    """The documents of a text that is not divided into splits."""

    name: str
    documents: Sequence[Document]
    divided: Callable[[], Corpus]
    """Returns the text as a corpus with three splits, or raises CorpusError if it cannot be divided."""


@dataclass(frozen=True)
class Size:
    """The amount of text in a list of documents: numbers of documents, bytes, characters and words."""

    documents: int
    bytes: int
    """Bytes of UTF-8."""
    characters: int
    words: int
    """Sequences of characters between NUL, tab, line end and space; see `lmzoo.tokenizers.words`."""

    @classmethod
    def of(cls, documents: Sequence[Document]) -> Size:
        """Computes the total number of documents, bytes, characters and words of a list of documents."""
        return cls(
            len(documents),
            sum(document.n_bytes for document in documents),
            sum(len(document.text) for document in documents),
            sum(count_words(document.text) for document in documents),
        )
