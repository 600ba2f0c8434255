"""The smoothing methods: the counts that each method uses, and how it discounts them.

`smoothing.py` defines the terms and applies the formula that all methods share; `names.py` lists the methods by name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.ngram.smoothing import Counts, DiscountedCounts, Form, Successors, counts_of_counts
from lmzoo.stream import TokenStream

if TYPE_CHECKING:
    from lmzoo.models.ngram.counting.counted import CountedNgrams

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Discounting:
    """Absolute discounting, Kneser-Ney and modified Kneser-Ney smoothing: a constant is subtracted from every count.

    With `continuations` (Kneser-Ney), the count of an n-gram below the highest order is the number of different tokens
    that precede it: "Francisco" is frequent, but only after "San" (Kneser & Ney 1995). With `modified`, the counts 1, 2
    and 3 or more have different discounts (Chen & Goodman 1998, equation 26). Let t_j be the number of n-grams with the
    count j, and Y = t_1 / (t_1 + 2 t_2). Then the discount of the count j is

        D_j = j - (j + 1) Y t_{j+1} / t_j        (unmodified: D_1 = D_2 = D_3 = Y; Ney, Essen & Kneser 1994)

    The formula is undefined if no n-gram has some count, and may give negative discounts if more n-grams have count 2
    than count 1 (models of characters, texts without repetitions). An order with such discounts uses `FALLBACK`, like
    KenLM with `--discount_fallback`; the `parameters` of the fitted model show the discounts of each order. A discount
    of exactly 0, which KenLM allows, also leads to `FALLBACK`: it would leave no probability for unseen tokens. So does
    D_3 = 3 in a back-off model, where it would leave no probability for tokens that followed a context three times.
    With `fixed`, all orders have these three discounts instead.
    """

    continuations: bool = True
    modified: bool = True
    form: Form = "interpolated"
    fixed: tuple[float, ...] = ()

    FALLBACK: ClassVar = (0.5, 1.0, 1.5)
    tuned: ClassVar[bool] = False

    def counts(self, counted: Counts, order: int) -> NDArray[np.int32]:
        return counted.continuations(order) if self.continuations else counted.observed(order)

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        """Computes the discounts of the counts 1, 2, and 3 or more for each order 1 .. n; returns an array (n, 3)."""
        return self.parameters_from(_all_counts_of_counts(self.counts, counted))

    def parameters_from(self, counts_of_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Computes the discounts (n, 3) of the orders 1 .. n from the numbers (n, 7) of n-grams with each count."""
        if self.fixed:
            return np.array([self.fixed for _ in counts_of_counts])
        discounts = [self._discounts(t) for t in counts_of_counts.tolist()]
        if undefined := [order for order, values in enumerate(discounts, 1) if values == self.FALLBACK]:
            _logger.info(
                "the text has too few rare n-grams of order %s to estimate their discounts: %s are used, as by lmplz "
                "with --discount_fallback",
                ", ".join(map(str, undefined)),
                ", ".join(map(str, self.FALLBACK)),
            )
        return np.array(discounts)

    def _discounts(self, t: Sequence[int]) -> tuple[float, float, float]:
        """Computes the discounts of the counts 1, 2, and 3 or more of an order with t[j] n-grams of the count j."""
        if not (t[1] and t[2]):
            return self.FALLBACK
        y = t[1] / (t[1] + 2 * t[2])
        if not self.modified:
            return y, y, y
        if not t[3]:
            return self.FALLBACK
        d1, d2, d3 = (j - (j + 1) * y * t[j + 1] / t[j] for j in (1, 2, 3))
        is_allowed = d1 > 0 and d2 > 0 and d3 > 0 and (d3 < 3 or self.form == "interpolated")
        return (d1, d2, d3) if is_allowed else self.FALLBACK

    def discount(self, successors: Successors, parameters: NDArray[np.float64]) -> DiscountedCounts:
        discounts = np.concatenate([[0.0], parameters])[np.minimum(successors.counts, 3)]
        return successors.counts - discounts, successors.sums(discounts)


