"""Token ids with document boundaries: the input of training and evaluation.

EOT (end of text, id 0) ends every document, and is predicted and scored once. There is no token for the start of a
document: its first token is predicted from the empty context, and the token after an EOT starts a new document.
"""

from __future__ import annotations

import hashlib
import json
import operator
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.checks import as_whole
from lmzoo.errors import CorpusError, TokenIdError, UsageError
from lmzoo.mapped import blocks_of
from lmzoo.system.growing import GrowingArray

EOT: Final = 0
"""The id of EOT, the end-of-text token, in every vocabulary."""


@dataclass(frozen=True, eq=False)
class TokenStream:
    """A sequence of D documents as T token ids, each document ended by EOT (the last one may lack its EOT)."""

    ids: NDArray[np.int32]
    """Token ids of all documents, an array (T,); read-only and possibly memory-mapped."""
    starts: NDArray[np.int64] = field(init=False)
    """Position of the first id of each document, an array (D,); memory-mapped if there are very many documents."""
    ends: NDArray[np.int64] = field(init=False)
    """Position after the last id of each document, an array (D,); memory-mapped if there are very many documents."""

    def __post_init__(self) -> None:
        ids = as_ids(self.ids).view()
        ids.flags.writeable = False
        bounds = GrowingArray(np.int64)
        bounds.extend([0])
        for start, block in blocks_of(ids):
            bounds.extend(start + 1 + np.flatnonzero(block == EOT))
        if ids.size and ids[-1] != EOT:
            bounds.extend([ids.size])
        finished = bounds.finish()
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "starts", finished[:-1])
        object.__setattr__(self, "ends", finished[1:])

    @classmethod
    def of(cls, ids_or_stream: ArrayLike | TokenStream, vocab_size: int) -> TokenStream:
        """Returns token ids as a stream; raises TokenIdError unless all ids are below `vocab_size`."""
        stream = ids_or_stream if isinstance(ids_or_stream, TokenStream) else cls(as_ids(ids_or_stream))
        check_ids(stream.ids, vocab_size)
        return stream

    @classmethod
    def from_documents(cls, documents: Iterable[ArrayLike]) -> TokenStream:
        """Joins documents to a stream; each is an array of token ids without EOT, and gets an EOT at its end.

        Raises TokenIdError for a document that contains EOT.
        """
        eot = np.array([EOT], np.int32)
        parts: list[NDArray[np.int32]] = []
        for document in documents:
            ids = as_ids(document)
            if (ids == EOT).any():
                raise TokenIdError(f"a document contains the id {EOT} (end-of-text), which may only end a document")
            parts += [ids, eot]
        return cls(np.concatenate(parts) if parts else np.empty(0, np.int32))

    def __len__(self) -> int:
        return self.ids.size

    @property
    def n_documents(self) -> int:
        """Number of documents in the stream."""
        return self.starts.size

    def documents(self) -> Iterator[NDArray[np.int32]]:
        """Yields the token ids of each document, its EOT included, as views of the stream."""
        for start, end in zip(self.starts, self.ends, strict=True):
            yield self.ids[start:end]

    def sample(self, n_tokens: int) -> TokenStream:
        """Returns every k-th document of the stream, where k is the length of the stream divided by `n_tokens`.

        k is rounded down, so the sample has about `n_tokens` tokens or somewhat more.
        """
        step = max(1, len(self) // n_tokens)
        return self if step == 1 else TokenStream(np.concatenate(list(self.documents())[::step]))

    def mask(self, positions: NDArray[np.integer] | None) -> NDArray[np.bool_]:
        """Returns a mask (T,) of the T tokens of the stream, True at the given positions; None means all positions."""
        if positions is None:
            return np.ones(len(self), bool)
        mask = np.zeros(len(self), bool)
        mask[positions] = True
        return mask

    def selected(self, positions: NDArray[np.intp] | None) -> NDArray[np.intp]:
        """Returns the given positions (N,); None means all T positions of the stream."""
        return np.arange(len(self)) if positions is None else positions

    def document_starts(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Returns, for each of N positions, the position (N,) at which the document that contains it begins."""
        return self.starts[np.searchsorted(self.starts, positions, side="right") - 1]

    def previous_ids(self) -> NDArray[np.int32]:
        """Returns the token id before each of the T positions, an array (T,); EOT at the start of each document."""
        previous = np.empty_like(self.ids)
        previous[:1] = EOT
        previous[1:] = self.ids[:-1]
        return previous


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The train and validation splits of a corpus. Models are trained without access to the test split."""

    train: TokenStream
    valid: TokenStream
    """The validation split, for tuning and early stopping."""

    def __post_init__(self) -> None:
        for name in ("train", "valid"):
            if not isinstance(getattr(self, name), TokenStream):
                raise UsageError(
                    f"the {name} split must be a TokenStream, as in TokenStream.from_documents([[5, 6], [7]]), got "
                    f"{_shown(getattr(self, name))}"
                )

    @staticmethod
    def of(data: TrainingData, vocab_size: int) -> TrainingData:
        """Checks both splits of training data, and returns the data unchanged.

        Raises UsageError for an object of another type, CorpusError if a split is empty, and TokenIdError unless all
        ids are from 0 to `vocab_size` - 1.
        """
        if not isinstance(data, TrainingData):
            raise UsageError(
                "a model is fitted to TrainingData, such as TrainingData(train, valid) of two TokenStreams, got "
                f"{_shown(data)}: to train on texts, use Predictor.fit"
            )
        for name in ("train", "valid"):
            stream: TokenStream = getattr(data, name)
            if not len(stream):
                raise CorpusError(
                    f"the {name} split is empty: training needs at least one document in the train and valid splits"
                )
            check_ids(stream.ids, vocab_size)
        return data

    def fingerprint(self, facts: Any) -> str:
        """Returns a hash of both splits and of `facts` (settings and seed), which identifies a training run."""
        # NumPy integers, such as a seed, are hashed like Python integers.
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=operator.index).encode())
        for stream in (self.train, self.valid):
            digest.update(len(stream).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(stream.ids, "<i4").data)
        return digest.hexdigest()


