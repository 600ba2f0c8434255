"""Smoothing: from the counts of n-grams to probabilities and back-off weights.

All classic smoothing methods are one formula (Chen & Goodman 1998, section 2.8). For a context h, a method discounts
the count of each token w that followed h. The left-over count is given to the shorter context h', which is h without
its first token, and distributed as h' predicts: over all tokens (interpolation), or only over the tokens that never
followed h (back-off).

    interpolated   p(w | h) = (discounted(h w) + left_over(h) p(w | h')) / (discounted(h) + left_over(h))
    back-off       p(w | h) = discounted(h w) / (discounted(h) + left_over(h))     if w followed h,
                              alpha(h) p(w | h')                                   otherwise

Here discounted(h) is the sum of discounted(h w) over w, and the back-off weight alpha(h) is chosen so that the
probabilities sum to 1. Interpolated methods have a back-off weight, too: a token that did not follow h has the
probability p(w | h') times left_over(h) / (discounted(h) + left_over(h)). The unigram model is smoothed with the
uniform distribution 1 / V, where V is the size of the vocabulary, so that every token has a probability above 0. A
context that no token followed has the back-off weight 1.

So a smoothing method consists of four choices: which counts it uses, how it discounts them, how large the left-over
count is, and how the left-over count is distributed. `reference.py` computes the same for one word in plain Python.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.ngram.rare import FIRST_ORDER
from lmzoo.models.ngram.weights import Weights
from lmzoo.stream import TokenStream

if TYPE_CHECKING:
    from lmzoo.models.ngram.counting.counted import CountedNgrams
    from lmzoo.models.ngram.counting.workspace import Workspace

_BLOCK = 1 << 16
"""Contexts are processed in blocks with about this many children, which fit in the processor's cache."""

N_FREQUENCIES: Final = 7
"""Length of arrays of counts of counts: the numbers of n-grams with the counts 0 .. 6, from which smoothing learns."""

Form = Literal["interpolated", "back-off", "renormalised"]
"""How the left-over count of a context is distributed: over all tokens; only over the tokens that never followed it;
or, for stupid back-off, over these tokens by a fixed factor, after which all scores are divided by their sum."""


@dataclass(frozen=True, eq=False)
class Successors:
    """The counts of the tokens that followed each of H contexts of the same length in the training text."""

    counts: NDArray[np.int32]
    """(N,) counts of the N n-grams (a context and a token that followed it), sorted by context."""
    starts: NDArray[np.int32]
    """(H + 1,) index of the first n-gram of each of the H contexts, and N."""
    vocab_size: int

    @cached_property
    def contexts(self) -> NDArray[np.intp]:
        """The index of the context of each of N n-grams, as an array (N,)."""
        return np.repeat(np.arange(self.starts.size - 1), np.diff(self.starts))

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sums `values` (N,), one value per n-gram, over the n-grams of each of H contexts; returns an array (H,)."""
        return np.bincount(self.contexts, values, minlength=self.starts.size - 1)


DiscountedCounts = tuple[NDArray[Any], NDArray[Any]]
"""The (N,) discounted counts of n-grams and the (H,) left-over counts of their contexts."""


class Counts(Protocol):
    """The counts that smoothing methods read: those of all n-grams of a text, or of the n-grams of one partition.

    The n-grams of each length are sorted by their tokens.
    """

    @property
    def order(self) -> int:
        """The length of the longest n-grams."""
        ...

    @property
    def n_at_document_start(self) -> Sequence[int]:
        """The number of n-grams of each length 0 .. n that begin at a document start; they come before all others."""
        ...

    def observed(self, order: int) -> NDArray[np.int32]:
        """Returns the number of occurrences of each n-gram of length `order`."""
        ...

    def continuations(self, order: int) -> NDArray[np.int32]:
        """Returns the number of different tokens that precede each n-gram; see `CountedNgrams.continuations`."""
        ...


class Smoothing(Protocol):
    """The interface of the smoothing methods for n-gram models.

    A smoothing method defines the counts of the n-grams, the discounts of these counts, and the form in which the
    left-over count of a context is distributed over tokens.
    """

    @property
    def form(self) -> Form:
        """The way in which a smoothing method uses the distribution after the context without its first token.

        - "interpolated" adds a share of this distribution to the probability of every token.
        - "back-off" uses this distribution only for the tokens that never followed the whole context.
        - "renormalised" (stupid back-off) also uses it only for these tokens, but with a fixed factor, and then divides
          all scores by their sum.
        """
        ...

    tuned: ClassVar[bool]
    """True if the parameters are learned from the n-grams of the validation set. Otherwise the method `parameters_from`
    computes them from the counts of counts."""

    def counts(self, counted: Counts, order: int) -> NDArray[np.int32]:
        """Returns the counts that the smoothing method uses for all n-grams of length `order`."""
        ...

    def parameters_from(self, counts_of_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Computes the parameters (n, P) of the orders 1 .. n from the numbers (n, 7) of n-grams of each count 0 .. 6.

        Methods whose parameters are learned from the validation set return the parameters from which they start.
        """
        ...

    def learn(self, counted: CountedNgrams, valid: TokenStream) -> NDArray[np.float64]:
        """Estimates the parameters of the smoothing method from the counts, and from the validation set `valid`.

        Returns an array (n, P): P parameters, such as discounts, for each order 1 .. n.
        """
        ...

    def discount(self, successors: Successors, parameters: NDArray[np.float64]) -> DiscountedCounts:
        """Discounts the counts of N n-grams with H different contexts.

        Returns the discounted counts (N,), and for each context the count that is left over for its shorter context
        (H,). `parameters` (P,) are the learned parameters of the order of these n-grams.
        """
        ...


