"""Smaller models: n-grams whose loss would change little leave (Stolcke 1998).

Without the n-gram h w, the shorter context predicts w, and the back-off weight of h changes from alpha to

    alpha' = (rest + p(w | h)) / (rest' + p(w | h'))

(rest is what p leaves to the tokens that never followed h, rest' what the shorter context h' gives to the same tokens),
so that the relative entropy to the full model grows by (equation 5 there, with p(h) by the chain rule)

    p(h) {p(w | h) [log p(w | h) - log p(w | h') - log alpha'] - rest [log alpha' - log alpha]}

An n-gram leaves if the perplexity would grow by less than the threshold, as a fraction of it. The longest ones are
looked at first. What is part of a longer n-gram that stays must stay, too: the trie needs it as context or suffix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.ngram.scoring import Matcher
from lmzoo.models.ngram.trie import Trie

Floats = NDArray[np.float32]

_SMALL = 1e-2
"""Where the unseen have less than this after the shorter context, 1 minus what the seen have is too inexact."""
_ROWS = 1 << 21


def prune(trie: Trie, log_probs: Floats, backoffs: Floats, threshold: float) -> tuple[Trie, Floats, Floats]:
    """The model without the n-grams that are worth less than `threshold`; log-probabilities and back-offs in nats."""
    keep = _worth(trie, log_probs, backoffs, threshold)
    smaller = _without(trie, keep)
    log_probs, kept_contexts = log_probs[keep], keep[: trie.n_contexts]
    changed = np.diff(trie.first_child)[kept_contexts] > np.diff(smaller.first_child)
    backoffs = backoffs[kept_contexts]
    _normalise(smaller, log_probs, backoffs, changed)
    return smaller, log_probs, backoffs


def _worth(trie: Trie, log_probs: Floats, backoffs: Floats, threshold: float) -> NDArray[np.bool_]:
    """(M,) which n-grams stay."""
    joint = np.ones(trie.tokens.size)  # the probability of each n-gram as a piece of text
    for k in range(1, trie.order + 1):
        nodes = trie.level(k)
        joint[nodes] = joint[_owners(trie, k)] * np.exp(log_probs[nodes], dtype=np.float64)
    keep = np.ones(trie.tokens.size, np.bool_)
    needed = np.zeros(trie.tokens.size, np.bool_)
    for k in range(trie.order, 1, -1):
        nodes, owners, first = trie.level(k), _owners(trie, k), trie.level(k - 1).start
        suffixes = trie.suffixes[nodes]
        probs, lower = (np.exp(log_probs[where], dtype=np.float64) for where in (nodes, suffixes))
        n_contexts = trie.level(k - 1).stop - first
        rest, rest_lower = (
            np.maximum(1 - np.bincount(owners - first, values, n_contexts), 1e-9)[owners - first]
            for values in (probs, lower)
        )
        log_alpha = np.log((rest + probs) / (rest_lower + lower))
        loss = probs * (np.log(probs / lower) - log_alpha) - rest * (log_alpha - backoffs[owners])
        keep[nodes] = needed[nodes] | (np.expm1(joint[owners] * loss) >= threshold)
        needed[owners[keep[nodes]]] = True
        needed[suffixes[keep[nodes]]] = True
    return keep


def _owners(trie: Trie, order: int) -> NDArray[np.int64]:
    """The context of every n-gram of an order."""
    contexts = trie.level(order - 1)
    sizes = np.diff(trie.first_child[contexts.start : contexts.stop + 1])
    return np.repeat(np.arange(contexts.start, contexts.stop), sizes)


def _without(trie: Trie, keep: NDArray[np.bool_]) -> Trie:
    """The trie of the nodes that stay."""
    new = np.concatenate([[0], np.cumsum(keep)]).astype(np.int32)  # (M + 1,) nodes that stay before each
    contexts = np.flatnonzero(keep[: trie.n_contexts])
    first_child = np.append(new[trie.first_child[contexts]], new[-1])
    return Trie(new[trie.levels].astype(np.int64), trie.tokens[keep], first_child, new[trie.suffixes[keep]])


def _normalise(trie: Trie, log_probs: Floats, backoffs: Floats, changed: NDArray[np.bool_]) -> None:
    """Sets the back-off weights of the changed contexts such that their probabilities sum to 1."""
    matcher = Matcher(trie)
    for k in range(1, trie.order):
        contexts, nodes = trie.level(k), trie.level(k + 1)
        owners = _owners(trie, k + 1) - contexts.start
        here = np.flatnonzero(changed[contexts])
        seen, seen_lower = (
            np.bincount(owners, np.exp(log_probs[where], dtype=np.float64), contexts.stop - contexts.start)[here]
            for where in (nodes, trie.suffixes[nodes])
        )
        rest, rest_lower = np.maximum(1 - seen, 0), 1 - seen_lower
        inexact = np.flatnonzero(rest_lower < _SMALL)
        for part in np.array_split(inexact, 1 + inexact.size * trie.vocab_size // _ROWS):
            rows = np.empty((part.size, trie.vocab_size))
            matcher.fill_rows(trie.suffixes[contexts.start + here[part]], log_probs, backoffs, rows)
            for row, context in zip(rows, contexts.start + here[part], strict=True):
                row[trie.tokens[trie.children(int(context))]] = -np.inf
            rest_lower[part] = np.exp(rows).sum(axis=1)
        with np.errstate(divide="ignore"):
            backoffs[contexts.start + here] = np.log(rest / rest_lower)
