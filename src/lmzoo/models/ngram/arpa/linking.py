"""Builds the trie from lists of n-grams in any order, and adds n-grams that the trie needs but the lists lack.

Every n-gram of the trie needs its context and its suffix: the n-grams without its last and without its first token. For
each order, from the longest n-grams down, one sort of its n-grams, together with the contexts and suffixes of the order
above, shows which of these are missing and gives the positions of all of them in the trie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import SavedModelError
from lmzoo.models.ngram.trie import Trie


class RepeatedNgramError(Exception):
    """Raised if an n-gram of length `order` occurs twice in its list; `index` is the index of the second one."""

    def __init__(self, order: int, index: int) -> None:
        super().__init__(order, index)
        self.order, self.index = order, index


def link(
    ngrams: Sequence[NDArray[np.int32]],
    log_probs: Sequence[NDArray[np.float64]],
    backoffs: Sequence[NDArray[np.float64]],
    vocab_size: int,
    on_order: Callable[[int], None] = lambda done: None,
) -> tuple[Trie, NDArray[np.float64], NDArray[np.float64]]:
    """Builds an n-gram trie from lists of n-grams, and adds n-grams that the trie needs but the lists lack.

    There is one list for each length k = 1 .. n, with N n-grams in any order:

    - `ngrams[k - 1]` (N, k): token ids.
    - `log_probs[k - 1]` (N,): log-probabilities of the last tokens.
    - `backoffs[k - 1]` (N,): logarithms of the back-off weights.

    All V unigrams must be given. The trie needs, for each n-gram, also the n-gram without its last token and the n-gram
    without its first token. An added n-gram gets the probability that backing off gives and a back-off weight of 1, so
    that no predicted distribution changes.

    Returns the trie with the (M,) log-probabilities of its M nodes and the (C,) log back-off weights of its C contexts;
    both are 0 for the root. Raises RepeatedNgramError for an n-gram that occurs twice.
    """
    n = len(ngrams)
    tokens: list[NDArray[np.int32]] = [np.empty(0, np.int32)] * n
    probs, weights = [np.empty(0)] * n, [np.empty(0)] * n
    contexts, suffixes = [np.empty(0, np.intp)] * n, [np.empty(0, np.intp)] * n  # positions in the order below
    longer = np.empty((0, n + 1), np.int32)
    for k in reversed(range(n)):
        on_order(n - 1 - k)
        n_given = len(ngrams[k])
        all_ngrams = np.concatenate([ngrams[k], longer[:, :-1], longer[:, 1:]])
        order, is_new = _sorted(all_ngrams, vocab_size)
        repeated = order[~is_new]
        if (repeated < n_given).any():
            raise RepeatedNgramError(k + 1, int(repeated[repeated < n_given].min()))
        positions = np.empty(order.size, np.intp)
        positions[order] = np.cumsum(is_new) - 1
        if k + 1 < n:
            contexts[k + 1], suffixes[k + 1] = np.split(positions[n_given:], 2)
        longer = all_ngrams[order[is_new]]
        tokens[k], probs[k], weights[k] = longer[:, -1].copy(), np.full(len(longer), np.nan), np.zeros(len(longer))
        probs[k][positions[:n_given]], weights[k][positions[:n_given]] = log_probs[k], backoffs[k]
    for k in range(1, n):
        missing = np.isnan(probs[k])
        probs[k][missing] = weights[k - 1][contexts[k][missing]] + probs[k - 1][suffixes[k][missing]]

    levels = np.cumsum([0, 1, *(level.size for level in tokens)], dtype=np.int64)  # (n + 2,)
    if levels[-1] >= 2**31:
        raise SavedModelError(
            f"the file has {levels[-1]:,} n-grams, but an n-gram model can hold at most {2**31 - 1:,}"
        )
    n_children = [np.bincount(contexts[k], minlength=tokens[k - 1].size) for k in range(1, n)]
    suffixes = [levels[k] + suffixes[k] for k in range(1, n)]
    trie = Trie(
        levels=levels,
        tokens=np.concatenate([[0], *tokens]).astype(np.int32),
        first_child=np.cumsum(np.concatenate([[1, vocab_size], *n_children])).astype(np.int32),
        suffixes=np.concatenate([[0], np.zeros(vocab_size, np.int64), *suffixes]).astype(np.int32),
    )
    return trie, np.concatenate([np.zeros(1), *probs]), np.concatenate([np.zeros(1), *weights[:-1]])


def _sorted(ngrams: NDArray[np.int32], vocab_size: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Sorts n-grams by their tokens, where `ngrams` has one row of token ids for each n-gram.

    Returns two arrays: the indices of the n-grams in sorted order, and a boolean array that is True for each sorted
    n-gram that differs from the one before it. The sort is stable. To save time, several token ids are packed into one
    64-bit integer, and compared at once.
    """
    n_bits = vocab_size.bit_length()
    keys = []
    for start in range(0, ngrams.shape[1], 63 // n_bits):
        key = np.zeros(len(ngrams), np.int64)
        for column in ngrams[:, start : start + 63 // n_bits].T:
            key = key << n_bits | column
        keys.append(key)
    order = np.lexsort(keys[::-1])
    is_new = np.zeros(order.size, np.bool_)
    is_new[:1] = True
    for key in keys:
        key = key[order]
        is_new[1:] |= key[1:] != key[:-1]
    return order, is_new
