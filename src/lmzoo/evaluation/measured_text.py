"""The text on which predictors are measured: one split of a corpus, or all of a text."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from lmzoo.corpora import Corpus, Document, Text, load_corpus, load_text
from lmzoo.corpora.corpus import digest_documents
from lmzoo.corpora.encoded import EncodedCorpus, EncodedSplit, encode_documents, encoding_reporter
from lmzoo.corpora.sentence_marks import report_marks
from lmzoo.corpora.stored import stored
from lmzoo.errors import CorpusError, UsageError
from lmzoo.predictor import Predictor
from lmzoo.stream import TokenStream
from lmzoo.system.progress import OnProgress

MeasuredSplit = Literal["valid", "test", "all"]
"""The part of a text that is measured; "all" means the whole text, which is not divided into splits."""
AnyCorpus = str | Path | Corpus | EncodedCorpus
WHOLE = "the whole text, not divided into splits"


@dataclass(frozen=True, eq=False)
class MeasuredText:
    """A text on which predictors are evaluated: one split of a corpus, or a text as a whole."""

    name: str
    fingerprint: str
    """Hash of the corpus, or of all documents if the text is not divided into splits."""
    protocol: str
    """Description of how the text was divided into documents and splits."""
    split: MeasuredSplit
    documents: Sequence[Document] | None
    """The documents; None if the text is already encoded."""
    encoded: EncodedSplit | None = None
    """The documents as token ids, if the text is already encoded."""

    @property
    def facts(self) -> dict[str, str]:
        """The name, the fingerprint (hash) and the split of the text, as a dictionary for a JSON file."""
        return {"corpus": self.name, "corpus_fingerprint": self.fingerprint, "split": self.split}

    @property
    def described(self) -> str:
        """The name of the text and its split, in a few words, such as "kjv, test split" or "kjv, whole text"."""
        return f"{self.name}, {'whole text' if self.split == 'all' else f'{self.split} split'}"

    @classmethod
    def of_predictor(
        cls,
        predictor: Predictor,
        split: MeasuredSplit | None = None,
        default: Literal["valid", "test"] = "test",
        on_progress: OnProgress | None = None,
    ) -> Self:
        """Returns the text on which a predictor is evaluated by default: a part of the corpus on which it was trained.

        The corpus is read again. The part is `split`, or `default` if `split` is None. `on_progress` receives reports
        while own files are read. Raises UsageError if the corpus is unknown or was read from standard input, and
        CorpusError if its text has changed since the training.
        """
        name, fingerprint = predictor.provenance.corpus, predictor.provenance.corpus_fingerprint
        about = f"'{predictor.label or predictor.species}'"
        if name is None:
            raise UsageError(
                f"the training corpus of this {about} is unknown, because lmzoo did not train it: name a text "
                "with --corpus"
            )
        if name == "-":
            raise UsageError(
                f"this {about} was trained on standard input, which cannot be read again: name a text with --corpus"
            )
        corpus = load_corpus(name, on_progress)
        if fingerprint is not None and corpus.fingerprint != fingerprint:
            raise CorpusError(
                f"the corpus {name} has changed since this {about} was trained on it (sha256 {corpus.fingerprint[:12]} "
                f"instead of {fingerprint[:12]}), so its {split or default} split may hold training text: restore the "
                "text, train again, or name another text with --corpus"
            )
        return cls._part(corpus, split or default)

    @classmethod
    def of_corpus(
        cls,
        corpus: AnyCorpus,
        trained_on: Collection[str | None],
        split: MeasuredSplit | None = None,
        default: Literal["valid", "test"] = "test",
        on_progress: OnProgress | None = None,
    ) -> Self:
        """Returns the text of a corpus on which one or several predictors are evaluated: one split, or all documents.

        - `corpus`: a name, a path, or a corpus that is already loaded or encoded.
        - `trained_on`: fingerprints (hashes) of the corpora on which the predictors were trained.
        - `split`: the split to return. If it is None, this is the split `default` for a corpus on which one of the
          predictors was trained, so that no training text is measured; for any other corpus, it is the whole text.
        - `on_progress`: receives reports while own files are read.

        Raises CorpusError if the text cannot be read, or cannot be divided into splits although `split` asks for one.
        """
        if isinstance(corpus, Corpus | EncodedCorpus):
            was_trained_on = corpus.fingerprint in trained_on
            return cls._part(corpus, split or (default if was_trained_on else "all"))
        if split in ("valid", "test"):
            return cls._part(load_corpus(corpus, on_progress), split)
        text = load_text(corpus, on_progress)
        if split is None and trained_on:
            divided = _divided(text)
            if divided is not None and divided.fingerprint in trained_on:
                return cls._part(divided, default)
        return cls.of_documents(text.name, text.documents)

    @classmethod
    def of_documents(cls, name: str, documents: Sequence[Document]) -> Self:
        """Returns a text that consists of the given documents and is measured as a whole."""
        return cls(name, _fingerprint(documents), WHOLE, "all", documents)

    @classmethod
    def _part(cls, corpus: Corpus | EncodedCorpus, split: MeasuredSplit) -> Self:
        """Returns one split of a corpus as a text to measure.

        For the split "all", the text consists of all documents in the order train, valid, test.
        """
        if isinstance(corpus, Corpus):
            parts = corpus.splits
            documents = stored(itertools.chain(*parts.values())) if split == "all" else parts[split]
            return cls(corpus.name, corpus.fingerprint, corpus.protocol, split, documents)
        encoded = _joined([corpus.train, corpus.valid, corpus.test]) if split == "all" else getattr(corpus, split)
        return cls(corpus.name, corpus.fingerprint, corpus.protocol, split, None, encoded)

    def encode(self, predictor: Predictor, on_progress: OnProgress | None = None) -> EncodedSplit:
        """Returns the text as token ids of a predictor's tokenizer."""
        if self.encoded is not None:
            return self.encoded
        documents = self.documents or []
        report_marks((document.text for document in documents), predictor.tokenizer)
        return encode_documents(documents, predictor.tokenizer, encoding_reporter([documents], on_progress))


def _divided(text: Text) -> Corpus | None:
    """Divides a text into the splits train, valid and test, like a corpus on which a predictor is trained.

    Returns None if the text cannot be divided. No predictor can have been trained on such a text.
    """
    try:
        return text.divided()
    except CorpusError:
        return None


def _joined(splits: Sequence[EncodedSplit]) -> EncodedSplit:
    """Concatenates encoded splits into one encoded split."""
    return EncodedSplit(
        TokenStream(np.concatenate([split.stream.ids for split in splits])),
        np.concatenate([split.document_bytes for split in splits]),
        np.concatenate([split.document_words for split in splits]),
        next((split.alteration for split in splits if split.alteration), ""),
    )


def _fingerprint(documents: Sequence[Document]) -> str:
    """Returns the SHA-256 checksum (hex) of the names and the texts of documents."""
    digest = hashlib.sha256()
    digest_documents(documents, digest)
    return digest.hexdigest()
