"""Decides to which partition each n-gram of a text belongs, so that partitions have about the same size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.ngram.counting.counted import add_counts
from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable
from lmzoo.system.executors import Arrays

_I32, _I64 = types.int32, types.int64


@dataclass(frozen=True, eq=False)
class Plan:
    """The assignment of the n-grams of a text with V different tokens to partitions.

    The partition of an n-gram depends on its second-to-last token and, if this is split, on the token before that.
    """

    owners: NDArray[np.int32]
    """(V,) for each token, the partition of the n-grams whose second-to-last token it is; -1 - s for `split[s]`."""
    pair_owners: NDArray[np.int32]
    """(S, V) for each of S split tokens and each token before it, the partition of the n-grams with this pair. A bigram
    at the start of a document has no token before the split one; it has the partition of its last token instead."""
    sizes: NDArray[np.int64]
    """The number of n-grams of highest order in each partition."""

    @property
    def n_partitions(self) -> int:
        """The number of partitions."""
        return self.sizes.size

    @property
    def split(self) -> NDArray[np.int32]:
        """The S tokens, in increasing order, whose n-grams are divided among several partitions."""
        return np.flatnonzero(self.owners < 0).astype(np.int32)

    @classmethod
    def of(
        cls, counts: NDArray[np.int64], split: NDArray[np.int32], pairs: NDArray[np.int64], n_partitions: int
    ) -> Self:
        """Assigns consecutive tokens to each partition, so that no partition is larger than twice the mean.

        - `counts` (V,): the number of n-grams whose second-to-last token is each token.
        - `split` (S,): the tokens that are to be split, from `too_frequent`.
        - `pairs` (S, V): for each split token, the number of its n-grams with each token before it.

        A partition takes tokens until it reaches the mean size, so it exceeds the mean by less than the number of
        n-grams of its last token. A partition can be larger than twice the mean only if a split token and one token
        before it have more n-grams than an average partition.
        """
        rows = np.full(counts.size, -1)
        rows[split] = np.arange(split.size)
        sizes = np.ones(counts.size, np.int64)
        sizes[split] = counts.size  # a split token is replaced by V parts
        starts = np.cumsum(sizes) - sizes
        parts = np.empty(int(sizes.sum()), np.int64)
        parts[starts] = counts
        places = starts[split][:, None] + np.arange(counts.size)
        parts[places] = pairs
        before = np.cumsum(parts) - parts
        owners = np.minimum(before * n_partitions // max(1, int(parts.sum())), n_partitions - 1).astype(np.int32)
        sizes = np.bincount(owners, parts, n_partitions).astype(np.int64)
        return cls(np.where(rows < 0, owners[starts], -1 - rows).astype(np.int32), owners[places], sizes)


def too_frequent(counts: NDArray[np.int64], n_partitions: int) -> NDArray[np.int32]:
    """Returns the tokens, in increasing order, whose occurrences are more than the n-grams of an average partition.

    `counts` (V,) are the numbers of occurrences of all tokens.
    """
    return np.flatnonzero(counts * n_partitions > counts.sum()).astype(np.int32)


def count_tokens(shard: Arrays, first: int, vocab_size: int) -> Iterator[Arrays]:
    """Counts the occurrences (V,) of each token in `shard["ids"]`, a part of a text, from the position `first` on."""
    counts = np.zeros(vocab_size, np.int32)
    add_counts(shard["ids"][first:], 0, counts)
    yield {"counts": counts}


def count_pairs(shard: Arrays, first: int, order: int, owners: NDArray[np.int32], n_split: int) -> Iterator[Arrays]:
    """Counts the n-grams (S, V) whose second-to-last token is each of S split tokens, by the token before it.

    - `shard["ids"]`: a part of a text. The n-grams end at position `first` or later.
    - `owners` (V,): as in `Plan`.
    """
    counts = np.zeros((n_split, owners.size), np.int32)
    _count_pairs(shard["ids"], first, order, owners, counts)
    yield {"counts": counts}


@kernel(read_only(_I32), _I64, _I64, returns=_I32)
def third_token(ids, position, order):
    """Returns the token that determines the partition of an n-gram whose second-to-last token is split.

    This is the token before the split token or, if the n-gram is a bigram, its last token. The n-gram ends at
    `position` of the text `ids`, and has at most `order` tokens.
    """
    return ids[position - 2] if order > 2 and ids[position - 1] != EOT else ids[position]


@kernel(read_only(_I32), _I64, _I64, read_only(_I32), writable(_I32, 2))
def _count_pairs(ids, first, order, owners, counts):
    for position in range(first, ids.size):
        row = -1 - owners[ids[position - 1]]
        if row >= 0:
            counts[row, third_token(ids, position, order)] += 1


@kernel(read_only(_I32), _I64, _I64, read_only(_I32), read_only(_I32, 2), writable(_I32))
def find_owners(ids, first, order, owners, pair_owners, result):
    """Writes the partition of the n-gram that ends at each position of a text, from `first` on, to `result`.

    `owners` and `pair_owners` are those of a `Plan`, and `order` is the highest length of n-grams.
    """
    for position in range(first, ids.size):
        owner = owners[ids[position - 1]]
        if owner < 0:
            owner = pair_owners[-1 - owner, third_token(ids, position, order)]
        result[position - first] = owner
