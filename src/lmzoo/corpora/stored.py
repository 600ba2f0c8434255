"""Documents of long texts, which are kept in a temporary file and are in memory only while they are used."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, final, overload

import numpy as np
from numpy.typing import NDArray

from lmzoo.corpora.corpus import Document
from lmzoo.mapped import blocks_of, drop_pages, ranges
from lmzoo.system.growing import GrowingArray, concatenated

MEMORY_CHARACTERS: Final = 1 << 25
"""The documents of a text with more characters than this are kept in a temporary file."""
_BLOCK = 1 << 24


@final
class StoredDocuments(Sequence[Document]):
    """A sequence of documents in a temporary file, from which each document is read when it is accessed.

    Slices and selections refer to the same file, so the splits of a corpus take no further space.
    """

    def __init__(self, data: NDArray[np.uint8], table: NDArray[np.int64], positions: NDArray[np.int64]) -> None:
        """Creates a sequence of some of the documents in a file.

        - `data`: the names and the texts of all N documents of the file in UTF-8, one document after the other.
        - `table` (N, 3): for each of them, the positions in `data` after its name and after its text, and the number of
          characters of its text.
        - `positions` (D,): the indices, among these N documents, of the D documents of the sequence.
        """
        self._data, self._table, self._positions = data, table, positions

    @property
    def n_characters(self) -> int:
        """Total number of characters of the texts."""
        total = 0
        for _, positions in blocks_of(self._positions):
            total += int(self._table[positions, 2].sum())
            drop_pages(self._table)
        return total

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> StoredDocuments: ...
    def __getitem__(self, index: int | slice) -> Document | StoredDocuments:
        if isinstance(index, slice):
            return StoredDocuments(self._data, self._table, self._positions[index])
        return self._document(int(self._positions[index]))

    def __iter__(self) -> Iterator[Document]:
        n_read = 0
        for position in self._positions:
            yield (document := self._document(int(position)))
            n_read += len(document.text)
            if n_read >= _BLOCK:
                for array in (self._data, self._table, self._positions):
                    drop_pages(array)
                n_read = 0

    def __reduce__(self) -> tuple[Callable[[list[Document]], Sequence[Document]], tuple[list[Document]]]:
        return stored, (list(self),)  # copies the documents of this sequence, not the whole file

    def at(self, places: NDArray[np.int64]) -> StoredDocuments:
        """Returns the documents with the indices `places` (M,) as a sequence of M documents."""
        positions = concatenated((self._positions[block] for _, block in blocks_of(places)), np.int64)
        return StoredDocuments(self._data, self._table, positions)

    def _document(self, position: int) -> Document:
        start = int(self._table[position - 1, 1]) if position else 0
        middle, end, _ = self._table[position].tolist()
        name = self._data[start:middle].tobytes().decode("utf-8", "surrogatepass")
        return Document(name, self._data[middle:end].tobytes().decode())


def stored(documents: Iterable[Document]) -> Sequence[Document]:
    """Returns documents as a sequence: a list or, if they have more than 32 million characters, `StoredDocuments`.

    Raises LmzooError if the disk has no space for the temporary file.
    """
    documents = iter(documents)
    kept: list[Document] = []
    n_characters = 0
    for document in documents:
        kept.append(document)
        n_characters += len(document.text)
        if n_characters > MEMORY_CHARACTERS:
            return _in_file(itertools.chain(kept, documents))
    return kept


def _in_file(documents: Iterator[Document]) -> StoredDocuments:
    """Writes documents to a temporary file, and returns them as a sequence that reads this file."""
    data, table = GrowingArray(np.uint8), GrowingArray(np.int64)
    pieces: list[bytes] = []
    rows: list[int] = []
    end = start = 0

    def write() -> None:
        data.extend(np.frombuffer(b"".join(pieces), np.uint8))
        table.extend(rows)
        pieces.clear()
        rows.clear()

    for document in documents:
        name, text = document.name.encode("utf-8", "surrogatepass"), document.text.encode()
        pieces += [name, text]
        rows += [end + len(name), end := end + len(name) + len(text), len(document.text)]
        if end - start >= _BLOCK:
            write()
            start = end
    write()
    whole = table.finish().reshape(-1, 3)
    return StoredDocuments(data.finish(), whole, concatenated(ranges(len(whole)), np.int64))


def count_characters(documents: Sequence[Document]) -> int:
    """Returns the total number of characters of documents; those in a temporary file need not be read for this."""
    if isinstance(documents, StoredDocuments):
        return documents.n_characters
    return sum(len(document.text) for document in documents)
