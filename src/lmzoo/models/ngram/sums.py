"""The sums of the distributions that an n-gram model predicts; for models that lmzoo fitted, they are 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.ngram.trie import Trie
from lmzoo.models.ngram.weights import Weights
from lmzoo.stream import EOT


def distribution_sums(trie: Trie, weights: Weights) -> NDArray[np.float64]:
    """Computes the sum of the next-token distribution after each of the C contexts of an n-gram trie; returns (C,).

    The sums are 1 for a model that lmzoo fitted, but may differ from 1 for a model from a file of another program. Let
    alpha be the back-off weight of a context h, and h' be h without its first token. The tokens w that followed h in
    training have the probability p(w | h), all others alpha p(w | h'). So

        sum(h) = sum_w p(w | h) + alpha (sum(h') - sum_w p(w | h'))

    where both sums over w are over the tokens that followed h. Shorter contexts are computed first.
    """
    sums = np.empty(trie.n_contexts)
    sums[0] = np.exp(weights.log_probs(trie.level(1)), dtype=np.float64).sum()
    lower = np.exp(weights.log_probs(trie.level(1)), dtype=np.float64)  # of the n-grams one order below
    for order in range(2, trie.order + 1):
        contexts, nodes = trie.level(order - 1), trie.level(order)
        probs = np.exp(weights.log_probs(nodes), dtype=np.float64)
        parents, n_contexts = trie.parents(order) - contexts.start, contexts.stop - contexts.start
        followed = np.bincount(parents, probs, n_contexts)
        backed_off = np.bincount(parents, lower[trie.suffixes[nodes] - contexts.start], n_contexts)
        alpha = np.exp(weights.backoffs[contexts], dtype=np.float64)
        sums[contexts] = followed + alpha * (sums[trie.suffixes[contexts]] - backed_off)
        lower = probs
    return sums


def reached_contexts(trie: Trie) -> NDArray[np.bool_]:
    """Returns a mask (C,) of the C contexts of an n-gram trie that a model can use to predict a token.

    A model predicts the next token from the longest context in the trie with which the text so far ends. Two kinds of
    contexts are therefore never used. One is a context that ends with EOT (end of text) after another token, because a
    document starts with EOT as its only context. The other is a context to which each of the V tokens can be prepended
    within the trie, because one of these longer contexts is used instead. The start of a document is always used.
    """
    n_extensions = np.bincount(trie.suffixes[: trie.n_contexts], minlength=trie.n_contexts)
    reached = n_extensions < trie.vocab_size
    if trie.order > 1:
        reached &= trie.tokens[: trie.n_contexts] != EOT
        reached[0] = False  # after any token there is a longer context than the empty one
        reached[trie.document_start] = True  # contexts that extend it end with EOT and are never used
    return reached
