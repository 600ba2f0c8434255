"""From lists of n-grams, as other programs keep them, to the trie: in any order, and with gaps, which are filled.

Every n-gram of the trie needs its context and its suffix, the n-grams without its last and without its first token. One
sort of these, together with the n-grams of their own order, shows which of them are missing and where all of them
stand; so from the longest n-grams down, one sort an order makes the trie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import SavedModelError
from lmzoo.models.ngram.trie import Trie


class RepeatedNgramError(Exception):
    """An n-gram stands twice in its list, the second time at `place`."""

    def __init__(self, order: int, place: int) -> None:
        super().__init__(order, place)
        self.order, self.place = order, place


def link(
    ngrams: Sequence[NDArray[np.int32]],
    log_probs: Sequence[NDArray[np.float64]],
    backoffs: Sequence[NDArray[np.float64]],
    vocab_size: int,
    on_order: Callable[[int], None] = lambda done: None,
) -> tuple[Trie, NDArray[np.float64], NDArray[np.float64]]:
    """The trie of n-grams with their (M,) log-probabilities and, of contexts, (C,) logarithms of back-off weights.

    Takes, for each order k from 1 on, (N, k) tokens and (N,) logarithms; all V unigrams must be there. A missing n-gram
    gets the probability that backing off gives and a weight of 1: no distribution changes. The root gets zeros.
    """
    n = len(ngrams)
    tokens: list[NDArray[np.int32]] = [np.empty(0, np.int32)] * n
    probs, weights = [np.empty(0)] * n, [np.empty(0)] * n
    contexts, suffixes = [np.empty(0, np.intp)] * n, [np.empty(0, np.intp)] * n  # places in the order below
    longer = np.empty((0, n + 1), np.int32)
    for k in reversed(range(n)):
        on_order(n - 1 - k)
        n_own = len(ngrams[k])
        together = np.concatenate([ngrams[k], longer[:, :-1], longer[:, 1:]])
        order, is_new = _sorted(together, vocab_size)
        again = order[~is_new]
        if (again < n_own).any():
            raise RepeatedNgramError(k + 1, int(again[again < n_own].min()))
        places = np.empty(order.size, np.intp)
        places[order] = np.cumsum(is_new) - 1
        if k + 1 < n:
            contexts[k + 1], suffixes[k + 1] = np.split(places[n_own:], 2)
        longer = together[order[is_new]]
        tokens[k], probs[k], weights[k] = longer[:, -1].copy(), np.full(len(longer), np.nan), np.zeros(len(longer))
        probs[k][places[:n_own]], weights[k][places[:n_own]] = log_probs[k], backoffs[k]
    for k in range(1, n):
        gap = np.isnan(probs[k])
        probs[k][gap] = weights[k - 1][contexts[k][gap]] + probs[k - 1][suffixes[k][gap]]

    levels = np.cumsum([0, 1, *(level.size for level in tokens)], dtype=np.int64)  # (n + 2,)
    if levels[-1] >= 2**31:
        raise SavedModelError(f"{levels[-1]:,} n-grams are too many: at most 2**31 fit")
    families = [np.bincount(contexts[k], minlength=tokens[k - 1].size) for k in range(1, n)]
    suffixes = [levels[k] + suffixes[k] for k in range(1, n)]
    trie = Trie(
        levels=levels,
        tokens=np.concatenate([[0], *tokens]).astype(np.int32),
        first_child=np.cumsum(np.concatenate([[1, vocab_size], *families])).astype(np.int32),
        suffixes=np.concatenate([[0], np.zeros(vocab_size, np.int64), *suffixes]).astype(np.int32),
    )
    return trie, np.concatenate([np.zeros(1), *probs]), np.concatenate([np.zeros(1), *weights[:-1]])


def _sorted(ngrams: NDArray[np.int32], vocab_size: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The order that sorts n-grams, the first of equal ones first, and which of them differ from the one before.

    As many tokens as 63 bits hold are compared as one number.
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