@dataclass(frozen=True)
class TunedDiscounting(Discounting):
    """Modified Kneser-Ney smoothing with the discounts that maximise the likelihood of the validation set.

    Source: Chen & Goodman (1998), section 5.1.
    """

    tuned: ClassVar[bool] = True

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        """Finds the discounts (n, 3) of each order 1 .. n that maximise the likelihood of the validation set.

        The probability of a token w after its context h of k - 1 tokens is

            p_k = (c(h w) - D_k[c(h w)] + left_over_k p_{k-1}) / c(h),    left_over_k = sum_j D_k[j] n_j(h)

        where p_0 = 1 / V, and n_j(h) is the number of different tokens that followed h j times (j = 1, 2, 3 or more).
        For example, if three tokens followed h once, one twice, and w is one of the three, then c(h) = 5, and

            p_k = (1 - D[1] + (3 D[1] + D[2]) p_{k-1}) / 5

        so that p_k changes by (3 p_{k-1} - 1) / 5 per unit of D[1], by p_{k-1} / 5 per unit of D[2], and by
        (3 D[1] + D[2]) / 5 per unit of p_{k-1}. The last factor carries the gradient to the order below.
        """
        from scipy.optimize import minimize  # slow to import

        start = super().learn(counted, valid)  # (n, 3)
        # For each order: (T,) the count of each token's n-gram, and the same, at most 3; (T,) the count of its context;
        # (4, T) the number of n-grams in its context that have the count 0, 1, 2, and 3 or more.
        counts, kinds, totals, n_of_kind = [], [], [], []
        for order, (nodes, bounds) in enumerate(_held_out(counted, valid), start=1):
            of_order = self.counts(counted, order)
            counts.append(_at(of_order, nodes))
            kinds.append(np.minimum(counts[-1], 3))
            totals.append(_sums(of_order, bounds))
            n_of_kind.append(np.array([_sums(np.minimum(of_order, 3) == kind, bounds) for kind in range(4)]))

        def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            """Returns the mean negative log-likelihood of the validation set, in nats per token, and its gradient."""
            discounts = np.insert(flat.reshape(start.shape), 0, 0, axis=1)  # (n, 4): a count of 0 has no discount
            probs = [np.full(len(valid), 1 / counted.trie.vocab_size)]  # p_0, p_1 .. p_n, each (T,)
            for k, total in enumerate(totals):
                p = counts[k] - discounts[k][kinds[k]] + (discounts[k] @ n_of_kind[k]) * probs[k]
                probs.append(np.where(total > 0, p / np.maximum(total, 1), probs[k]))
            gradient, slope = np.zeros_like(discounts), 1 / probs[-1]  # slope (T,): derivative of log p_n by p_k
            for k, total in reversed(list(enumerate(totals))):
                per_count = np.where(total > 0, slope / np.maximum(total, 1), 0)
                gradient[k] = n_of_kind[k] @ (per_count * probs[k]) - np.bincount(kinds[k], per_count, 4)
                slope = np.where(total > 0, per_count * (discounts[k] @ n_of_kind[k]), slope)
            return -np.log(probs[-1]).mean(), -gradient[:, 1:].ravel() / len(valid)

        bounds = [(1e-3, j - 1e-3) for _ in start for j in (1, 2, 3)]
        return minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", bounds=bounds).x.reshape(start.shape)


