"""The rules that put documents into train, valid and test. Fixed and without chance, so that figures compare."""

from __future__ import annotations

from collections.abc import Sequence

from lmzoo.corpora.corpus import Document, Splits

PASSAGE_CHARACTERS = 4000
"""Least length of the passages that a long text is cut into: enough context for every species of the zoo."""
_LEAST_PASSAGE = 100


def every_tenth(documents: Sequence[Document]) -> Splits:
    """Every tenth document is test and the one before it valid; of fewer than ten, the last and the one before it."""
    period = min(10, max(1, len(documents)))
    place = [position % period for position in range(len(documents))]
    return Splits(
        [document for document, at in zip(documents, place, strict=True) if at < period - 2],
        [document for document, at in zip(documents, place, strict=True) if at == period - 2],
        [document for document, at in zip(documents, place, strict=True) if at == period - 1],
    )


def in_order(documents: Sequence[Document]) -> Splits:
    """The first 80 % are train, the next 10 % valid, the last 10 % test; of three or more, each gets one."""
    test = min(len(documents) * 9 // 10, len(documents) - 1)
    valid = min(len(documents) * 8 // 10, test - 1)
    return Splits(documents[:valid], documents[valid:test], documents[test:])


def passages(name: str, text: str) -> list[Document]:
    """A text cut, nothing lost, into documents "name:1", "name:2", ...

    A passage ends at the first blank line after 4,000 characters (a twentieth of a shorter text, but at least 100), or
    line end, or space, whichever of these comes first in this order within as many characters again.
    """
    least = max(_LEAST_PASSAGE, min(PASSAGE_CHARACTERS, len(text) // 20))
    documents: list[Document] = []
    start = 0
    while start < len(text):
        end = _passage_end(text, start + least, start + 2 * least)
        if len(text) - end < least // 2:  # a short rest stays with the last passage
            end = len(text)
        documents.append(Document(f"{name}:{len(documents) + 1}", text[start:end]))
        start = end
    return documents


def _passage_end(text: str, earliest: int, latest: int) -> int:
    for mark in ("\n\n", "\n", " "):
        found = text.find(mark, earliest, latest)
        if found >= 0:
            return found + len(mark)
    return latest
