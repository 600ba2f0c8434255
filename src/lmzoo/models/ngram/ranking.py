"""Computes entropies and ranks of n-gram predictions without writing out the distributions.

After a context h, the tokens that followed h in training (its children in the trie) have probabilities p of their own.
All other tokens have alpha(h) p', where p' is their probability after the shorter context h' and alpha(h) the back-off
weight. So the entropy after h follows from the entropy after h' and the children of h alone:

    sum_w p log p  =  sum over children of p log p  +  alpha [S' - S'_children + log alpha (1 - P'_children)]

Here S' is the sum of p' log p' over all tokens, and S'_children and P'_children are the sums of p' log p' and of p'
over the children. The probability of a set of tokens follows in the same way, with sums over the tokens of the set:

    P  =  sum over children of p  +  alpha [P' - P'_children]

The rank of a token is 1 plus the number of tokens with a higher probability. Tokens that are no child of h or of any
shorter context have their unigram probability times the product of all back-off weights. So their number is found by
binary search among the unigrams, which are sorted once; the children are then compared one by one. For example, after
"a b" with the unigrams c 0.5, d 0.3, e 0.2, the product 0.1, and one child, e with p = 0.04:

    rank of d      the unigrams times 0.1 are 0.05, 0.03, 0.02: one is above d, so the rank is 2
                   the child e is counted with 0.04 in place of 0.02: now it is above d, too, so the rank is 3
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.ngram.scoring import VALUES, either, find_child, value_at
from lmzoo.models.ngram.trie import ROOT, Trie
from lmzoo.models.ngram.weights import Weights
from lmzoo.system.compiled import kernel, read_only, writable

_CHILDREN = 1 << 20
_I32, _I64, _F32, _F64 = types.int32, types.int64, types.float32, types.float64


def entropies_and_set_log_probs(
    trie: Trie, weights: Weights, states: NDArray[np.int32], token_set: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Computes the entropies of the predictions after T contexts, given as trie nodes `states` (T,) that may repeat.

    Returns the entropies (T,) in nats, and the log-probabilities (T,) in nats that the next token is one of a set.
    `token_set` (V,) is True for the tokens of the set; without it, None is returned in place of these. The result for
    a context does not depend on the other contexts.
    """
    contexts = _with_suffixes(trie, states)
    negative, inside = np.zeros(contexts.size), np.zeros(contexts.size)  # sums of p log p, and of p within the set
    for order in range(1, trie.order + 1):
        level = trie.level(order - 1)
        for here in _blocks(trie, contexts, slice(*np.searchsorted(contexts, [level.start, level.stop]).tolist())):
            children = _Children.of(trie, contexts[here])
            is_inside = np.False_ if token_set is None else token_set[trie.tokens[children.nodes]]
            log_probs = weights.log_probs(children.nodes).astype(np.float64)
            probs = np.exp(log_probs)
            negative[here] = children.sums(_times_log(probs, log_probs))
            inside[here] = children.sums(probs * is_inside)
            if order > 1:
                suffixes = np.searchsorted(contexts, trie.suffixes[contexts[here]])
                lower = weights.log_probs(trie.suffixes[children.nodes]).astype(np.float64)
                lower_probs, log_alpha = np.exp(lower), weights.backoffs[contexts[here]].astype(np.float64)
                rest = negative[suffixes] - children.sums(_times_log(lower_probs, lower))
                mass, alpha = 1 - children.sums(lower_probs), np.exp(log_alpha)
                with np.errstate(invalid="ignore"):  # alpha is 0 in an unsmoothed model
                    negative[here] += np.where(alpha == 0, 0, alpha * (rest + log_alpha * mass))
                inside[here] += alpha * (inside[suffixes] - children.sums(lower_probs * is_inside))
    indices = np.searchsorted(contexts, states)
    entropies = np.maximum(-negative, 0)[indices]
    if token_set is None:
        return entropies, None
    with np.errstate(divide="ignore"):
        return entropies, np.log(np.maximum(inside, 0))[indices]


def _with_suffixes(trie: Trie, states: NDArray[np.int32]) -> NDArray[np.intp]:
    """Returns the N contexts that occur among T states, and to which these back off, in increasing order: (N,).

    `states` (T,) are trie nodes.
    """
    occurs = np.zeros(trie.n_contexts, bool)
    occurs[states] = True
    for _ in range(trie.order - 1):
        occurs[trie.suffixes[np.flatnonzero(occurs)]] = True
    return np.flatnonzero(occurs)


def _blocks(trie: Trie, contexts: NDArray[np.intp], whole: slice) -> Iterator[slice]:
    """Divides a range of a sorted list of contexts into smaller ranges, so that computing with them needs less memory.

    Each of these ranges ends after the context with which its number of children reaches a million.
    """
    here = contexts[whole]
    n_children = np.cumsum(trie.first_child[here + 1].astype(np.int64) - trie.first_child[here])
    start = 0
    while start < here.size:
        before = int(n_children[start - 1]) if start else 0
        stop = min(int(np.searchsorted(n_children, before + _CHILDREN)) + 1, here.size)
        yield slice(whole.start + start, whole.start + stop)
        start = stop


class _Children(NamedTuple):
    """The children of N contexts of an n-gram trie: C nodes that continue the contexts by one token."""

    nodes: NDArray[np.int64]
    """(C,) the trie nodes of the children, context by context."""
    parents: NDArray[np.int64]
    """(C,) the index of the context of each child."""
    n_contexts: int

    @classmethod
    def of(cls, trie: Trie, contexts: NDArray[np.integer]) -> Self:
        """Returns the children of N contexts, given as trie nodes (N,)."""
        starts = trie.first_child[contexts].astype(np.int64)
        sizes = trie.first_child[contexts + 1] - starts
        parents = np.repeat(np.arange(contexts.size), sizes)
        return cls(np.arange(parents.size) + (starts - np.cumsum(sizes) + sizes)[parents], parents, contexts.size)

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the sum (N,) of the values (C,) of the children of each context."""
        return np.bincount(self.parents, values, self.n_contexts).astype(np.float64)  # integers if there are none


def _times_log(probs: NDArray[np.float64], log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns p log p, for probabilities p and their logarithms; 0 log 0 is 0."""
    with np.errstate(invalid="ignore"):
        return np.where(probs > 0, probs * log_probs, 0)


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
