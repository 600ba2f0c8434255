"""Smaller models: fewer n-grams, and probabilities of one byte.

Pruning (Stolcke 1998): n-grams whose loss would change little leave. Without the n-gram h w, the shorter context
predicts w, and the back-off weight of h changes from alpha to

    alpha' = (rest + p(w | h)) / (rest' + p(w | h'))

(rest is what p leaves to the tokens that never followed h, rest' what the shorter context h' gives to the same tokens),
so that the relative entropy to the full model grows by (equation 5 there, with p(h) by the chain rule)

    p(h) {p(w | h) [log p(w | h) - log p(w | h') - log alpha'] - rest [log alpha' - log alpha]}

An n-gram leaves if the perplexity would grow by less than the threshold, as a fraction of it. The longest ones are
looked at first. What is part of a longer n-gram that stays must stay, too: the trie needs it as context or suffix.

Quantising (Whittaker & Raj 2001; Federico & Bertoldi 2006): the log-probabilities of all n-grams but the unigrams are
rounded to one of 256 values, each for equally many n-grams. Always down, so that the back-off weights can make up for
it: every distribution still sums to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.ngram.scoring import Matcher
from lmzoo.models.ngram.trie import Trie
from lmzoo.models.ngram.weights import N_CODES, Weights

_SMALL = 1e-2
"""Where the unseen have less than this after the shorter context, 1 minus what the seen have is too inexact."""
_ELEMENTS = 1 << 21
_TINY = 1e-9


def prune(trie: Trie, weights: Weights, threshold: float) -> tuple[Trie, Weights]:
    """The model without the n-grams that are worth less than `threshold`."""
    keep = _worth(trie, weights, threshold)
    kept_contexts = keep[: trie.n_contexts]
    smaller = _without(trie, keep)
    changed = np.diff(trie.first_child)[kept_contexts] > np.diff(smaller.first_child)
    left = Weights(weights.values[keep], weights.backoffs[kept_contexts])
    return smaller, _normalised(smaller, left, changed)


def quantise(trie: Trie, weights: Weights) -> Weights:
    """The weights with codes of one byte, which stand for equally many n-grams each."""
    first = trie.level(1).stop
    exact, longer = np.split(weights.values, [first])
    book, codes = np.zeros(N_CODES, np.float32), np.zeros(trie.tokens.size, np.uint8)
    if longer.size:
        bounds = np.unique(np.quantile(longer, np.arange(N_CODES) / N_CODES, method="lower"))
        book[: bounds.size] = bounds
        codes[first:] = np.searchsorted(bounds, longer, side="right") - 1
    rounded = Weights(np.concatenate([exact, book[codes[first:]]]), weights.backoffs)
    backoffs = _normalised(trie, rounded, np.diff(trie.first_child) > 0).backoffs
    return Weights(codes, backoffs, np.concatenate([book, exact]))


def _worth(trie: Trie, weights: Weights, threshold: float) -> NDArray[np.bool_]:
    """(M,) which n-grams stay."""
    joint = np.ones(trie.tokens.size)  # the probability of each n-gram as a piece of text
    for k in range(1, trie.order + 1):
        nodes = trie.level(k)
        joint[nodes] = joint[trie.owners(k)] * np.exp(weights.values[nodes], dtype=np.float64)
    keep = np.ones(trie.tokens.size, np.bool_)
    needed = np.zeros(trie.tokens.size, np.bool_)
    for k in range(trie.order, 1, -1):
        nodes, owners, suffixes = trie.level(k), trie.owners(k), trie.suffixes[trie.level(k)]
        rest, rest_lower, probs, lower = _rests(trie, weights, k)
        of = owners - trie.level(k - 1).start
        log_alpha = np.log((rest[of] + probs) / (rest_lower[of] + lower))
        change = np.where(rest[of] > _TINY, rest[of] * (log_alpha - weights.backoffs[owners]), 0)
        loss = probs * (np.log(probs / lower) - log_alpha) - change
        keep[nodes] = needed[nodes] | (np.expm1(joint[owners] * loss) >= threshold)
        needed[owners[keep[nodes]]] = True
        needed[suffixes[keep[nodes]]] = True
    return keep


def _rests(trie: Trie, weights: Weights, order: int) -> tuple[NDArray[np.float64], ...]:
    """What the contexts of an order's n-grams leave to others, and what the shorter ones leave to the same; and the
    probabilities of the n-grams after both."""
    nodes, contexts = trie.level(order), trie.level(order - 1)
    owners = trie.owners(order) - contexts.start
    probs, lower = (np.exp(weights.values[at], dtype=np.float64) for at in (nodes, trie.suffixes[nodes]))
    n_contexts = contexts.stop - contexts.start
    rests = (np.maximum(1 - np.bincount(owners, seen, n_contexts), _TINY) for seen in (probs, lower))
    return (*rests, probs, lower)


def _without(trie: Trie, keep: NDArray[np.bool_]) -> Trie:
    """The trie of the nodes that stay."""
    new = np.concatenate([[0], np.cumsum(keep)]).astype(np.int32)  # (M + 1,) nodes that stay before each
    contexts = np.flatnonzero(keep[: trie.n_contexts])
    first_child = np.append(new[trie.first_child[contexts]], new[-1])
    return Trie(new[trie.levels].astype(np.int64), trie.tokens[keep], first_child, new[trie.suffixes[keep]])


def _normalised(trie: Trie, weights: Weights, changed: NDArray[np.bool_]) -> Weights:
    """Back-off weights of the changed contexts (C,) with which their probabilities sum to 1."""
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