_TRUTH_VALUES = {bool, np.bool_}


def as_ids(values: ArrayLike) -> NDArray[np.int32]:
    """Returns token ids as an array (T,) of 32-bit integers.

    Raises TokenIdError unless `values` is a one-dimensional array or sequence of integers. Texts, fractions and truth
    values are refused, also where Python or NumPy would convert them.
    """
    try:
        ids = np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:  # lists of different lengths, or other objects
        raise TokenIdError(f"token ids must be a one-dimensional array of integers, got {_shown(values)}") from error
    if ids.ndim != 1:
        raise TokenIdError(
            f"token ids must be a one-dimensional array of integers, got {_shown(values)} of shape {ids.shape}"
        )
    if not ids.size:
        return ids.astype(np.int32)
    is_text = isinstance(values, bytearray)  # which NumPy reads as numbers, unlike bytes
    has_truth_values = isinstance(values, Sequence) and not _TRUTH_VALUES.isdisjoint(map(type, values))
    if ids.dtype.kind not in "iu" or is_text or has_truth_values:
        raise TokenIdError(f"token ids must be integers, got {_shown(values)}")
    if ids.dtype != np.int32:
        if not (ids.min() >= -(2**31) and ids.max() < 2**31):
            raise TokenIdError(f"token ids must fit 32 bits, got {ids.min()} to {ids.max()}")
        ids = ids.astype(np.int32)
    return ids


def as_id(value: object, vocab_size: int) -> int:
    """Returns one token id as an int; raises TokenIdError unless it is an integer from 0 to `vocab_size` - 1."""
    token_id = as_whole(value)
    if token_id is None:
        raise TokenIdError(f"a token id must be an integer, got {_shown(value)}")
    if not 0 <= token_id < vocab_size:
        raise TokenIdError(f"token id {token_id} is outside the vocabulary of {vocab_size} (0 to {vocab_size - 1})")
    return token_id


def _shown(value: object) -> str:
    return " ".join(reprlib.repr(value).split())


def check_ids(ids: NDArray[np.integer], vocab_size: int) -> None:
    """Raises TokenIdError unless all token ids are from 0 to `vocab_size` - 1."""
    for _, block in blocks_of(ids):
        low, high = int(block.min()), int(block.max())
        if low < 0 or high >= vocab_size:
            raise TokenIdError(
                f"token id {low if low < 0 else high} is outside the vocabulary of {vocab_size} (0 to {vocab_size - 1})"
            )
