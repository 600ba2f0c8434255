"""Computes entropies and ranks of n-gram predictions without writing out the distributions.

After a context h, the tokens that followed h in training (its children in the trie) have probabilities p of their own.
All other tokens have alpha(h) p', where p' is their probability after the shorter context h' and alpha(h) the back-off
weight. So the entropy after h follows from the entropy after h' and the children of h alone:

    sum_w p log p  =  sum over children of p log p  +  alpha [S' - S'_children + log alpha (1 - P'_children)]

Here S' is the sum of p' log p' over all tokens, and S'_children and P'_children are the sums of p' log p' and of p'
over the children. The entropies of all contexts therefore take one pass over the trie.

The rank of a token is 1 plus the number of tokens with a higher probability. Tokens that are no child of h or of any
shorter context have their unigram probability times the product of all back-off weights. So their number is found by
binary search among the unigrams, which are sorted once; the children are then compared one by one. For example, after
"a b" with the unigrams c 0.5, d 0.3, e 0.2, the product 0.1, and one child, e with p = 0.04:

    rank of d      the unigrams times 0.1 are 0.05, 0.03, 0.02: one is above d, so the rank is 2
                   the child e is counted with 0.04 in place of 0.02: now it is above d, too, so the rank is 3
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.ngram.scoring import VALUES, either, find_child, value_at
from lmzoo.models.ngram.trie import ROOT, Trie
from lmzoo.models.ngram.weights import Weights
from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64, _F32, _F64 = types.int32, types.int64, types.float32, types.float64


def entropies(trie: Trie, weights: Weights) -> NDArray[np.float64]:
    """Returns the (C,) entropies, in nats, of the next-token distributions after the C contexts of an n-gram trie."""
    negative = np.zeros(trie.n_contexts)  # the sums of p log p
    shorter = np.empty(0)  # log-probabilities of the n-grams of the order below
    for order in range(1, trie.order + 1):
        contexts, nodes = trie.level(order - 1), trie.level(order)
        log_probs = weights.log_probs(nodes).astype(np.float64)
        parents, n = trie.parents(order) - contexts.start, contexts.stop - contexts.start
        sums = np.bincount(parents, _p_log_p(log_probs), n)
        if order > 1:
            lower = shorter[trie.suffixes[nodes] - contexts.start]
            log_alpha = weights.backoffs[contexts].astype(np.float64)
            rest = negative[trie.suffixes[contexts]] - np.bincount(parents, _p_log_p(lower), n)
            mass = 1 - np.bincount(parents, np.exp(lower), n)
            with np.errstate(invalid="ignore"):  # alpha is 0 in an unsmoothed model
                sums += np.where(np.isneginf(log_alpha), 0, np.exp(log_alpha) * (rest + log_alpha * mass))
        negative[contexts] = sums
        shorter = log_probs
    return np.maximum(-negative, 0)


def _p_log_p(log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(log_probs), 0, np.exp(log_probs) * log_probs)


class Ranker:
    """Computes the ranks of tokens after contexts in an n-gram model.

    Sorts the unigrams once, when it is created.
    """

    def __init__(self, trie: Trie, weights: Weights) -> None:
        self.trie, self.weights = trie, weights
        unigrams = weights.log_probs(trie.level(1))
        self._sorted_ids = np.argsort(-unigrams, kind="stable").astype(np.int32)
        self._sorted = np.ascontiguousarray(unigrams[self._sorted_ids])
        self._covered = np.full(trie.vocab_size, -1, np.int64)

    def ranks(self, ids: NDArray[np.int32], states: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Returns the rank of each of T tokens after its context, and the highest log-probability after that context.

        `ids` (T,) are the tokens and `states` (T,) the trie nodes of their contexts. Rank 1 is the most likely token;
        among equally likely tokens, the lower id has the lower rank.
        """
        trie, weights = self.trie, self.weights
        ranks, tops = np.empty(ids.size, np.int32), np.empty(ids.size)
        self._covered[:] = -1
        _rank(
            ids, states, trie.tokens, trie.first_child, trie.suffixes, weights.values, weights.codebook,
            weights.backoffs, self._sorted, self._sorted_ids, self._covered, ranks, tops,
        )  # fmt: skip
        return ranks, tops


@kernel(
    *either(
        read_only(_I32), read_only(_I32), read_only(_I32), read_only(_I32), read_only(_I32), VALUES, read_only(_F32),
        read_only(_F32), read_only(_F32), read_only(_I32), writable(_I64), writable(_I32), writable(_F64),
    )
)  # fmt: skip
def _rank(
    ids, states, tokens, first_child, suffixes, values, codebook, backoffs, unigrams, unigram_ids, covered, ranks, tops
):  # fmt: skip
    """Computes the rank of each of T tokens `ids` in its predicted distribution, and the highest log-probability in it.

    `states` (T,) are the contexts, as nodes of the n-gram trie. The results are written to `ranks` (T,) and `tops`
    (T,). `unigrams` and `unigram_ids` are the log-probabilities and ids of the V unigrams, from the most to the least
    likely. The other inputs are the arrays of the trie and of its log-probabilities and back-off weights.

    Contexts are visited from long to short. `covered` (V,) is working memory: for each token, the last position at
    which it was found as a child of a visited context. Only the longest of these contexts determines its probability.
    """
    for t in range(ids.size):
        token, context, weight, node = ids[t], states[t], 0.0, ROOT
        while context != ROOT:  # search the longest context with the token as a child
            node = find_child(tokens, first_child, context, token)
            if node != ROOT:
                break
            weight += backoffs[context]
            context = suffixes[context]
        target = value_at(1 + token if node == ROOT else node, values, codebook) + weight
        total, context = 0.0, states[t]
        while context != ROOT:
            total += backoffs[context]
            context = suffixes[context]
        # Count the tokens above the target as if all had backed off to their unigrams.
        low, high = 0, unigrams.size
        while low < high:
            middle = (low + high) >> 1
            if unigrams[middle] + total > target:
                low = middle + 1
            else:
                high = middle
        before = low
        while low < unigrams.size and unigrams[low] + total == target:
            before += unigram_ids[low] < token
            low += 1
        # Correct the count for the children of the context and of its suffixes.
        context, weight, top = states[t], 0.0, target
        while context != ROOT:
            for child in range(first_child[context], first_child[context + 1]):
                other = tokens[child]
                if covered[other] != t:
                    covered[other] = t
                    here = value_at(child, values, codebook) + weight
                    base = value_at(1 + other, values, codebook) + total
                    top = max(top, here)
                    before += here > target or (here == target and other < token)
                    before -= base > target or (base == target and other < token)
            weight += backoffs[context]
            context = suffixes[context]
        for i in range(unigrams.size):  # the most likely token that backs off to its unigram
            if covered[unigram_ids[i]] != t:
                top = max(top, unigrams[i] + total)
                break
        ranks[t], tops[t] = 1 + before, top
