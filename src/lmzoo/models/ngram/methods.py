"""The methods of smoothing, by name: which counts, what a context keeps, what it frees, and who shares that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError, UnknownNameError
from lmzoo.models.ngram.smoothing import Families, Form, Shares, Smoothing
from lmzoo.stream import TokenStream

if TYPE_CHECKING:
    from lmzoo.models.ngram.counting import CountedNgrams


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

    continuations: bool = True
    modified: bool = True
    form: Form = "interpolated"

    FALLBACK: ClassVar = (0.5, 1.0, 1.5)

    def counts(self, counted: CountedNgrams, order: int) -> NDArray[np.int32]:
        return counted.continuations(order) if self.continuations else counted.observed(order)

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        orders = range(1, counted.trie.order + 1)
        return np.array([self._discounts(self.counts(counted, order)) for order in orders])

    def _discounts(self, counts: NDArray[np.int32]) -> tuple[float, float, float]:
        """The discounts of the counts 1, 2 and from 3 on."""
        t = [int(np.count_nonzero(counts == j)) for j in range(5)]
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


@dataclass(frozen=True)
class TunedDiscounting(Discounting):
    """Modified Kneser-Ney with the discounts that make held-out text most likely (Chen & Goodman 1998, section 5.1)."""

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        from scipy.optimize import minimize  # slow to import

        start = super().learn(counted, valid)  # (n, 3)
        own, kept, totals, kinds = [], [], [], []  # of each order: (T,), (T,), (T,), (4, T) of each token's context
        for order, (nodes, families) in enumerate(_held_out(counted, valid), start=1):
            counts = self.counts(counted, order)
            kept.append(_at(counts, nodes))
            own.append(np.minimum(kept[-1], 3))
            totals.append(_sums(counts, families))
            kinds.append(np.array([_sums(np.minimum(counts, 3) == kind, families) for kind in range(4)]))

        def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            """Negative log-likelihood of the held-out text in nats per token, and its gradient."""
            discounts = np.insert(flat.reshape(start.shape), 0, 0, axis=1)  # (n, 4): what is not there loses nothing
            probs = [np.full(len(valid), 1 / counted.trie.vocab_size)]  # of each order from 0 on
            for k, total in enumerate(totals):
                p = kept[k] - discounts[k][own[k]] + (discounts[k] @ kinds[k]) * probs[k]
                probs.append(np.where(total > 0, p / np.maximum(total, 1), probs[k]))
            gradient, slope = np.zeros_like(discounts), 1 / probs[-1]  # slope: by the probability of an order
            for k, total in reversed(list(enumerate(totals))):
                share = np.where(total > 0, slope / np.maximum(total, 1), 0)
                gradient[k] = kinds[k] @ (share * probs[k]) - np.bincount(own[k], share, 4)
                slope = np.where(total > 0, share * (discounts[k] @ kinds[k]), slope)
            return -np.log(probs[-1]).mean(), -gradient[:, 1:].ravel() / len(valid)

        bounds = [(1e-3, j - 1e-3) for _ in start for j in (1, 2, 3)]
        return minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", bounds=bounds).x.reshape(start.shape)


class _FromOccurrences:
    """Methods that count occurrences at every order, and learn nothing beyond them."""

    form: Form = "interpolated"

    def counts(self, counted: CountedNgrams, order: int) -> NDArray[np.int32]:
        return counted.observed(order)

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        return np.empty((counted.trie.order, 0))


class Katz(_FromOccurrences):
    """Good-Turing discounts and back-off (Good 1953; Katz 1987): what came once says how much never came.

    With t_r n-grams of count r, a count of r up to 5 becomes r* = (r + 1) t_{r+1} / t_r, scaled such that only the
    counts up to 5 pay for the t_1 / N that is freed; greater ones are reliable. An order without usable discounts takes
    those of `FALLBACK`, and a context in which nothing is freed frees one count.
    """

    form: Form = "back-off"
    LARGEST = 5
    FALLBACK = (0.5, 0.75, 0.85, 0.9, 0.95)

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        """(n, 5) the factors of the counts 1 .. 5."""
        return np.array([self._factors(counted.observed(order)) for order in range(1, counted.trie.order + 1)])

    def _factors(self, counts: NDArray[np.int32]) -> NDArray[np.float64]:
        t = np.array([np.count_nonzero(counts == r) for r in range(1, self.LARGEST + 2)])
        if not t.all():
            return np.array(self.FALLBACK)
        r = np.arange(1, self.LARGEST + 1)
        pays = (self.LARGEST + 1) * t[self.LARGEST] / t[0]
        factors = ((r + 1) * t[1:] / (r * t[:-1]) - pays) / (1 - pays) if pays != 1 else np.zeros(r.size)
        return factors if (factors > 0).all() and (factors < 1).all() else np.array(self.FALLBACK)

    def shares(self, families: Families, parameters: NDArray[np.float64]) -> Shares:
        factors = np.concatenate([[0.0], parameters, [1.0]])
        kept = families.counts * factors[np.minimum(families.counts, self.LARGEST + 1)]
        freed = families.sums(families.counts - kept)
        return kept, np.where((freed == 0) & (families.sums(families.counts) > 0), 1, freed)


class StupidBackoff(_FromOccurrences):
    """Relative frequencies, and 0.4 times the score of the shorter context where there are none (Brants et al. 2007).

    Scores do not sum to 1; here they are divided by their sum.
    """

    form: Form = "scores"
    FACTOR = 0.4

    def shares(self, families: Families, parameters: NDArray[np.float64]) -> Shares:
        return families.counts, self.FACTOR * families.sums(families.counts)


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
        totals, ratios = np.empty((2, counted.trie.order, len(valid)))
        for k, (nodes, families) in enumerate(_held_out(counted, valid)):
            counts = counted.observed(k + 1)
            totals[k] = _sums(counts, families)
            ratios[k] = _at(counts, nodes) / np.maximum(totals[k], 1)  # c(h w) / c(h)
        buckets, seen = self._bucket(totals), totals > 0
        lambdas = np.full((len(totals), self.N_BUCKETS), 0.5)
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


class Given(_FromOccurrences):
    """None of lmzoo's: the probabilities were estimated elsewhere and read from a file (`arpa.py`)."""

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        raise ConfigurationError(f"'{GIVEN}' marks a model that was read from a file: fit with {', '.join(SMOOTHINGS)}")

    def shares(self, families: Families, parameters: NDArray[np.float64]) -> Shares:
        raise NotImplementedError


