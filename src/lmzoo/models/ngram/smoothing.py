"""Smoothing: how much probability a context takes from what followed it, and gives to all that did not.

All the classic methods are one formula (Chen & Goodman 1998, section 2.8). A context h keeps a part of the count of
each token that followed it, frees the rest, and hands the freed part down to the context without its first token:

    p(w | h) = (kept(h w) + freed(h) p(w | h')) / (sum over w of kept(h w) + freed(h))

and below the unigram every token has 1 / V, so that nothing is impossible. Where w did not follow h, this is
p(w | h') times the back-off weight of h, freed(h) over the same sum. So a method is: which counts, what to keep, what
to free. A context that nothing followed has the weight 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError, UnknownNameError
from lmzoo.stream import TokenStream

if TYPE_CHECKING:
    from lmzoo.models.ngram.counting import CountedNgrams

_BLOCK = 1 << 18
"""Contexts are worked on in blocks with about so many children, which stay in the processor's cache."""


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
    """A method: which counts, what to keep, what to free."""

    def counts(self, counted: CountedNgrams, order: int) -> NDArray[np.int32]:
        """The counts of all n-grams of an order."""
        ...

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        """(n, P) the P numbers of the method at each order 1 .. n."""
        ...

    def shares(self, families: Families, parameters: NDArray[np.float64]) -> Shares:
        """(N,) the counts kept by children and (F,) freed by contexts, with the (P,) numbers of their order."""
        ...


