"""Stores, for each pattern of the last n - 1 tokens, the contexts that occur in a text and the tokens that followed.

A pattern is a number of n - 1 bits, one for each token that it uses; the highest bit is for the last token. Patterns
are asked for a prediction from the greatest number to the smallest. Without its farthest token, the lowest bit that is
set, a pattern is a smaller number. So the contexts form a tree: each is a child of the context without its farthest
token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lmzoo.stream import EOT, TokenStream
from lmzoo.system.progress import OnProgress, Progress


def _without_farthest(pattern: int) -> int:
    return pattern & (pattern - 1)


def _farthest(pattern: int, order: int) -> int:
    """Returns the distance to the farthest of the tokens that a pattern selects, or 0 if it selects no token.

    A pattern selects some of the last `order` - 1 tokens. It is a number with one bit for each of them, which is 1 if
    the token is selected. The highest bit is for the last token, which has the distance 1.
    """
    return order - (pattern & -pattern).bit_length() if pattern else 0


def recent_tokens(stream: TokenStream, order: int) -> NDArray[np.int64]:
    """Returns an array (n - 1, T) of the tokens 1, 2 .. n - 1 positions before each of T tokens, with n = `order`.

    Positions before the start of the document have the id EOT.
    """
    positions = np.arange(len(stream))
    in_document = positions - np.repeat(stream.starts, stream.ends - stream.starts)
    lags = np.arange(1, order)[:, None]
    return np.where(in_document >= lags, stream.ids[np.maximum(positions - lags, 0)], EOT).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ContextTables:
    """The contexts that occur in a text, and the probabilities of the tokens that followed each of them.

    A context of a skip n-gram model consists of the tokens that one of P patterns selects from the last n - 1 tokens.
    The C contexts that occur have the numbers 0 to C - 1, pattern by pattern. The number C stands for all other
    contexts, which no token follows.
    """

    first: NDArray[np.int64]
    """(P + 1,) number of the first context of each pattern, and C."""
    keys: NDArray[np.int64]
    """(C,) for each context, the number of the context without its farthest token, times V, plus this token. Keys
    increase within a pattern."""
    starts: NDArray[np.int64]
    """(C + 2,) index of the first token that followed each context."""
    tokens: NDArray[np.int32]
    """(N,) the tokens that followed the contexts, increasing within a context."""
    probs: NDArray[np.float64]
    """(N,) the probabilities of these tokens, which sum to 1 in each context."""
    vocab_size: int

    def find(self, recent: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the numbers (P, B) of the contexts at B positions of a text, one context for each of P patterns.

        A pattern selects a subset of the last n - 1 tokens, which is its context. `recent` (n - 1, B) are the last n -
        1 tokens before each position, the last one first. The contexts that occur in the training text have the numbers
        0 to C - 1; the number C stands for all other contexts.
        """
        numbers = np.zeros((self.first.size - 1, recent.shape[1]), np.int64)
        for pattern in range(1, len(numbers)):
            keys = self.keys[self.first[pattern] : self.first[pattern + 1]]
            farthest = recent[_farthest(pattern, len(recent) + 1) - 1]
            index = _search(keys, numbers[_without_farthest(pattern)] * self.vocab_size + farthest)
            numbers[pattern] = np.where(index >= 0, self.first[pattern] + index, self.keys.size)
        return numbers

    def probs_of(self, ids: NDArray[np.int32], contexts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the probability (P, B) of each of B tokens `ids` after each of P contexts.

        `contexts` (P, B) are the numbers of the contexts, as `find` returns them: one context for each of P patterns,
        which select subsets of the last n - 1 tokens. The probability is 0 if the token never followed the context.
        """
        index = _search(self._pairs, contexts * self.vocab_size + ids)
        return np.where(index >= 0, self.probs[index], 0)

    @cached_property
    def _pairs(self) -> NDArray[np.int64]:
        """The N pairs of a context and a token that followed it, as increasing numbers context * V + token.

        V is the size of the vocabulary.
        """
        return np.repeat(np.arange(self.starts.size - 1), np.diff(self.starts)) * self.vocab_size + self.tokens


def _search(values: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.intp]:
    """Returns the index of each wanted number in the increasing array `values`, or -1 if it is not there."""
    index = np.minimum(np.searchsorted(values, wanted), values.size - 1)
    return np.where(values[index] == wanted, index, -1)


def count_contexts(
    stream: TokenStream, vocab_size: int, order: int, on_progress: OnProgress | None
) -> tuple[ContextTables, NDArray[np.float64]]:
    """Counts the tokens that follow each context of a text, and turns the counts into discounted probabilities.

    A skip n-gram model predicts a token from contexts that are subsets of the last n - 1 = `order` - 1 tokens. A
    pattern says which of these tokens belong to the context; there are 2^(n - 1) patterns. All contexts that occur in
    the text, with any pattern, are numbered from 0 to C - 1; number C stands for every context that does not occur.

    Returns the tables with the contexts and the probabilities of the tokens after each, and an array (C + 1,): the
    fraction of the counts after each context that discounting removed. For number C, this fraction is 1.
    """
    recent, n_patterns = recent_tokens(stream, order), 1 << (order - 1)
    contexts = np.zeros((n_patterns, len(stream)), np.int64)
    first, keys, sizes, tokens, probs, left_over = [0], [], [np.zeros(1, np.int64)], [], [], []
    for pattern in range(n_patterns):
        if on_progress:
            on_progress(Progress(pattern, n_patterns, "patterns", "counting"))
        reach = _farthest(pattern, order)
        key = contexts[_without_farthest(pattern)] * vocab_size + (recent[reach - 1] if pattern else 0)
        pattern_keys, index = np.unique(key, return_inverse=True)
        contexts[pattern] = first[-1] + index
        pairs, pair, counts = np.unique(index * vocab_size + stream.ids, return_inverse=True, return_counts=True)
        pair_contexts, followers = np.divmod(pairs, vocab_size)
        if reach < order - 1:
            ways = np.unique(pair * vocab_size + recent[reach]) // vocab_size
            at_start = (pattern > 0) & (pattern_keys[pair_contexts] % vocab_size == EOT)  # no token precedes a document
            counts = np.where(at_start, counts, np.bincount(ways))
        discounted = counts - _discount(counts)
        totals, discounted_totals = (np.bincount(pair_contexts, values) for values in (counts, discounted))
        first.append(first[-1] + pattern_keys.size)
        keys.append(pattern_keys)
        sizes.append(np.bincount(pair_contexts))
        tokens.append(followers.astype(np.int32))
        probs.append(discounted / discounted_totals[pair_contexts])
        left_over.append(1 - discounted_totals / totals)
    starts = np.cumsum(np.concatenate([*sizes, [0]]))
    tables = ContextTables(
        np.array(first), np.concatenate(keys), starts, np.concatenate(tokens), np.concatenate(probs), vocab_size
    )
    return tables, np.concatenate([*left_over, [1.0]])


def _discount(counts: NDArray[np.integer]) -> float:
    """Returns the discount D = t1 / (t1 + 2 t2), or 1/2 if t1 or t2 is 0.

    t1 and t2 are the numbers of elements of `counts` that are 1 and 2.
    """
    t1, t2 = (int(np.count_nonzero(counts == count)) for count in (1, 2))
    return t1 / (t1 + 2 * t2) if t1 and t2 else 0.5