class FromOccurrences:
    """Base class of the smoothing methods that use the number of occurrences of each n-gram as its count.

    Methods without learned parameters inherit `learn`, which returns an array with no columns.
    """

    form: Form = "interpolated"
    tuned: ClassVar[bool] = False

    def counts(self, counted: Counts, order: int) -> NDArray[np.int32]:
        return counted.observed(order)

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        return self.parameters_from(_all_counts_of_counts(self.counts, counted))

    def parameters_from(self, counts_of_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.empty((len(counts_of_counts), 0))


class Katz(FromOccurrences):
    """Katz back-off smoothing with Good-Turing discounts (Good 1953; Katz 1987).

    Let t_r be the number of n-grams with the count r. Good-Turing estimation replaces the count r by r* = (r + 1)
    t_{r+1} / t_r. This takes a total of t_1 from the counts, which is the estimated count of all unseen n-grams. Counts
    above 5 are reliable and are not discounted; the discounts of the counts 1 to 5 are scaled so that the total is
    still t_1. An order for which these discounts are undefined or not between 0 and 1 uses `FALLBACK`. A context
    without any discounted count has a left-over count of 1.
    """

    form: Form = "back-off"
    LARGEST = 5
    FALLBACK = (0.5, 0.75, 0.85, 0.9, 0.95)

    def parameters_from(self, counts_of_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Computes the factors (n, 5) by which Katz smoothing multiplies the counts 1 .. 5 at each order 1 .. n.

        `counts_of_counts` (n, 7) are the numbers of n-grams with the counts 0 .. 6.
        """
        return np.array([self._factors(t) for t in counts_of_counts])

    def _factors(self, counts_of_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Computes the factors by which Katz smoothing multiplies the counts 1 .. 5; returns an array (5,).

        `counts_of_counts` (7,) are the numbers t_r of n-grams of one order with the count r = 0 .. 6. Let r* = (r + 1)
        t_{r+1} / t_r be the Good-Turing estimate for the count r. With k = 5, the factor of a count r is (r* / r - x) /
        (1 - x), where x = (k + 1) t_{k+1} / t_1. If the factors are undefined or not between 0 and 1, `FALLBACK` is
        returned.
        """
        t = counts_of_counts[1:]
        if not t.all():
            return np.array(self.FALLBACK)
        r = np.arange(1, self.LARGEST + 1)
        x = (self.LARGEST + 1) * t[self.LARGEST] / t[0]
        factors = ((r + 1) * t[1:] / (r * t[:-1]) - x) / (1 - x) if x != 1 else np.zeros(r.size)
        return factors if (factors > 0).all() and (factors < 1).all() else np.array(self.FALLBACK)

    def discount(self, successors: Successors, parameters: NDArray[np.float64]) -> DiscountedCounts:
        factors = np.concatenate([[0.0], parameters, [1.0]])
        discounted = successors.counts * factors[np.minimum(successors.counts, self.LARGEST + 1)]
        left_over = successors.sums(successors.counts - discounted)
        return discounted, np.where((left_over == 0) & (successors.sums(successors.counts) > 0), 1, left_over)


class StupidBackoff(FromOccurrences):
    """Stupid back-off (Brants et al. 2007): the score of a token is its relative frequency after the context.

    A token that never followed the context has 0.4 times its score after the shorter context, which lacks the first
    token. The scores of the paper do not sum to 1; here they are divided by their sum.
    """

    form: Form = "renormalised"
    FACTOR = 0.4

    def discount(self, successors: Successors, parameters: NDArray[np.float64]) -> DiscountedCounts:
        return successors.counts, self.FACTOR * successors.sums(successors.counts)


class WittenBell(FromOccurrences):
    """Witten-Bell smoothing: the more different tokens followed a context, the more weight the shorter context has.

    If a context occurred c times and was followed by n different tokens, then the distribution after the shorter
    context has the weight n / (c + n), because n estimates how often a new token follows (Witten & Bell 1991).
    """

    def discount(self, successors: Successors, parameters: NDArray[np.float64]) -> DiscountedCounts:
        return successors.counts, successors.sums(successors.counts > 0)


@dataclass(frozen=True)
class Additive(FromOccurrences):
    """Additive smoothing: adds `alpha` to the count of every n-gram of the highest order.

    Laplace (1774) uses `alpha` = 1, Lidstone (1920) other values. With `alpha` = 0 the result is the maximum likelihood
    estimate, which gives unseen n-grams the probability 0. Lower orders are not used: after a context that never
    occurred, all tokens have the same probability.
    """

    alpha: float

    def counts(self, counted: Counts, order: int) -> NDArray[np.int32]:
        """Returns the counts of all n-grams of length `order`, with 0 for n-grams that additive smoothing does not use.

        Additive smoothing uses the n-grams of the highest order n. Shorter n-grams are used only if they begin at the
        start of a document, where the context has fewer than n - 1 tokens.
        """
        observed = counted.observed(order)
        if order < counted.order:
            observed = observed.copy()
            observed[counted.n_at_document_start[order] if order > 1 else 0 :] = 0
        return observed

    def discount(self, successors: Successors, parameters: NDArray[np.float64]) -> DiscountedCounts:
        return successors.counts, np.full(successors.starts.size - 1, self.alpha * successors.vocab_size)


class JelinekMercer(FromOccurrences):
    """Jelinek-Mercer smoothing: interpolates each order with the order below, with weights learned by EM.

        p(w | h) = lambda(h) c(h w) / c(h) + (1 - lambda(h)) p(w | h')

    Here w is a token, h its context, h' the context without its first token, and c a count. The contexts of one order
    with about the same count c(h) share a weight lambda (Chen & Goodman 1998, section 2.3). Expectation-maximisation
    finds the weights that maximise the likelihood of the validation set (Jelinek & Mercer 1980). For each weight, two
    pseudo-tokens are added to the validation set: one generated by the order itself, and one by the orders below. So
    every weight is above 0 and below 1.
    """

    tuned: ClassVar[bool] = True
    N_BUCKETS = 20  # c(h) = 1, 2, 3-4, 5-8, ..., more than 2^18
    MAX_STEPS = 200

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        """Learns the interpolation weights (n, 20) of each order 1 .. n and each of 20 ranges of context counts.

        Iterates expectation-maximisation on the validation set until no weight changes by 1e-4 or more.
        """
        totals, ratios = np.empty((2, counted.trie.order, len(valid)))
        for k, (nodes, bounds) in enumerate(_held_out(counted, valid)):
            counts = counted.observed(k + 1)
            totals[k] = _sums(counts, bounds)
            ratios[k] = _at(counts, nodes) / np.maximum(totals[k], 1)  # c(h w) / c(h)
        buckets, seen = self._bucket(totals), totals > 0
        lambdas = np.full((len(totals), self.N_BUCKETS), 0.5)
        for _ in range(self.MAX_STEPS):
            updated = self._em_step(lambdas, ratios, buckets, seen, 1 / counted.trie.vocab_size)
            change = np.abs(updated - lambdas).max()
            lambdas = updated
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
        """Performs one EM step for the interpolation weights `lambdas` (n, 20); returns the updated weights.

        Each of the orders 1 .. n has 20 weights, one for each range of context counts. For each order and each of T
        validation tokens:

        - `ratios` (n, T): relative frequency of the token after its context in training.
        - `buckets` (n, T): index of the range of the context's count.
        - `seen` (n, T): True if the context occurred in training.

        `uniform` is the probability 1 / V of each of V tokens, with which the unigram model is interpolated.
        """
        mix = np.where(seen, np.take_along_axis(lambdas, buckets, axis=1), 0)  # (n, T)
        probs = np.empty_like(mix)
        lower: Any = uniform
        for k in range(len(mix)):
            lower = probs[k] = mix[k] * ratios[k] + (1 - mix[k]) * lower
        # The token was generated by one order: the highest with probability lambda, else by the orders below. `reached`
        # is the posterior probability that no order above k generated it, `generated` that order k did.
        updated, reached = np.empty_like(lambdas), np.ones(mix.shape[1])
        for k in reversed(range(len(mix))):
            generated = reached * mix[k] * ratios[k] / probs[k]
            n_generated = np.bincount(buckets[k], generated, self.N_BUCKETS)
            n_reached = np.bincount(buckets[k], reached * seen[k], self.N_BUCKETS)
            updated[k] = (n_generated + 1) / (n_reached + 2)
            reached -= generated
        return updated

    def _bucket(self, totals: NDArray[Any]) -> NDArray[np.intp]:
        return np.minimum(np.ceil(np.log2(np.maximum(totals, 1))), self.N_BUCKETS - 1).astype(np.intp)

    def discount(self, successors: Successors, parameters: NDArray[np.float64]) -> DiscountedCounts:
        totals = successors.sums(successors.counts)
        lambdas = parameters[self._bucket(totals)]
        return lambdas[successors.contexts] * successors.counts, (1 - lambdas) * totals


def _all_counts_of_counts(
    counts: Callable[[Counts, int], NDArray[np.int32]], counted: CountedNgrams
) -> NDArray[np.int64]:
    """Returns the numbers (n, 7) of n-grams with each count 0 .. 6, for the orders 1 .. n of the function `counts`."""
    return np.array([counts_of_counts(counts(counted, order)) for order in range(1, counted.order + 1)])


Bounds = tuple[NDArray[np.int32], NDArray[np.int32]]
"""For each of T tokens, the indices in a level of the trie at which the children of its context begin and end."""


def _held_out(counted: CountedNgrams, valid: TokenStream) -> Iterator[tuple[NDArray[np.int32], Bounds]]:
    """Looks up the n-grams of a validation text in the sorted list of training n-grams, for each order 1 .. n.

    Yields (indices, (begins, ends)) for each order: three arrays with an element for each of the T validation tokens.

    - `indices` (T,): index in the list of the n-gram that ends with the token; -1 if it does not occur in training.
    - `begins`, `ends` (T,): range of the training n-grams with the same context as this n-gram, which are consecutive
      in the list. Both are equal if the context does not occur in training.
    """
    from lmzoo.models.ngram.scoring import Matcher  # imports numba, which only a fit may load

    trie = counted.trie
    nodes = Matcher(trie).nodes(valid.ids)  # (n, 1 + T)
    for k in range(trie.order):
        first = trie.level(k + 1).start
        contexts = nodes[k - 1, :-1] if k else np.zeros(len(valid), np.int32)
        seen = (contexts > 0) | (k == 0)
        bounds = tuple(np.where(seen, trie.first_child[contexts + side] - first, 0) for side in (0, 1))
        yield np.where(nodes[k, 1:] > 0, nodes[k, 1:] - first, -1), (bounds[0], bounds[1])


def _at(counts: NDArray[np.int32], indices: NDArray[np.int32]) -> NDArray[np.int32]:
    """Returns the elements of `counts` at the given indices, and 0 for each negative index."""
    return np.append(counts, np.int32(0))[np.where(indices >= 0, indices, counts.size)]


def _sums(values: NDArray[Any], bounds: Bounds) -> NDArray[np.int64]:
    """Returns the sum of `values[begin:end]` for each pair (begin, end) of `bounds`."""
    running = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return running[bounds[1]] - running[bounds[0]]
