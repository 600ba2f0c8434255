"""Documents packed so that many are walked side by side: step t of a batch is one matrix, a row for each document.

Documents are sorted by length and nothing is padded: the rows of step t are the documents that have a t-th token, the
first rows of step t - 1. A long document is cut into blocks that are walked in parallel; `inference` finds the
beliefs at the cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lmzoo.stream import TokenStream

_LONGEST: Final = 4096
"""Documents of more tokens are cut."""
_BLOCK: Final = 1024
"""Where they are cut: long enough for few cuts, short enough to make many rows of one long document."""
_LEAD: Final = 128
"""How many tokens before and after a cut are enough, as a rule, to know the beliefs at it."""
_MANY_ROWS: Final = 4096
_MANY_TOKENS: Final = 1 << 18
_MANY_ELEMENTS: Final = 1 << 25
"""A batch has about so many rows, tokens, and tokens x states (128 MB of float32 beliefs) at most."""


@dataclass(frozen=True, eq=False)
class Batch:
    """B blocks of text, the longest first, and their P tokens in order of step."""

    starts: NDArray[np.int64]
    """(B,) where in the stream each block starts."""
    bounds: NDArray[np.int64]
    """(S + 1,) the tokens of step t are bounds[t] to bounds[t + 1]."""
    tokens: NDArray[np.int32]
    """(P,) token ids, step after step."""
    entry_cuts: NDArray[np.int64]
    """(B,) the cut at which each block starts; -1 = it starts a document."""
    exit_cuts: NDArray[np.int64]
    """(B,) the cuts at which the blocks stop, all after the same number of steps; or (0,), if they end documents."""

    @property
    def positions(self) -> NDArray[np.int64]:
        """(P,) where in the stream each token stands."""
        return _positions(self.starts, self.bounds)

    @property
    def steps(self) -> list[slice]:
        """The tokens of each step."""
        return [slice(*pair) for pair in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True)]

    @cached_property
    def by_token(self) -> tuple[NDArray[np.int32], sparse.csr_array]:
        """(U,) the distinct tokens, and a (U, P) matrix of ones that sums rows of (P, K) token by token."""
        order = np.argsort(self.tokens, kind="stable").astype(np.int32)
        token_ids, counts = np.unique(self.tokens, return_counts=True)
        rows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        ones = np.ones(len(order), np.float32)
        return token_ids, sparse.csr_array((ones, order, rows), shape=(len(token_ids), len(order)))


@dataclass(frozen=True, eq=False)
class PackedText:
    """A stream in batches of blocks, for a model of K states."""

    stream: TokenStream
    batches: list[Batch]
    n_cuts: int
    before_cuts: list[Batch]
    """The text just before every cut."""
    after_cuts: list[Batch]
    """The text just after every cut."""

    @classmethod
    def of(cls, stream: TokenStream, n_states: int, longest: int = _LONGEST, block: int = _BLOCK) -> PackedText:
        """Packs a stream; documents of more than `longest` tokens are cut after every `block` tokens."""
        document_lengths = stream.ends - stream.starts
        n_blocks = np.where(document_lengths > longest, -(-document_lengths // block), 1)  # (D,)
        number = np.arange(n_blocks.sum()) - np.repeat(np.cumsum(n_blocks) - n_blocks, n_blocks)  # within its document
        starts = np.repeat(stream.starts, n_blocks) + block * number
        ends = np.append(starts[1:], len(stream))[: len(starts)]
        follows = number > 0
        entry_cuts = np.where(follows, np.cumsum(follows) - 1, -1)
        exit_cuts = np.append(entry_cuts[1:], -1)[: len(starts)]  # a block stops at the cut where the next one starts
        cuts, lead = starts[follows], min(_LEAD, block)
        none, every = np.full(len(cuts), -1), np.arange(len(cuts))
        return cls(
            stream,
            _batches(stream, starts, ends, entry_cuts, exit_cuts, n_states),
            len(cuts),
            _batches(stream, cuts - lead, cuts, none, every, n_states),
            _batches(stream, cuts, np.minimum(cuts + lead, ends[follows]), every, none, n_states),
        )


def _batches(
    stream: TokenStream,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    entry_cuts: NDArray[np.int64],
    exit_cuts: NDArray[np.int64],
    n_states: int,
) -> list[Batch]:
    """Packs blocks, given by where they start and end: those that stop at a cut apart from the others."""
    lengths = ends - starts
    max_tokens = min(_MANY_TOKENS, _MANY_ELEMENTS // n_states)
    longest_first = np.argsort(-lengths, kind="stable")
    batches = []
    for group in (longest_first[exit_cuts[longest_first] >= 0], longest_first[exit_cuts[longest_first] < 0]):
        filled = np.cumsum(lengths[group])
        n_tokens = int(lengths[group].sum())
        n_batches = max(-(-n_tokens // max_tokens), -(-len(group) // _MANY_ROWS))
        # Batches of equal work, so that no thread waits for another.
        borders = np.searchsorted(filled, n_tokens * np.arange(1, n_batches) / n_batches)
        for chosen in np.split(group, borders):
            if len(chosen):
                rows = np.searchsorted(-lengths[chosen], -np.arange(int(lengths[chosen[0]])))  # (S,) with a t-th token
                bounds = np.concatenate([[0], np.cumsum(rows)])
                tokens = stream.ids[_positions(starts[chosen], bounds)]
                exits = exit_cuts[chosen]
                batches.append(Batch(starts[chosen], bounds, tokens, entry_cuts[chosen], exits[exits >= 0]))
    return batches


def _positions(starts: NDArray[np.int64], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = np.diff(bounds)
    steps = np.repeat(np.arange(len(rows)), rows)
    return starts[np.arange(bounds[-1]) - bounds[steps]] + steps