def estimate(
    counted: CountedNgrams, smoothing: Smoothing, parameters: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M,) log-probabilities of all n-grams and (C,) logarithms of all back-off weights, in nats."""
    trie = counted.trie
    probs, weights = np.empty(trie.tokens.size), np.empty(trie.n_contexts)
    probs[0] = 1 / trie.vocab_size
    for order in range(1, trie.order + 1):
        counts, first = smoothing.counts(counted, order), trie.level(order).start
        for block in _blocks(trie.first_child, trie.level(order - 1)):
            starts = trie.first_child[block.start : block.stop + 1]
            children = slice(int(starts[0]), int(starts[-1]))
            counts_here = counts[children.start - first : children.stop - first]
            families = Families(counts_here, starts - starts[0], trie.vocab_size)
            kept, freed = smoothing.shares(families, parameters[order - 1])
            total = families.sums(kept) + freed
            empty = total == 0
            total[empty] = 1
            weight = np.where(empty, 1, freed / total)
            weights[block] = weight
            lower = probs[trie.suffixes[children]]
            probs[children] = kept / total[families.owners] + weight[families.owners] * lower
    with np.errstate(divide="ignore"):  # an unsmoothed context frees nothing: weight 0
        return np.log(probs, out=probs), np.log(weights, out=weights)


def _blocks(first_child: NDArray[np.int32], contexts: slice) -> Iterator[slice]:
    """Cuts the contexts of an order into blocks with about `_BLOCK` children."""
    starts = first_child[contexts.start : contexts.stop + 1]
    cuts = np.searchsorted(starts, np.arange(starts[0] + _BLOCK, starts[-1], _BLOCK)).tolist()
    edges = sorted({0, *cuts, starts.size - 1})
    for start, stop in itertools.pairwise(edges):
        yield slice(contexts.start + start, contexts.start + stop)


@dataclass(frozen=True)
class Discounting:
    """Takes a constant from every count (Ney, Essen & Kneser 1994), in the ways that became Kneser-Ney.

    With `continuations`, an n-gram below the highest order counts how many different tokens precede it: "Francisco" is
    frequent, but only after "San" (Kneser & Ney 1995). With `modified`, counts of 1, 2 and more lose different amounts
    (Chen & Goodman 1998, equation 26). With t_j n-grams of count j, and Y = t_1 / (t_1 + 2 t_2),

        D_j = j - (j + 1) Y t_{j+1} / t_j        (unmodified: D_1 = D_2 = D_3 = Y)

    A text may have no n-gram of some count, or have more of count 2 than of count 1 (characters, a text without
    repetitions). An order whose discounts come out unusable takes `FALLBACK`, as KenLM does when asked to; the model's
    `parameters` show which did.
    """

    continuations: bool
    modified: bool

    FALLBACK = (0.5, 1.0, 1.5)

    def counts(self, counted: CountedNgrams, order: int) -> NDArray[np.int32]:
        return counted.continuations(order) if self.continuations else counted.observed(order)

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        orders = range(1, counted.trie.order + 1)
        return np.array([self._discounts(self.counts(counted, order)) for order in orders])

    def _discounts(self, counts: NDArray[np.int32]) -> tuple[float, float, float]:
        """The discounts of the counts 1, 2 and from 3 on."""
        t = np.bincount(np.minimum(counts, 5), minlength=5).tolist()
        if not (t[1] and t[2]):
            return self.FALLBACK
        y = t[1] / (t[1] + 2 * t[2])
        if not self.modified:
            return y, y, y
        if not t[3]:
            return self.FALLBACK
        d1, d2, d3 = (j - (j + 1) * y * t[j + 1] / t[j] for j in (1, 2, 3))
        return (d1, d2, d3) if d1 > 0 and d2 > 0 and d3 > 0 else self.FALLBACK

    def shares(self, families: Families, parameters: NDArray[np.float64]) -> Shares:
        discounts = np.concatenate([[0.0], parameters])[np.minimum(families.counts, 3)]
        return families.counts - discounts, families.sums(discounts)


class _FromOccurrences:
    """Methods that count occurrences at every order, and learn nothing beyond them."""

    def counts(self, counted: CountedNgrams, order: int) -> NDArray[np.int32]:
        return counted.observed(order)

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        return np.empty((counted.trie.order, 0))


class WittenBell(_FromOccurrences):
    """Frees one count for every different token that followed: so often something new came (Witten & Bell 1991)."""

    def shares(self, families: Families, parameters: NDArray[np.float64]) -> Shares:
        return families.counts, families.sums(families.counts > 0)


@dataclass(frozen=True)
class Additive(_FromOccurrences):
    """Adds `alpha` to every count of the highest order (Laplace 1774: 1; Lidstone 1920); lower orders are not used.

    With 0 it is maximum likelihood, which finds everything new impossible. After a context never seen, every token is
    equally likely.
    """

    alpha: float

    def counts(self, counted: CountedNgrams, order: int) -> NDArray[np.int32]:
        observed = counted.observed(order)
        if order < counted.trie.order:  # only what begins at a document start is as long as it can be
            observed = observed.copy()
            observed[counted.trie.n_at_document_start[order] if order > 1 else 0 :] = 0
        return observed

    def shares(self, families: Families, parameters: NDArray[np.float64]) -> Shares:
        return families.counts, np.full(families.starts.size - 1, self.alpha * families.vocab_size)


class JelinekMercer(_FromOccurrences):
    """Mixes each order with the one below by weights that make held-out text likely (Jelinek & Mercer 1980).

        p(w | h) = lambda(h) c(h w) / c(h) + (1 - lambda(h)) p(w | h')

    A weight is shared by the contexts of one order and of about the same count c(h), as in Chen & Goodman (1998,
    section 2.3), and learned by EM on valid. One token more is drawn and one passed down under each weight than valid
    has, so that none becomes 0 or 1.
    """

    N_BUCKETS = 20  # c(h) = 1, 2, 3-4, 5-8, ..., more than 2^18
    MAX_STEPS = 200

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        from lmzoo.models.ngram.scoring import Matcher  # numba, which only a fit may import

        nodes = Matcher(counted.trie).nodes(valid.ids)
        contexts, children = np.zeros_like(nodes[:, 1:]), nodes[:, 1:]  # (n, T)
        contexts[1:] = nodes[:-1, :-1]
        totals = counted.context_totals()[contexts]
        totals[1:][contexts[1:] == 0] = 0  # there is no such context: only the unigram's is the root
        ratios = np.where(children > 0, counted.counts[children], 0) / np.maximum(totals, 1)  # c(h w) / c(h)
        buckets, seen = self._bucket(totals), totals > 0
        lambdas = np.full((len(nodes), self.N_BUCKETS), 0.5)
        for _ in range(self.MAX_STEPS):
            better = self._em_step(lambdas, ratios, buckets, seen, 1 / counted.trie.vocab_size)
            change = np.abs(better - lambdas).max()
            lambdas = better
            if change < 1e-4:
                break
        return lambdas

    def _em_step(
        self,
        lambdas: NDArray[np.float64],
        ratios: NDArray[np.float64],
        buckets: NDArray[np.intp],
        seen: NDArray[np.bool_],
        uniform: float,
    ) -> NDArray[np.float64]:
        """Weights under which T tokens are more likely, from (n, T) facts about each token's contexts."""
        mix = np.where(seen, np.take_along_axis(lambdas, buckets, axis=1), 0)  # (n, T)
        probs = np.empty_like(mix)
        lower: Any = uniform
        for k in range(len(mix)):
            lower = probs[k] = mix[k] * ratios[k] + (1 - mix[k]) * lower
        better, reached = np.empty_like(lambdas), np.ones(mix.shape[1])
        for k in reversed(range(len(mix))):  # reached: how probably the token was passed down to this order
            drawn = reached * mix[k] * ratios[k] / probs[k]
            n_drawn = np.bincount(buckets[k], drawn, self.N_BUCKETS)
            n_reached = np.bincount(buckets[k], reached * seen[k], self.N_BUCKETS)
            better[k] = (n_drawn + 1) / (n_reached + 2)
            reached -= drawn
        return better

    def _bucket(self, totals: NDArray[Any]) -> NDArray[np.intp]:
        return np.minimum(np.ceil(np.log2(np.maximum(totals, 1))), self.N_BUCKETS - 1).astype(np.intp)

    def shares(self, families: Families, parameters: NDArray[np.float64]) -> Shares:
        totals = families.sums(families.counts)
        lambdas = parameters[self._bucket(totals)]
        return lambdas[families.owners] * families.counts, (1 - lambdas) * totals


SMOOTHINGS: dict[str, Smoothing] = {
    "kneser-ney": Discounting(continuations=True, modified=True),
    "kneser-ney-1995": Discounting(continuations=True, modified=False),
    "absolute": Discounting(continuations=False, modified=False),
    "witten-bell": WittenBell(),
    "jelinek-mercer": JelinekMercer(),
    "additive": Additive(1.0),
    "mle": Additive(0.0),
}


def smoothing_from(spec: str) -> Smoothing:
    """The method of a name in `SMOOTHINGS`, or "additive:ALPHA"; ConfigurationError if there is none."""
    name, colon, alpha = spec.partition(":")
    if name not in SMOOTHINGS:
        raise UnknownNameError("smoothing", name, SMOOTHINGS)
    if not colon:
        return SMOOTHINGS[name]
    try:
        amount = float(alpha)
    except ValueError:
        amount = math.nan
    if name != "additive" or not 0 < amount < math.inf:
        raise ConfigurationError(f"only 'additive' takes a number, above 0, as in 'additive:0.1'; got '{spec}'")
    return Additive(amount)
