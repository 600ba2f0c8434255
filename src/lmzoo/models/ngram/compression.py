"""Makes n-gram models smaller, by pruning n-grams and by storing log-probabilities in one byte.

Pruning (Stolcke 1998) removes n-grams whose removal changes the model little. Without the n-gram h w, the token w is
predicted by the shorter context h', and the back-off weight of h changes from alpha to

    alpha' = (rest + p(w | h)) / (rest' + p(w | h'))

where rest is the total probability after h of the tokens that never followed h, and rest' is the total probability of
the same tokens after h'. The relative entropy to the full model grows by (equation 5 of the paper; p(h) by the chain
rule)

    p(h) {p(w | h) [log p(w | h) - log p(w | h') - log alpha'] - rest [log alpha' - log alpha]}

An n-gram is removed if this would raise the perplexity by less than a given fraction, the threshold. The longest
n-grams are examined first. An n-gram that is the context or the suffix of a kept n-gram is kept, because the trie needs
it.

Quantisation (Whittaker & Raj 2001; Federico & Bertoldi 2006) rounds the log-probabilities of n-grams to one of 256
values, each of which is used for equally many n-grams. Values are rounded down, so that the back-off weights can
compensate for the lost probability and every distribution still sums to 1. Every token may have an n-gram after a short
context, such as the empty one, so that no token is predicted with the back-off weight. N-grams as long as those after
such contexts, and shorter ones, are therefore not rounded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.ngram.scoring import Matcher
from lmzoo.models.ngram.trie import Trie
from lmzoo.models.ngram.weights import N_CODES, Weights

_SMALL = 1e-2
"""If rest' is smaller than this, it is summed token by token: 1 minus the other probabilities would be too inexact."""
_ELEMENTS = 1 << 21
_TINY = 1e-9


def prune(trie: Trie, weights: Weights, threshold: float) -> tuple[Trie, Weights]:
    """Removes the n-grams whose removal raises the perplexity by less than the fraction `threshold`.

    Returns the smaller trie and its weights, with back-off weights for which every distribution sums to 1.
    """
    keep = _kept(trie, weights, threshold)
    kept_contexts = keep[: trie.n_contexts]
    smaller, left = restricted(trie, weights, keep)
    changed = np.diff(trie.first_child)[kept_contexts] > np.diff(smaller.first_child)
    return smaller, _normalised(smaller, left, changed)


def quantise(trie: Trie, weights: Weights) -> Weights:
    """Replaces the log-probabilities of n-grams by one-byte codes, from the first length whose contexts all back off.

    The n-grams are divided by log-probability into groups of about equal size, and each group has a code. The back-off
    weights are recomputed so that every distribution sums to 1.
    """
    complete = np.flatnonzero(np.diff(trie.first_child) == trie.vocab_size)  # the root at least
    first = trie.level(trie.order_of(int(complete[-1])) + 1).stop
    exact, longer = np.split(weights.values, [first])
    book, codes = np.zeros(N_CODES, np.float32), np.zeros(trie.tokens.size, np.uint8)
    if longer.size:
        bounds = np.unique(np.quantile(longer, np.arange(N_CODES) / N_CODES, method="lower"))
        book[: bounds.size] = bounds
        codes[first:] = np.searchsorted(bounds, longer, side="right") - 1
    rounded = Weights(np.concatenate([exact, book[codes[first:]]]), weights.backoffs)
    changed = (np.diff(trie.first_child) > 0) & (trie.first_child[:-1] >= first)
    backoffs = _normalised(trie, rounded, changed).backoffs
    return Weights(codes, backoffs, np.concatenate([book, exact]))


