"""Rules that divide documents into train, valid and test; deterministic, so that results can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from lmzoo.corpora.corpus import Document, Splits

PASSAGE_CHARACTERS = 4000
"""Minimum length of the passages of a long text: long enough to give every model a useful context."""
_LEAST_PASSAGE = 100
"""Minimum length of the passages of a short text."""


def every_tenth(documents: Sequence[Document]) -> Splits:
    """Divides documents into splits: every tenth document is for test, and the document before it for validation.

    If there are fewer than ten documents, the last is for test and the one before it for validation.
    """
    period = min(10, max(1, len(documents)))
    numbered = [(position % period, document) for position, document in enumerate(documents)]
    return Splits(
        [document for remainder, document in numbered if remainder < period - 2],
        [document for remainder, document in numbered if remainder == period - 2],
        [document for remainder, document in numbered if remainder == period - 1],
    )


def in_order(documents: Sequence[Document]) -> Splits:
    """Divides documents into splits in their order: 80 % for training, 10 % for validation, 10 % for test.

    With three documents or more, each split has at least one.
    """
    test = min(len(documents) * 9 // 10, len(documents) - 1)
    valid = min(len(documents) * 8 // 10, test - 1)
    return Splits(documents[:valid], documents[valid:test], documents[test:])


def passages(name: str, text: str) -> list[Document]:
    """Cuts a text into passages at blank lines, line ends or spaces; no character is lost.

    Returns the passages as documents with the names "name:1", "name:2", and so on. Passages have n to 2n characters,
    where n is 4,000, or for a short text a twentieth of its length, but at least 100. A passage ends at the first blank
    line after n characters, else at the first line end, else at the first space, else after 2n characters. A remainder
    of fewer than n/2 characters is added to the last passage.
    """
    least = max(_LEAST_PASSAGE, min(PASSAGE_CHARACTERS, len(text) // 20))
    documents: list[Document] = []
    start = 0
    while start < len(text):
        end = _passage_end(text, start + least, start + 2 * least)
        if len(text) - end < least // 2:  # a short remainder is added to the last passage
            end = len(text)
        documents.append(Document(f"{name}:{len(documents) + 1}", text[start:end]))
        start = end
    return documents


def _passage_end(text: str, earliest: int, latest: int) -> int:
    for separator in ("\n\n", "\n", " "):
        position = text.find(separator, earliest, latest)
        if position >= 0:
            return position + len(separator)
    return latest