def counts_of_counts(counts: NDArray[np.int32]) -> NDArray[np.int64]:
    """Returns the numbers (7,) of n-grams with the counts 0 .. 6, among n-grams of one length with the given counts."""
    return np.array([np.count_nonzero(counts == count) for count in range(N_FREQUENCIES)])


def estimate(
    counted: CountedNgrams,
    smoothing: Smoothing,
    parameters: NDArray[np.float64],
    on_step: Callable[[str], None] = lambda message: None,
    min_count: int = 1,
) -> Weights:
    """Estimates the log-probabilities of all n-grams and the back-off weights of all contexts.

    `parameters` (n, P) are the parameters that the smoothing method has learned for the orders 1 .. n. `on_step` is
    called with a message at the start of each order. N-grams of three or more tokens that occur fewer than `min_count`
    times get the probabilities that they have when they are left out of the model.
    """
    trie, workspace = counted.trie, counted.workspace
    values = workspace.empty(trie.tokens.size, np.float32)
    backoffs = workspace.empty(trie.n_contexts, np.float32)
    values[0] = -math.log(trie.vocab_size)
    lower = uniform(trie.vocab_size)
    for order in range(1, trie.order + 1):
        on_step(f"estimating probabilities, order {order}")
        contexts, nodes = trie.level(order - 1), trie.level(order)
        level = Level(
            smoothing.counts(counted, order),
            trie.first_child[contexts.start : contexts.stop + 1],
            trie.suffixes[nodes],
            trie.suffixes[contexts],
            contexts.start,
            trie.level(max(0, order - 2)).start,
            left_out(counted.observed(order), order, min_count),
        )
        estimator = Estimator(trie.vocab_size, smoothing, parameters[order - 1], workspace)
        lower = estimator.estimate(level, lower, values[nodes], backoffs[contexts], highest=order == trie.order)
    return Weights(values, backoffs)


@dataclass(frozen=True, eq=False)
class Level:
    """The counts of N n-grams of one length, sorted by their H contexts, with links to their suffixes."""

    counts: NDArray[np.int32]
    """(N,) the counts that the smoothing method uses."""
    starts: NDArray[np.int32]
    """(H + 1,) the number of the first n-gram of each context, and the end; n-grams are numbered from `starts[0]`."""
    suffixes: NDArray[np.int32]
    """(N,) the number of the suffix of each n-gram (the n-gram without its first token), which is one token shorter."""
    context_suffixes: NDArray[np.int32]
    """(H,) the number of the suffix of each context, which is a context that is one token shorter."""
    first_suffix: int = 0
    """The number from which the n-grams that are one token shorter are numbered."""
    first_context_suffix: int = 0
    """The number from which the contexts that are one token shorter are numbered."""
    left_out: NDArray[np.bool_] | None = None
    """(N,) True for the n-grams that are left out of the model; None if there are none."""


class Estimated(NamedTuple):
    """The estimates for the n-grams of one length, from which those of the next length are computed."""

    probs: NDArray[np.float64]
    """(N,) the probability of each n-gram; empty for the highest order."""
    sums: NDArray[np.float64]
    """(H,) for stupid back-off, the sum of the scores after each context before it was normalised; otherwise empty."""


def left_out(observed: NDArray[np.int32], order: int, min_count: int) -> NDArray[np.bool_] | None:
    """Returns a mask (N,), True for those n-grams of one length that are left out of a model; None if all are kept.

    `observed` (N,) are the numbers of occurrences of the n-grams, and `min_count` is the smallest number to be kept;
    see `lmzoo.models.ngram.rare`.
    """
    return observed < min_count if min_count > 1 and order >= FIRST_ORDER else None


def uniform(vocab_size: int) -> Estimated:
    """Returns the estimates of order 0: the uniform distribution over V tokens."""
    return Estimated(np.full(1, 1 / vocab_size), np.ones(1))


