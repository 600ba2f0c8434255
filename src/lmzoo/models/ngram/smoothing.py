"""Smoothing: how much probability a context takes from what followed it, and gives to all that did not.

All the classic methods are one formula (Chen & Goodman 1998, section 2.8). A context h keeps a part of the count of
each token that followed it, frees the rest, and hands the freed part down to h', the context without its first token.
Down there either all tokens share it, or only those that never followed h:

    interpolated   p(w | h) = (kept(h w) + freed(h) p(w | h')) / (kept(h) + freed(h))
    back-off       p(w | h) = kept(h w) / (kept(h) + freed(h))     if w followed h, else   alpha(h) p(w | h')

with kept(h) the sum of kept(h w) and alpha(h), the back-off weight, such that the sum is 1. Interpolated methods have
one, too: the probability of what did not follow h is freed(h) / (kept(h) + freed(h)) times p(w | h'). Below the unigram
every token has 1 / V, so that nothing is impossible. A context that nothing followed has the weight 1. So a method is:
which counts, what to keep, what to free, and who shares it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.ngram.weights import Weights
from lmzoo.stream import TokenStream

if TYPE_CHECKING:
    from lmzoo.models.ngram.counting import CountedNgrams

_BLOCK = 1 << 16
"""Contexts are worked on in blocks with about so many children, which stay in the processor's cache."""

Form = Literal["interpolated", "back-off", "scores"]
"""Who shares what a context frees; "scores" are a back-off whose weight is freed(h) / kept(h) whatever the sum is."""


@dataclass(frozen=True, eq=False)
class Families:
    """Some contexts of one order and the tokens that followed them."""

    counts: NDArray[np.int32]
    """(N,) counts of the N children, family after family."""
    starts: NDArray[np.int32]
    """(F + 1,) where the family of each of F contexts begins."""
    vocab_size: int

    @cached_property
    def owners(self) -> NDArray[np.intp]:
        """(N,) the context of each child."""
        return np.repeat(np.arange(self.starts.size - 1), np.diff(self.starts))

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """(F,) float64 sums of (N,) values over each family."""
        return np.bincount(self.owners, values, minlength=self.starts.size - 1)


Shares = tuple[NDArray[Any], NDArray[Any]]


class Smoothing(Protocol):
    """A method: which counts, what to keep, what to free, who shares it."""

    @property
    def form(self) -> Form: ...

    def counts(self, counted: CountedNgrams, order: int) -> NDArray[np.int32]:
        """The counts of all n-grams of an order."""
        ...

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        """(n, P) the P numbers of the method at each order 1 .. n."""
        ...

    def shares(self, families: Families, parameters: NDArray[np.float64]) -> Shares:
        """(N,) the counts kept by children and (F,) freed by contexts, with the (P,) numbers of their order."""
        ...


def estimate(counted: CountedNgrams, smoothing: Smoothing, parameters: NDArray[np.float64]) -> Weights:
    """The probabilities of all n-grams and the back-off weights of all contexts."""
    trie = counted.trie
    values = counted.workspace.empty(trie.tokens.size, np.float32)
    backoffs = counted.workspace.empty(trie.n_contexts, np.float32)
    values[0] = -math.log(trie.vocab_size)
    below = np.full(1, 1 / trie.vocab_size), np.ones(1)
    for order in range(1, trie.order + 1):
        below = _estimate_order(counted, smoothing, parameters[order - 1], order, below, values, backoffs)
    return Weights(values, backoffs)


# Of one order, in double precision: probabilities of n-grams, and what the scores of their contexts sum to.
_Order = tuple[NDArray[np.float64], NDArray[np.float64]]


def _estimate_order(
    counted: CountedNgrams,
    smoothing: Smoothing,
    parameters: NDArray[np.float64],
    order: int,
    below: _Order,
    log_probs: NDArray[np.float32],
    backoffs: NDArray[np.float32],
) -> _Order:
    """Fills in one order; returns what the next one needs to know, `below` is that of the order before."""
    trie, workspace = counted.trie, counted.workspace
    contexts, nodes, first_shorter = trie.level(order - 1), trie.level(order), trie.level(max(0, order - 2)).start
    counts = smoothing.counts(counted, order)
    scores = smoothing.form == "scores"
    probs = workspace.empty(counts.size if order < trie.order else 0, np.float64)
    sums = workspace.empty(contexts.stop - contexts.start if scores else 0, np.float64)

    def work(block: slice) -> None:
        starts = trie.first_child[block.start : block.stop + 1]
        children = slice(int(starts[0]), int(starts[-1]))
        here = slice(children.start - nodes.start, children.stop - nodes.start)
        families = Families(counts[here], starts - starts[0], trie.vocab_size)
        kept, freed = smoothing.shares(families, parameters)
        lower = below[0][trie.suffixes[children] - contexts.start]
        if scores:
            freed = freed * below[1][trie.suffixes[block] - first_shorter]
        child_probs, weights, totals = _combine(smoothing.form, families, kept, freed, lower)
        if probs.size:
            probs[here] = child_probs
        if scores:
            sums[block.start - contexts.start : block.stop - contexts.start] = totals
        with np.errstate(divide="ignore"):  # without smoothing, something is impossible and nothing is freed
            log_probs[children], backoffs[block] = np.log(child_probs), np.log(weights)

    workspace.run(work, _blocks(trie.first_child, contexts))
    return probs, sums


def _combine(
    form: Form, families: Families, kept: NDArray[Any], freed: NDArray[Any], lower: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(N,) probabilities of children, (F,) back-off weights, and (F,) what scores sum to before they are divided by it.

    `lower` are the probabilities (N,) of the children's tokens after the shorter context.
    """
    kept_sums, new = families.sums(kept), families.counts == 0  # the trie has unigrams that were never seen
    if form == "interpolated":
        total, backed_off = kept_sums + freed, slice(None)
    else:
        n_seen = np.diff(families.starts) - families.sums(new)
        unseen = np.where(n_seen < families.vocab_size, 1 - families.sums(np.where(new, 0, lower)), 0)
        if form == "back-off":  # where every token was seen, nobody is left to share
            freed = np.divide(freed, unseen, out=np.zeros(unseen.size), where=unseen > 0)
        total, backed_off = kept_sums + freed * unseen, new
    empty = total == 0
    total[empty] = 1
    weights = np.where(empty, 1, freed / total)
    probs = kept / total[families.owners]
    probs[backed_off] += (weights[families.owners] * lower)[backed_off]
    return probs, weights, np.where(empty, 1, total / np.maximum(kept_sums, 1))


def _blocks(first_child: NDArray[np.int32], contexts: slice) -> Iterator[slice]:
    """Cuts the contexts of an order into blocks with about `_BLOCK` children."""
    starts = first_child[contexts.start : contexts.stop + 1]
    cuts = np.searchsorted(starts, np.arange(starts[0] + _BLOCK, starts[-1], _BLOCK)).tolist()
    edges = sorted({0, *cuts, starts.size - 1})
    for start, stop in itertools.pairwise(edges):
        yield slice(contexts.start + start, contexts.start + stop)
