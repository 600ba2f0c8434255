"""Packs documents into batches without padding, so that step t of a batch is one matrix with a row per document.

Documents are sorted by length. The rows of step t are the documents that have a t-th token, which are the first rows of
step t - 1. A long document is cut into blocks that are processed in parallel; `lmzoo.models.hmm.inference` computes the
state distributions at the cuts.

    documents a b c, d e, f:   step 0: a d f    step 1: b e    step 2: c
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lmzoo.stream import TokenStream

if TYPE_CHECKING:
    from scipy import sparse

_LONGEST: Final = 4096
"""Documents with more tokens than this are cut."""
_BLOCK: Final = 1024
"""Tokens between two cuts: many enough for few cuts, few enough to make many rows from one long document."""
_LEAD: Final = 128
"""Tokens before and after a cut from which the first estimate of the state distributions at the cut is made."""
_MANY_ROWS: Final = 4096
_MANY_TOKENS: Final = 1 << 18
_MANY_ELEMENTS: Final = 1 << 25
"""Approximate limits of a batch: rows, tokens, and tokens x states (128 MB of float32 probabilities)."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of B blocks of text with P tokens in total, which are processed in parallel, one token of each at a time.

    A block is a document, or a part of a long document. The blocks are sorted by length, the longest first. Step t
    processes token t of every block that has one. The tokens are stored in the order of the steps: first token 0 of
    every block, then token 1, and so on.
    """

    starts: NDArray[np.int64]
    """Position in the stream at which each block starts (B,)."""
    bounds: NDArray[np.int64]
    """Bounds (S + 1,) of the S steps: the tokens of step t are tokens[bounds[t] : bounds[t + 1]]."""
    tokens: NDArray[np.int32]
    """Token ids (P,), step after step."""
    entry_cuts: NDArray[np.int64]
    """Number (B,) of the cut at which each block starts; -1 if the block starts a document."""
    exit_cuts: NDArray[np.int64]
    """Numbers of the cuts at which the blocks stop (B,), all after the same number of steps; empty if the blocks end
    documents."""

    @property
    def positions(self) -> NDArray[np.int64]:
        """Position (P,) in the token stream of each of the batch's P tokens."""
        return _positions(self.starts, self.bounds)

    @property
    def steps(self) -> list[slice]:
        """Slices of the token array of a batch, one for each step: slice t selects token t of every text block."""
        return [slice(*pair) for pair in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True)]

    @cached_property
    def by_token(self) -> tuple[NDArray[np.int32], sparse.csr_array]:
        """The U distinct token ids (U,) of a batch, and a sparse matrix (U, P) that sums values of its P tokens by id.

        Element (u, p) of the matrix is 1 if token p of the batch has the u-th id, and 0 otherwise. For example, the
        product of the matrix and the posteriors (P, K) of K states holds the expected emission counts (U, K).
        """
        from scipy import sparse  # slow to import, and needed in a fit only

        order = np.argsort(self.tokens, kind="stable").astype(np.int32)
        token_ids, counts = np.unique(self.tokens, return_counts=True)
        rows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        ones = np.ones(len(order), np.float32)
        return token_ids, sparse.csr_array((ones, order, rows), shape=(len(token_ids), len(order)))


@dataclass(frozen=True, eq=False)
class PackedText:
    """A token stream divided into batches of text blocks, which a hidden Markov model processes in parallel.

    A block is a document or, if the document is long, a part of it. The boundaries within documents are called cuts.
    """

    stream: TokenStream
    batches: list[Batch]
    n_cuts: int
    before_cuts: list[Batch]
    """Batches of the tokens just before every cut."""
    after_cuts: list[Batch]
    """Batches of the tokens just after every cut."""

    @classmethod
    def of(cls, stream: TokenStream, n_states: int, longest: int = _LONGEST, block: int = _BLOCK) -> PackedText:
        """Divides a token stream into batches of text blocks; a block is a document, or a part of a long one.

        A document with more than `longest` tokens is cut every `block` tokens. `n_states`, the number of states of the
        model, limits the size of a batch, because a batch needs memory for the distribution over the states at each of
        its tokens.
        """
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
    """Groups N text blocks, each a document or a part of a document, into batches of about equal numbers of tokens.

    - `starts`, `ends` (N,): positions in the stream at which each block starts and ends.
    - `entry_cuts`, `exit_cuts` (N,): number of the cut, a block boundary within a document, at which each block starts
      and ends; -1 if the block starts or ends at another position.
    - `n_states`: number of states of the model, which limits the size of a batch.

    Blocks with an exit cut and blocks without are put into different batches.
    """
    lengths = ends - starts
    max_tokens = min(_MANY_TOKENS, _MANY_ELEMENTS // n_states)
    longest_first = np.argsort(-lengths, kind="stable")
    batches = []
    for group in (longest_first[exit_cuts[longest_first] >= 0], longest_first[exit_cuts[longest_first] < 0]):
        filled = np.cumsum(lengths[group])
        n_tokens = int(lengths[group].sum())
        n_batches = max(-(-n_tokens // max_tokens), -(-len(group) // _MANY_ROWS))
        # Batches of equal work, so that no thread waits for another one.
        borders = np.searchsorted(filled, n_tokens * np.arange(1, n_batches) / n_batches)
        for chosen in np.split(group, borders):
            if len(chosen):
                rows = np.searchsorted(
                    -lengths[chosen], -np.arange(int(lengths[chosen[0]]))
                )  # (S,) blocks with a t-th token
                bounds = np.concatenate([[0], np.cumsum(rows)])
                tokens = stream.ids[_positions(starts[chosen], bounds)]
                exits = exit_cuts[chosen]
                batches.append(Batch(starts[chosen], bounds, tokens, entry_cuts[chosen], exits[exits >= 0]))
    return batches


def _positions(starts: NDArray[np.int64], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = np.diff(bounds)
    steps = np.repeat(np.arange(len(rows)), rows)
    return starts[np.arange(bounds[-1]) - bounds[steps]] + steps
