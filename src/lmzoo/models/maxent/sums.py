"""Computes the normalisers of all contexts of a maximum-entropy model, and the expected counts of all n-grams.

Both are sums over the vocabulary, for each context of a text. They are computed together in one pass over the trie of
the n-grams, because the scores after a context differ from those after its suffix (the context without its first token)
only for the tokens that followed the context in training.
"""

from __future__ import annotations

from numba import types

from lmzoo.system.compiled import kernel, read_only, writable

_I32, _F64 = types.int32, types.float64


@kernel(read_only(_F64), read_only(_I32), read_only(_I32), writable(_F64), writable(_F64))
def add_up_scores(factors, first_child, suffixes, scores, normalisers):
    """Computes the unnormalised probabilities of all M n-grams, and their sum over the vocabulary for all C contexts.

    - `factors` (M,): exp(weight) of each n-gram.
    - `first_child` (C + 1,), `suffixes` (M,): the trie of the n-grams; see `lmzoo.models.ngram.trie.Trie`.
    - `scores` (M,): receives the product of the factors of each n-gram and of all its suffixes; 1 for the root.
    - `normalisers` (C,): receives the sum of the scores of all V tokens after each context. A token that never followed
      the context has the score that it has after the suffix of the context.
    """
    scores[0] = 1.0
    for context in range(normalisers.size):
        total = normalisers[suffixes[context]] if context else 0.0
        for node in range(first_child[context], first_child[context + 1]):
            shorter = scores[suffixes[node]]
            scores[node] = factors[node] * shorter
            total += scores[node] - shorter if context else scores[node]
        normalisers[context] = total


@kernel(
    writable(_F64), read_only(_F64), read_only(_F64), read_only(_I32), read_only(_I32), writable(_F64), writable(_F64)
)
def add_up_expectations(shares, extra_shares, scores, first_child, suffixes, taken, expected):
    """Computes how often the model expects each of M n-grams in the training text.

    - `shares` (C,): for each context, the sum of 1 / normaliser over those tokens of the text for which the context is
      the longest one that the model uses. It is replaced by the sum over all tokens that come right after the context.
    - `extra_shares` (M,): for each n-gram, the sum of (factor - 1) / normaliser over all tokens that come right after
      its context, where the factor is that of the triggers of the last token of the n-gram; 0 without triggers.
    - `scores` (M,): as `add_up_scores` computes them.
    - `first_child` (C + 1,), `suffixes` (M,): the trie of the n-grams.
    - `taken` (M,): working memory for the shares of the contexts of longer n-grams; overwritten.
    - `expected` (M,): receives the expected counts; the number for the root has no meaning.

    If no longer n-gram ends with an n-gram, its expected count is its score times the share of its context. Otherwise
    the shares of the contexts of the longer n-grams are subtracted from this share, and their expected counts are
    added.
    """
    taken[:] = 0.0
    expected[:] = 0.0
    for context in range(shares.size - 1, -1, -1):  # longer contexts come first
        if context:
            shares[suffixes[context]] += shares[context]
        for node in range(first_child[context], first_child[context + 1]):
            share = shares[context] + extra_shares[node]
            expected[node] += scores[node] * (share - taken[node])
            taken[suffixes[node]] += share
            expected[suffixes[node]] += expected[node]