GIVEN = "given"
Ends = tuple[NDArray[np.int32], NDArray[np.int32]]


def _held_out(counted: CountedNgrams, valid: TokenStream) -> Iterator[tuple[NDArray[np.int32], Ends]]:
    """For each order, places in its level for every held-out token: that of the n-gram that ends in it (T,), negative
    if it was not seen, and where the family of its context begins and ends, empty if there is no such context."""
    from lmzoo.models.ngram.scoring import Matcher  # numba, which only a fit may import

    trie = counted.trie
    nodes = Matcher(trie).nodes(valid.ids)  # (n, 1 + T)
    for k in range(trie.order):
        first = trie.level(k + 1).start
        contexts = nodes[k - 1, :-1] if k else np.zeros(len(valid), np.int32)
        seen = (contexts > 0) | (k == 0)
        ends = tuple(np.where(seen, trie.first_child[contexts + side] - first, 0) for side in (0, 1))
        yield np.where(nodes[k, 1:] > 0, nodes[k, 1:] - first, -1), (ends[0], ends[1])


def _at(counts: NDArray[np.int32], nodes: NDArray[np.int32]) -> NDArray[np.int32]:
    """The counts at places in a level; 0 at negative ones."""
    return np.append(counts, np.int32(0))[np.where(nodes >= 0, nodes, counts.size)]


def _sums(values: NDArray[Any], ends: Ends) -> NDArray[np.int64]:
    """Sums of the values of a level over families."""
    running = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return running[ends[1]] - running[ends[0]]


SMOOTHINGS: dict[str, Smoothing] = {
    "kneser-ney": Discounting(),
    "kneser-ney-tuned": TunedDiscounting(),
    "kneser-ney-backoff": Discounting(form="back-off"),
    "kneser-ney-1995": Discounting(modified=False, form="back-off"),
    "kneser-ney-1995-interpolated": Discounting(modified=False),
    "absolute": Discounting(continuations=False, modified=False),
    "katz": Katz(),
    "witten-bell": WittenBell(),
    "jelinek-mercer": JelinekMercer(),
    "stupid-backoff": StupidBackoff(),
    "additive": Additive(1.0),
    "mle": Additive(0.0),
}


def smoothing_from(spec: str) -> Smoothing:
    """The method of a name in `SMOOTHINGS`, or "additive:ALPHA"; ConfigurationError if there is none."""
    if spec == GIVEN:
        return Given()
    name, colon, alpha = str(spec).partition(":")
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
