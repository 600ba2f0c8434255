"""Patterns of looking at the last n - 1 tokens, the contexts of each that a text has, and what followed them.

A pattern is a number of n - 1 bits, the highest one for the last token. So the order in which patterns are asked is
from the greatest number down, and without its farthest token, the lowest bit set, a pattern is a smaller number. That
makes a tree of contexts: each is found from the one without its farthest token.
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
    """How far back a pattern looks; 0 if it looks at nothing."""
    return order - (pattern & -pattern).bit_length() if pattern else 0


def recent_tokens(stream: TokenStream, order: int) -> NDArray[np.int64]:
    """(n - 1, T) the tokens 1, 2 .. n - 1 places before each position; EOT before the start of a document."""
    positions = np.arange(len(stream))
    in_document = positions - np.repeat(stream.starts, stream.ends - stream.starts)
    lags = np.arange(1, order)[:, None]
    return np.where(in_document >= lags, stream.ids[np.maximum(positions - lags, 0)], EOT).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ContextTables:
    """The contexts of P patterns that were seen, C in all, numbered pattern by pattern, and what followed them.

    Number C stands for all contexts that were never seen: nothing follows it.
    """

    first: NDArray[np.int64]
    """(P + 1,) the first context of each pattern, and C."""
    keys: NDArray[np.int64]
    """(C,) of each context, the number of that without its farthest token * V + this token; rising in a pattern."""
    starts: NDArray[np.int64]
    """(C + 2,) where the tokens that followed each context begin."""
    tokens: NDArray[np.int32]
    """(N,) rising in a context."""
    probs: NDArray[np.float64]
    """(N,) their probabilities, which sum to 1 in each context."""
    vocab_size: int

    def find(self, recent: NDArray[np.int64]) -> NDArray[np.int64]:
        """(P, B) the context of each pattern after B histories, which are given by their last tokens (n - 1, B)."""
        found = np.zeros((self.first.size - 1, recent.shape[1]), np.int64)
        for pattern in range(1, len(found)):
            keys = self.keys[self.first[pattern] : self.first[pattern + 1]]
            farthest = recent[_farthest(pattern, len(recent) + 1) - 1]
            place = _search(keys, found[_without_farthest(pattern)] * self.vocab_size + farthest)
            found[pattern] = np.where(place >= 0, self.first[pattern] + place, self.keys.size)
        return found

    def probs_of(self, ids: NDArray[np.int32], contexts: NDArray[np.int64]) -> NDArray[np.float64]:
        """(P, B) what B ids have after the contexts (P, B) of each pattern; 0 if they never followed."""
        place = _search(self._pairs, contexts * self.vocab_size + ids)
        return np.where(place >= 0, self.probs[place], 0)

    @cached_property
    def _pairs(self) -> NDArray[np.int64]:
        """(N,) context * V + token; rising."""
        return np.repeat(np.arange(self.starts.size - 1), np.diff(self.starts)) * self.vocab_size + self.tokens


def _search(values: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each wanted number is among rising values, -1 if it is not."""
    place = np.minimum(np.searchsorted(values, wanted), values.size - 1)
    return np.where(values[place] == wanted, place, -1)


def count_contexts(
    stream: TokenStream, vocab_size: int, order: int, on_progress: OnProgress | None
) -> tuple[ContextTables, NDArray[np.float64]]:
    """The tables, and (C + 1,) the share of the counts that discounting frees in each context."""
    recent, n_patterns = recent_tokens(stream, order), 1 << (order - 1)
    contexts = np.zeros((n_patterns, len(stream)), np.int64)
    first, keys, sizes, tokens, probs, freed = [0], [], [np.zeros(1, np.int64)], [], [], []
    for pattern in range(n_patterns):
        if on_progress:
            on_progress(Progress(pattern, n_patterns, "patterns", "counting"))
        reach = _farthest(pattern, order)
        key = contexts[_without_farthest(pattern)] * vocab_size + (recent[reach - 1] if pattern else 0)
        own_keys, own = np.unique(key, return_inverse=True)
        contexts[pattern] = first[-1] + own
        pairs, pair, counts = np.unique(own * vocab_size + stream.ids, return_inverse=True, return_counts=True)
        owners, followers = np.divmod(pairs, vocab_size)
        if reach < order - 1:
            ways = np.unique(pair * vocab_size + recent[reach]) // vocab_size
            at_start = (pattern > 0) & (own_keys[owners] % vocab_size == EOT)  # nothing comes before a document
            counts = np.where(at_start, counts, np.bincount(ways))
        kept = counts - _discount(counts)
        totals, kept_totals = (np.bincount(owners, values) for values in (counts, kept))
        first.append(first[-1] + own_keys.size)
        keys.append(own_keys)
        sizes.append(np.bincount(owners))
        tokens.append(followers.astype(np.int32))
        probs.append(kept / kept_totals[owners])
        freed.append(1 - kept_totals / totals)
    starts = np.cumsum(np.concatenate([*sizes, [0]]))
    tables = ContextTables(
        np.array(first), np.concatenate(keys), starts, np.concatenate(tokens), np.concatenate(probs), vocab_size
    )
    return tables, np.concatenate([*freed, [1.0]])


def _discount(counts: NDArray[np.integer]) -> float:
    """D of these counts; 1/2 where they do not tell."""
    t1, t2 = (int(np.count_nonzero(counts == count)) for count in (1, 2))
    return t1 / (t1 + 2 * t2) if t1 and t2 else 0.5