@dataclass(frozen=True, eq=False)
class Estimator:
    """Estimates the probabilities of n-grams of one length by a smoothing method with learned parameters (P,)."""

    vocab_size: int
    smoothing: Smoothing
    parameters: NDArray[np.float64]
    workspace: Workspace

    def estimate(
        self,
        level: Level,
        lower: Estimated,
        log_probs: NDArray[np.float32],
        backoffs: NDArray[np.float32],
        *,
        highest: bool,
    ) -> Estimated:
        """Computes the log-probabilities of N n-grams and the log back-off weights of their H contexts.

        - `level`: the n-grams.
        - `lower`: the estimates for the n-grams one token shorter.
        - `log_probs` (N,), `backoffs` (H,): arrays to which the results are written, in nats.
        - `highest`: True if no longer n-grams follow, so that the probabilities in double precision are not needed.
        """
        smoothing, renormalised = self.smoothing, self.smoothing.form == "renormalised"
        probs = self.workspace.empty(0 if highest else level.counts.size, np.float64)
        sums = self.workspace.empty(backoffs.size if renormalised else 0, np.float64)

        def work(block: slice) -> None:
            starts = level.starts[block.start : block.stop + 1]
            here = slice(int(starts[0] - level.starts[0]), int(starts[-1] - level.starts[0]))
            successors = Successors(level.counts[here], starts - starts[0], self.vocab_size)
            discounted, left_over = smoothing.discount(successors, self.parameters)
            new = successors.counts == 0  # the trie also has the unigrams that never occur
            if level.left_out is not None:
                new |= level.left_out[here]
                lost = np.where(level.left_out[here], discounted, 0)
                discounted = discounted - lost
                if not renormalised:
                    left_over = left_over + successors.sums(lost)
            if renormalised:
                left_over = left_over * lower.sums[level.context_suffixes[block] - level.first_context_suffix]
            shorter = lower.probs[level.suffixes[here] - level.first_suffix]
            child_probs, weights, totals = _combine(smoothing.form, successors, new, discounted, left_over, shorter)
            if not highest:
                probs[here] = child_probs
            if renormalised:
                sums[block] = totals
            with np.errstate(divide="ignore"):  # unsmoothed models have probabilities and left-over counts of 0
                log_probs[here], backoffs[block] = np.log(child_probs), np.log(weights)

        self.workspace.run(work, _blocks(level.starts))
        return Estimated(probs, sums)


def _combine(
    form: Form,
    successors: Successors,
    new: NDArray[np.bool_],
    discounted: NDArray[Any],
    left_over: NDArray[Any],
    lower: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Computes the probabilities of N n-grams, and the back-off weights of their H contexts, from discounted counts.

    Let d(h w) be the discounted count of the n-gram with the context h and the token w, r(h) the left-over count of h,
    which discounting has made free, and p(w | h') the probability of w after h' = h without its first token. For the
    form "interpolated",

        p(w | h) = (d(h w) + r(h) p(w | h')) / (sum_v d(h v) + r(h))

    and the back-off weight of h is r(h) divided by the same denominator. For example, after a context with the
    discounted counts 2 and 1 and the left-over count 1, a token with the discounted count 2 and p(w | h') = 1/8 has the
    probability (2 + 1 * 1/8) / 4, and the back-off weight is 1/4. The other forms add the second term only for tokens
    that never followed h.

    - `form`: "interpolated", "back-off" or "renormalised".
    - `new` (N,): True for the n-grams whose token never followed the context, or is treated as if it never had.
    - `discounted` (N,): d(h w) of each n-gram.
    - `left_over` (H,): r(h) of each context.
    - `lower` (N,): p(w | h') of each n-gram.

    Returns the probabilities (N,), the back-off weights (H,), and the sums (H,) of all scores after each context before
    they were normalised, which only the form "renormalised" uses.
    """
    sums = successors.sums(discounted)
    if form == "interpolated":
        total, backed_off = sums + left_over, slice(None)
    else:
        n_seen = np.diff(successors.starts) - successors.sums(new)
        lower_seen = successors.sums(np.where(new, 0, lower))
        unseen = np.where(n_seen < successors.vocab_size, 1 - lower_seen, 0)
        if form == "back-off":  # after a context that every token followed, the left-over count is dropped
            left_over = np.divide(left_over, unseen, out=np.zeros(unseen.size), where=unseen > 0)
        total, backed_off = sums + left_over * unseen, new
    empty = total == 0
    total[empty] = 1
    weights = np.where(empty, 1, left_over / total)
    probs = discounted / total[successors.contexts]
    probs[backed_off] += (weights[successors.contexts] * lower)[backed_off]
    return probs, weights, np.where(empty, 1, total / np.maximum(sums, 1))


def _blocks(starts: NDArray[np.int32]) -> Iterator[slice]:
    """Yields slices of H contexts, each with about `_BLOCK` n-grams in total; `starts` (H + 1,) as in `Level`."""
    cuts = np.searchsorted(starts, np.arange(starts[0] + _BLOCK, starts[-1], _BLOCK)).tolist()
    edges = sorted({0, *cuts, starts.size - 1})
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop)
