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
    read_only(_F64), read_only(_F64), read_only(_F64), read_only(_I32), read_only(_I32), writable(_F64), writable(_F64),
    writable(_F64),
)  # fmt: skip
def add_up_expectations(n_longest, scores, normalisers, first_child, suffixes, shares, taken, expected):
    """Computes how often the model expects each of M n-grams in the training text.

    - `n_longest` (C,): the number of tokens before which each context is the longest that the model uses.
    - `scores` (M,), `normalisers` (C,): as `add_up_scores` computes them.
    - `first_child` (C + 1,), `suffixes` (M,): the trie of the n-grams.
    - `shares` (C,), `taken` (M,): memory for the sums below.
    - `expected` (M,): receives the expected counts; the number for the root has no meaning.

    The share of a context is the sum of n_longest / normaliser over the context and all longer contexts that end with
    it. The score of an n-gram, times the share of its context, is its expected count, if no longer n-gram ends with it.
    Otherwise the longer n-grams have their own expected counts, and the shares of their contexts are taken away.
    """
    shares[:] = 0.0
    taken[:] = 0.0
    expected[:] = 0.0
    for context in range(normalisers.size - 1, -1, -1):  # longer contexts come first
        shares[context] += n_longest[context] / normalisers[context]
        share = shares[context]
        if context:
            shares[suffixes[context]] += share
        for node in range(first_child[context], first_child[context + 1]):
            expected[node] += scores[node] * (share - taken[node])
            taken[suffixes[node]] += share
            expected[suffixes[node]] += expected[node]