def _kept(trie: Trie, weights: Weights, threshold: float) -> NDArray[np.bool_]:
    """Decides which of the M n-grams of a trie pruning keeps; returns a boolean array (M,).

    An n-gram is removed if this raises the perplexity by less than the fraction `threshold`, unless a kept n-gram needs
    it as its context or suffix.
    """
    joint = np.ones(trie.tokens.size)  # the joint probability of the tokens of each n-gram
    for k in range(1, trie.order + 1):
        nodes = trie.level(k)
        joint[nodes] = joint[trie.parents(k)] * np.exp(weights.values[nodes], dtype=np.float64)
    keep = np.ones(trie.tokens.size, np.bool_)
    needed = np.zeros(trie.tokens.size, np.bool_)
    for k in range(trie.order, 1, -1):
        nodes, parents, suffixes = trie.level(k), trie.parents(k), trie.suffixes[trie.level(k)]
        rest, rest_lower, probs, lower = _rests(trie, weights, k)
        context = parents - trie.level(k - 1).start
        log_alpha = np.log((rest[context] + probs) / (rest_lower[context] + lower))
        change = np.where(rest[context] > _TINY, rest[context] * (log_alpha - weights.backoffs[parents]), 0)
        loss = probs * (np.log(probs / lower) - log_alpha) - change
        keep[nodes] = needed[nodes] | (np.expm1(joint[parents] * loss) >= threshold)
        needed[parents[keep[nodes]]] = True
        needed[suffixes[keep[nodes]]] = True
    return keep


def _rests(trie: Trie, weights: Weights, order: int) -> tuple[NDArray[np.float64], ...]:
    """Computes the probabilities of all n-grams of length `order`, and of the tokens that never followed a context.

    Let h w be an n-gram, a token w that followed a context h in training, and let h' be h without its first token.
    Returns four arrays:

    - for each h, the total probability, in the distribution after h, of the tokens that never followed h;
    - for each h, the total probability of the same tokens in the distribution after h';
    - for each h w, the probability p(w | h);
    - for each h w, the probability p(w | h').
    """
    nodes, contexts = trie.level(order), trie.level(order - 1)
    parents = trie.parents(order) - contexts.start
    probs, lower = (np.exp(weights.values[at], dtype=np.float64) for at in (nodes, trie.suffixes[nodes]))
    n_contexts = contexts.stop - contexts.start
    rests = (np.maximum(1 - np.bincount(parents, seen, n_contexts), _TINY) for seen in (probs, lower))
    return (*rests, probs, lower)


def restricted(trie: Trie, weights: Weights, keep: NDArray[np.bool_]) -> tuple[Trie, Weights]:
    """Returns an n-gram trie and its weights with only those of its M nodes for which `keep` (M,) is True.

    The probabilities and back-off weights do not change. The context and the suffix of a kept node must be kept, too,
    and so must all unigrams.
    """
    new = np.concatenate([[0], np.cumsum(keep)]).astype(np.int32)  # (M + 1,) the number of kept nodes before each node
    contexts = np.flatnonzero(keep[: trie.n_contexts])
    first_child = np.append(new[trie.first_child[contexts]], new[-1])
    smaller = Trie(new[trie.levels].astype(np.int64), trie.tokens[keep], first_child, new[trie.suffixes[keep]])
    return smaller, Weights(weights.values[keep], weights.backoffs[contexts], weights.codebook)


def _normalised(trie: Trie, weights: Weights, changed: NDArray[np.bool_]) -> Weights:
    """Recomputes the back-off weights of changed contexts, so that the distribution after each of them sums to 1.

    `changed` (C,) is True for each of the C contexts of the trie that has changed. Returns the new weights.
    """
    backoffs, matcher = weights.backoffs.copy(), Matcher(trie)
    weights = Weights(weights.values, backoffs)
    for k in range(2, trie.order + 1):
        contexts = trie.level(k - 1)
        here = np.flatnonzero(changed[contexts])
        rest, rest_lower = (rests[here] for rests in _rests(trie, weights, k)[:2])
        inexact = np.flatnonzero(rest_lower < _SMALL)
        for part in np.array_split(inexact, 1 + inexact.size * trie.vocab_size // _ELEMENTS):
            rows = np.empty((part.size, trie.vocab_size))
            matcher.fill_rows(trie.suffixes[contexts.start + here[part]], weights, rows)
            for row, context in zip(rows, contexts.start + here[part], strict=True):
                row[trie.tokens[trie.children(int(context))]] = -np.inf
            rest_lower[part] = np.exp(rows).sum(axis=1)
        with np.errstate(divide="ignore"):
            backoffs[contexts.start + here] = np.log(rest / rest_lower)
    return weights
