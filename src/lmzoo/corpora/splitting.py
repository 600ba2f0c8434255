"""Rules that divide documents into train, valid and test; deterministic, so that results can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lmzoo.corpora.corpus import Document, Splits
from lmzoo.corpora.stored import StoredDocuments
from lmzoo.mapped import ranges
from lmzoo.system.growing import concatenated

PASSAGE_CHARACTERS = 4000
"""Minimum length of the passages of a long text: long enough to give every model a useful context."""
_LEAST_PASSAGE = 100
"""Minimum length of the passages of a short text."""


def every_tenth(documents: Sequence[Document]) -> Splits:
    """Divides documents into splits: every tenth document is for test, and the document before it for validation.

    If there are fewer than ten documents, the last is for test and the one before it for validation.
    """
    period = min(10, max(1, len(documents)))

    def with_remainders(first: int, last: int) -> Sequence[Document]:
        chosen = (block[(block % period >= first) & (block % period <= last)] for block in ranges(len(documents)))
        return documents_at(documents, concatenated(chosen, np.int64))

    return Splits(
        with_remainders(0, period - 3), with_remainders(period - 2, period - 2), with_remainders(period - 1, period - 1)
    )


def documents_at(documents: Sequence[Document], places: NDArray[np.int64]) -> Sequence[Document]:
    """Returns the documents with the indices `places`; documents in a temporary file are selected without reading."""
    if isinstance(documents, StoredDocuments):
        return documents.at(places)
    return [documents[place] for place in places.tolist()]


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
    return list(passages_of_blocks(name, [text]))


def passages_of_blocks(name: str, blocks: Iterable[str]) -> Iterator[Document]:
    """Yields the documents that `passages` returns for a text that is given in blocks.

    Only one block and one passage at a time are in memory.
    """
    blocks = iter(blocks)
    text = _extended("", blocks, 20 * PASSAGE_CHARACTERS)
    least = max(_LEAST_PASSAGE, min(PASSAGE_CHARACTERS, len(text) // 20))
    start, number = 0, 1
    while True:
        if len(text) - start < 3 * least:  # too little to recognise a short remainder after a passage
            text, start = _extended(text[start:], blocks, 3 * least), 0
        if start == len(text):
            return
        end = _passage_end(text, start + least, start + 2 * least)
        if len(text) - end < least // 2:  # a short remainder is added to the last passage
            end = len(text)
        yield Document(f"{name}:{number}", text[start:end])
        start, number = end, number + 1


def _extended(text: str, blocks: Iterator[str], n_characters: int) -> str:
    """Appends the next blocks to a text until it has at least `n_characters` characters, or until no block is left."""
    parts, length = [text], len(text)
    while length < n_characters and (block := next(blocks, None)) is not None:
        parts.append(block)
        length += len(block)
    return "".join(parts)


def _passage_end(text: str, earliest: int, latest: int) -> int:
    for separator in ("\n\n", "\n", " "):
        position = text.find(separator, earliest, latest)
        if position >= 0:
            return position + len(separator)
    return latest
