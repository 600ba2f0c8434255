"""What a model learns from and is scored on: token ids with document boundaries.

Law of boundaries: end-of-text (EOT, id 0) ends every document and is predicted and scored once. There is no
begin-of-text id: a document starts from the empty context, and what follows an EOT is the start of a document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.errors import CorpusError, TokenIdError

EOT: Final = 0
"""The id of end-of-text in every vocabulary."""


@dataclass(frozen=True, eq=False)
class TokenStream:
    """Documents, one after the other, each ended by EOT (the last one may be left open)."""

    ids: NDArray[np.int32]
    """(T,) token ids; read-only, possibly memory-mapped."""
    starts: NDArray[np.int64] = field(init=False)
    """(D,) position of the first id of every document."""

    def __post_init__(self) -> None:
        ids = np.asarray(self.ids)
        if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
            raise TokenIdError(f"a token stream is a (T,) array of integers, got {ids.dtype} of shape {ids.shape}")
        if ids.dtype != np.int32:
            if ids.size and not (ids.min() >= -(2**31) and ids.max() < 2**31):
                raise TokenIdError(f"token ids must fit 32 bits, got {ids.min()} to {ids.max()}")
            ids = ids.astype(np.int32)
        ids = ids.view()
        ids.flags.writeable = False
        ends = np.flatnonzero(ids == EOT)
        starts = np.concatenate([np.zeros(min(1, ids.size), np.int64), ends[ends + 1 < ids.size] + 1])
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "starts", starts)

    @classmethod
    def of(cls, ids_or_stream: ArrayLike | TokenStream, vocab_size: int) -> TokenStream:
        """A stream of these ids, all checked to lie in the vocabulary (TokenIdError otherwise)."""
        stream = ids_or_stream if isinstance(ids_or_stream, TokenStream) else cls(np.asarray(ids_or_stream))
        check_ids(stream.ids, vocab_size)
        return stream

    @classmethod
    def from_documents(cls, documents: Iterable[ArrayLike]) -> TokenStream:
        """Joins documents given as id arrays without EOT; adds the EOT of each."""
        eot = np.array([EOT], np.int32)
        parts: list[NDArray[np.int32]] = []
        for document in documents:
            ids = np.asarray(document, np.int32)
            if (ids == EOT).any():
                raise TokenIdError(f"a document contains the id {EOT} (end-of-text), which only ends documents")
            parts += [ids, eot]
        return cls(np.concatenate(parts) if parts else np.empty(0, np.int32))

    def __len__(self) -> int:
        return self.ids.size

    @property
    def n_documents(self) -> int:
        return self.starts.size

    @property
    def ends(self) -> NDArray[np.int64]:
        """(D,) position after the last id of every document."""
        return np.append(self.starts[1:], len(self)).astype(np.int64)[: self.n_documents]

    def documents(self) -> Iterator[NDArray[np.int32]]:
        """The ids of each document, EOT included; views, no copies."""
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield self.ids[start:end]

    def mask(self, positions: NDArray[np.integer] | None) -> NDArray[np.bool_]:
        """Returns a (T,) array that is True at the given positions of the stream; at all T positions for None."""
        if positions is None:
            return np.ones(len(self), bool)
        mask = np.zeros(len(self), bool)
        mask[positions] = True
        return mask

    def previous_ids(self) -> NDArray[np.int32]:
        """(T,) the id before each position; EOT at every document start, since both mean the empty context."""
        previous = np.empty_like(self.ids)
        previous[:1] = EOT
        previous[1:] = self.ids[:-1]
        return previous


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What `fit` may see: a train and a valid split. There is no test split here, on purpose."""

    train: TokenStream
    valid: TokenStream

    def fingerprint(self, facts: Any) -> str:
        """What a fit is of: a hash of both splits and of `facts`, settings and a seed as plain values."""
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for stream in (self.train, self.valid):
            digest.update(len(stream).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(stream.ids, "<i4").data)
        return digest.hexdigest()

    def checked(self, vocab_size: int) -> TrainingData:
        """Returns itself; raises CorpusError if a split is empty, TokenIdError for ids outside the vocabulary."""
        for name in ("train", "valid"):
            stream: TokenStream = getattr(self, name)
            if not len(stream):
                raise CorpusError(
                    f"the {name} split is empty: a model needs at least one document in train and in valid"
                )
            check_ids(stream.ids, vocab_size)
        return self


def check_ids(ids: NDArray[np.integer], vocab_size: int) -> None:
    """Raises TokenIdError unless every id lies in 0 .. vocab_size - 1."""
    if ids.size:
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= vocab_size:
            raise TokenIdError(
                f"token id {low if low < 0 else high} is outside the vocabulary of {vocab_size} (0 to {vocab_size - 1})"
            )
