"""Entropies and ranks of n-gram predictions without the distributions: what is written out is only what differs.

After a context h the tokens of its family have probabilities of their own, and all others alpha(h) times those after
the shorter context h'. So the entropy after h follows from that after h' by the members of the family alone,

    sum_w p log p  =  sum over the family of p log p  +  alpha [S' - S'_family + log alpha (1 - P'_family)],

with S' the sum of p' log p' after h', and S'_family and P'_family the parts of the family in S' and in 1: entropies of
all contexts take one pass over the trie. The rank of a token counts the likelier ones in the families of its context
and of all shorter ones; the unigrams among the rest lie sorted.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.ngram.scoring import VALUES, either, find_child, value_at
from lmzoo.models.ngram.trie import ROOT, Trie
from lmzoo.models.ngram.weights import Weights
from lmzoo.system.compiled import kernel, read, write

_I32, _I64, _F32, _F64 = types.int32, types.int64, types.float32, types.float64


def entropies(trie: Trie, weights: Weights) -> NDArray[np.float64]:
    """(C,) entropy in nats of what follows each context."""
    negative = np.zeros(trie.n_contexts)  # sums of p log p
    shorter = np.empty(0)  # log-probabilities of the order below
    for order in range(1, trie.order + 1):
        contexts, nodes = trie.level(order - 1), trie.level(order)
        log_probs = weights.log_probs(nodes).astype(np.float64)
        owners, n = trie.owners(order) - contexts.start, contexts.stop - contexts.start
        own = np.bincount(owners, _p_log_p(log_probs), n)
        if order > 1:
            lower = shorter[trie.suffixes[nodes] - contexts.start]
            log_alpha = weights.backoffs[contexts].astype(np.float64)
            rest = negative[trie.suffixes[contexts]] - np.bincount(owners, _p_log_p(lower), n)
            mass = 1 - np.bincount(owners, np.exp(lower), n)
            with np.errstate(invalid="ignore"):  # without smoothing, alpha is 0
                own += np.where(np.isneginf(log_alpha), 0, np.exp(log_alpha) * (rest + log_alpha * mass))
        negative[contexts] = own
        shorter = log_probs
    return np.maximum(-negative, 0)


def _p_log_p(log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(log_probs), 0, np.exp(log_probs) * log_probs)


class Ranker:
    """Ranks of tokens after contexts."""

    def __init__(self, trie: Trie, weights: Weights) -> None:
        self.trie, self.weights = trie, weights
        unigrams = weights.log_probs(trie.level(1))
        self._sorted_ids = np.argsort(-unigrams, kind="stable").astype(np.int32)
        self._sorted = np.ascontiguousarray(unigrams[self._sorted_ids])
        self._covered = np.full(trie.vocab_size, -1, np.int64)

    def ranks(self, ids: NDArray[np.int32], states: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """(T,) the rank of each token after its context, from 1, and the log-probability of the first one.

        Among equals the lower id comes first.
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
        read(_I32), read(_I32), read(_I32), read(_I32), read(_I32), VALUES, read(_F32), read(_F32),
        read(_F32), read(_I32), write(_I64), write(_I32), write(_F64),
    )
)  # fmt: skip
def _rank(
    ids, states, tokens, first_child, suffixes, values, codebook, backoffs, unigrams, unigram_ids, covered, ranks, tops
):  # fmt: skip
    """`covered` notes which tokens a longer context has spoken of already."""
    for t in range(ids.size):
        token, context, weight, node = ids[t], states[t], 0.0, ROOT
        while context != ROOT:  # the longest context that knows the token
            node = find_child(tokens, first_child, context, token)
            if node != ROOT:
                break
            weight += backoffs[context]
            context = suffixes[context]
        own = value_at(1 + token if node == ROOT else node, values, codebook) + weight
        total, context = 0.0, states[t]
        while context != ROOT:
            total += backoffs[context]
            context = suffixes[context]
        # The unigrams that would come before the token if no family knew them.
        low, high = 0, unigrams.size
        while low < high:
            middle = (low + high) >> 1
            if unigrams[middle] + total > own:
                low = middle + 1
            else:
                high = middle
        before = low
        while low < unigrams.size and unigrams[low] + total == own:
            before += unigram_ids[low] < token
            low += 1
        # What the families know instead.
        context, weight, top = states[t], 0.0, own
        while context != ROOT:
            for child in range(first_child[context], first_child[context + 1]):
                other = tokens[child]
                if covered[other] != t:
                    covered[other] = t
                    here = value_at(child, values, codebook) + weight
                    base = value_at(1 + other, values, codebook) + total
                    top = max(top, here)
                    before += here > own or (here == own and other < token)
                    before -= base > own or (base == own and other < token)
            weight += backoffs[context]
            context = suffixes[context]
        for place in range(unigrams.size):  # the likeliest token that no family knows
            if covered[unigram_ids[place]] != t:
                top = max(top, unigrams[place] + total)
                break
        ranks[t], tops[t] = 1 + before, top
