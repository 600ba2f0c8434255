"""Filtering, smoothing and decoding of hidden Markov models, for many documents at a time.

The recursions are those of Rabiner (A Tutorial on Hidden Markov Models, Proceedings of the IEEE 77, 1989) in scaled
form. They keep the distribution over the states before each token, because a language model predicts from it:

    p_t(k) = P(state_t = k | tokens before t)        predictive state distribution,  p_0 = startprob
    c_t    = sum_k p_t(k) b_t(k)                     likelihood of token t,  b_t(k) = P(token t | state k)
    p_t+1  = (p_t b_t / c_t) A                       A = transmat
    w_t    = (b_t / c_t) (A w_t+1)                   backward variable, scaled so that sum_k p_t(k) w_t(k) = 1
    g_t    = p_t w_t                                 posterior of state_t (at a document's end, A w = 1)
    x_t    = (p_t b_t / c_t)^T w_t+1 * A             posterior of the transition from t to t + 1

Every number is a probability, or a ratio of probabilities of one token, so nothing underflows however long the document
is. A token of probability zero (c_t = 0, which only imported models have) gives no information about the states: its
factor b_t / c_t is set to 1.

All documents of a batch advance together, so that each step is a matrix product. A long document is cut into blocks,
which are processed in parallel. The values of p and w at a cut are first estimated from the text around the cut. The
recursions are then repeated until the values computed at the end of each block agree with those assumed at the start
of the next one. Hidden Markov models forget quickly, so the first estimate is nearly always confirmed; in the worst
case there are as many repetitions as blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.hmm.packing import Batch, PackedText
from lmzoo.stream import EOT

Part = TypeVar("Part")
Result = TypeVar("Result")
Floats = NDArray[Any]
Map = Callable[[Callable[[Batch], Any], Iterable[Batch]], Iterator[Any]]
"""A function that applies another function to batches and yields the results in order, like `map`."""


class Parameters(NamedTuple):
    """The probabilities of a hidden Markov model with K states and V tokens."""

    startprob: Floats  # (K,)
    transmat: Floats  # (K, K)
    emissions: Floats  # (V, K): transposed, so that a token selects a row

    def astype(self, dtype: type[np.floating]) -> Parameters:
        return Parameters(*(np.ascontiguousarray(array, dtype) for array in self))


class Counts(NamedTuple):
    """Expected numbers of starts, transitions and emissions of hidden states, given the tokens of a text.

    For K states and V tokens: starts (K,), transitions (K, K) and emissions (V, K). `log_likelihood` is the
    log-likelihood of the text in nats.
    """

    log_likelihood: float
    starts: NDArray[np.float64]
    transitions: NDArray[np.float64]
    emissions: NDArray[np.float64]


def filter_batch(batch: Batch, at_starts: Floats, parameters: Parameters) -> tuple[Floats, Floats, Floats]:
    """Runs the forward filter of a hidden Markov model over a batch of B text blocks with P tokens in total.

    A block is a document, or a part of a long document. A predictive distribution is the probability of each of the K
    hidden states at a position, given the tokens before it in the document. `at_starts` (B, K) holds the predictive
    distribution at the first token of each block. Returns three arrays:

    - (P, K): the predictive distribution at each token.
    - (P,): the probability of each token, given the tokens before it in the document (likelihood).
    - (C, K): for each of the C blocks after which their document continues, the predictive distribution at the next
      token.
    """
    _, transmat, emissions = parameters
    n_states, n_tokens, dtype = len(transmat), len(batch.tokens), transmat.dtype
    predictive = np.empty((n_tokens + len(batch.exit_cuts), n_states), dtype)
    likelihoods = np.empty(n_tokens, dtype)
    ones = np.ones(n_states, dtype)
    scratch = np.empty_like(at_starts)
    steps = [*batch.steps, slice(n_tokens, len(predictive))]
    predictive[steps[0]] = at_starts
    for now, then in itertools.pairwise(steps):
        n_continued = then.stop - then.start
        joint = scratch[: now.stop - now.start]  # (N, K)
        np.take(emissions, batch.tokens[now], axis=0, out=joint, mode="clip")
        joint *= predictive[now]
        likelihood = np.dot(joint, ones, out=likelihoods[now])
        if not likelihood.all():
            np.copyto(joint, predictive[now], where=(likelihood == 0)[:, None])
        filtered = joint[:n_continued]
        filtered *= _scales(likelihood[:n_continued])
        np.dot(filtered, transmat, out=predictive[then])
    return predictive[:n_tokens], likelihoods, predictive[n_tokens:]


def smooth_batch(
    batch: Batch, predictive: Floats, likelihoods: Floats, at_exits: Floats, parameters: Parameters
) -> tuple[Floats, Floats]:
    """Runs the backward pass of the forward-backward algorithm over a batch of B text blocks with P tokens in total.

    - `predictive` (P, K): distribution over the K hidden states before each token, from `filter_batch`. Replaced by the
      posteriors, in place.
    - `likelihoods` (P,): probability of each token, from `filter_batch`.
    - `at_exits` (C, K): backward variables after the last token of each of the C blocks that end in the middle of a
      document, scaled to an inner product of 1 with the predictive distribution there.

    Returns the expected transition counts (K, K), and the backward variables (B, K) at the starts of the blocks.
    """
    _, transmat, emissions = parameters
    transitions, product = np.zeros_like(transmat), np.empty_like(transmat)
    transposed = np.ascontiguousarray(transmat.T)
    scratch, other, filtered = np.empty((3, len(batch.starts), len(transmat)), transmat.dtype)
    scales, impossible = _scales(likelihoods), likelihoods == 0
    some_impossible = impossible.any()
    following = at_exits
    for now in reversed(batch.steps):
        n_continued = len(following)
        distribution = predictive[now]
        backward = scratch[: len(distribution)]
        np.take(emissions, batch.tokens[now], axis=0, out=backward, mode="clip")
        backward *= scales[now]
        if some_impossible:
            backward[impossible[now]] = 1
        if n_continued:
            here = np.multiply(backward[:n_continued], distribution[:n_continued], out=filtered[:n_continued])
            transitions += np.dot(here.T, following, out=product)
            backward[:n_continued] *= np.dot(following, transposed, out=here)
        distribution *= backward
        following, scratch, other = backward, other, scratch
    return transitions * transmat, following


def _scales(likelihoods: Floats) -> Floats:
    """Returns the reciprocals (N, 1) of likelihoods (N,), and 1 for likelihoods of zero."""
    if not likelihoods.all():
        likelihoods = np.where(likelihoods == 0, 1, likelihoods)
    return np.reciprocal(likelihoods)[:, None]


def predictive_at_cuts(text: PackedText, parameters: Parameters, run: Map = map) -> Floats:
    """Computes the predictive distribution over the hidden states at each position where a long document is cut.

    Long documents are cut into blocks, which are processed in parallel and repeatedly, until the distributions at the
    cuts no longer change. Returns an array (C + 1, K) for C cuts and K states; its last row is the distribution at the
    start of a document. `run` applies a function to batches of blocks, like the built-in `map`.
    """
    at_cuts = np.tile(parameters.startprob, (text.n_cuts + 1, 1))

    def filter_to_exit(batch: Batch) -> tuple[Batch, Floats]:
        return batch, filter_batch(batch, at_cuts[batch.entry_cuts], parameters)[-1]

    def filter_all(batches: list[Batch]) -> Floats:
        updated = at_cuts.copy()
        for batch, at_exits in run(filter_to_exit, [batch for batch in batches if len(batch.exit_cuts)]):
            updated[batch.exit_cuts] = at_exits
        return updated

    if text.n_cuts:
        at_cuts = filter_all(text.before_cuts)
        while not _agree(updated := filter_all(text.batches), at_cuts):
            at_cuts = updated
    return at_cuts


def smooth_text(
    text: PackedText,
    parameters: Parameters,
    reduce: Callable[[Batch, Floats, Floats, Floats], Part],
    collect: Callable[[Iterator[Part]], Result],
    run: Map = map,
) -> Result:
    """Computes the posteriors of the hidden states of a text in batches, and combines the results of all batches.

    - `reduce`: function that computes a result from a batch of P tokens, the likelihoods (P,) of the tokens, the
      posteriors (P, K) of K states and the expected transition counts (K, K).
    - `collect`: function that combines the results, given as an iterator. Its return value is returned.
    - `run`: function that applies `reduce` to the batches, like the built-in `map`.
    """
    at_cuts = predictive_at_cuts(text, parameters, run)
    after_cuts = np.ones((text.n_cuts, len(parameters.transmat)), parameters.transmat.dtype)

    def smooth(batch: Batch) -> tuple[Batch, Part, Floats]:
        predictive, likelihoods, at_exits = filter_batch(batch, at_cuts[batch.entry_cuts], parameters)
        following = after_cuts[batch.exit_cuts]
        following /= np.einsum("ck,ck->c", following, at_exits)[:, None]
        transitions, at_starts = smooth_batch(batch, predictive, likelihoods, following, parameters)
        return batch, reduce(batch, likelihoods, predictive, transitions), at_starts

    def smooth_all(batches: list[Batch]) -> Iterator[Part]:
        for batch, part, at_starts in run(smooth, batches):
            updated[batch.entry_cuts] = at_starts / at_starts.sum(axis=1, keepdims=True)
            yield part

    # Row -1 takes the values at the starts of documents, which nothing precedes.
    updated = np.ones((text.n_cuts + 1, len(parameters.transmat)), after_cuts.dtype)
    for _ in smooth_all(text.after_cuts):
        pass
    while True:
        after_cuts = updated[:-1].copy()
        result = collect(smooth_all(text.batches))
        if _agree(updated[:-1], after_cuts):
            return result


def expected_counts(text: PackedText, parameters: Parameters, run: Map = map) -> Counts:
    """Computes the expected counts of the hidden states of a text: the E-step of Baum-Welch.

    State distributions have the floating-point type of the parameters; the counts are summed in float64. `run` applies
    a function to the batches of the text, like the built-in `map`.
    """

    def reduce(batch: Batch, likelihoods: Floats, posteriors: Floats, transitions: Floats) -> tuple[Any, ...]:
        starts = posteriors[: len(batch.starts)][batch.entry_cuts < 0].sum(axis=0)
        token_ids, by_token = batch.by_token
        return sum_of_logs(likelihoods), starts, transitions, token_ids, by_token @ posteriors

    def collect(parts: Iterator[tuple[Any, ...]]) -> Counts:
        log_likelihood = 0.0
        starts, transitions, emissions = (np.zeros(array.shape) for array in parameters)
        for part_log_likelihood, part_starts, part_transitions, token_ids, part_emissions in parts:
            log_likelihood += part_log_likelihood
            starts += part_starts
            transitions += part_transitions
            emissions[token_ids] += part_emissions
        return Counts(log_likelihood, starts, transitions, emissions)

    return smooth_text(text, parameters, reduce, collect, run)


def likelihoods(text: PackedText, parameters: Parameters, run: Map = map) -> Floats:
    """Computes the probability (T,) of each of the T tokens of a text, given the tokens before it in its document."""
    at_cuts = predictive_at_cuts(text, parameters, run)
    result = np.empty(len(text.stream), parameters.transmat.dtype)

    def likelihoods_of(batch: Batch) -> tuple[Batch, Floats]:
        return batch, filter_batch(batch, at_cuts[batch.entry_cuts], parameters)[1]

    for batch, part in run(likelihoods_of, text.batches):
        result[batch.positions] = part
    return result


def posteriors(text: PackedText, parameters: Parameters) -> Floats:
    """Computes the probability (T, K) of each of K states at each of T positions, given the whole document."""
    result = np.empty((len(text.stream), len(parameters.transmat)))

    def collect(parts: Iterator[tuple[NDArray[np.int64], Floats]]) -> Floats:
        for positions, part in parts:
            result[positions] = part
        return result

    return smooth_text(text, parameters, lambda batch, _, part, __: (batch.positions, part), collect)


def most_likely_path(ids: NDArray[np.int32], parameters: Parameters) -> NDArray[np.intp]:
    """Returns the most likely sequence of hidden states (T,) for one document of T tokens (Viterbi 1967)."""
    with np.errstate(divide="ignore"):
        log_start, log_transmat = np.log(parameters.startprob), np.log(parameters.transmat)
        log_emissions = np.log(parameters.emissions[ids])  # (T, K)
    came_from = np.empty(log_emissions.shape, np.intp)
    best = log_start + log_emissions[0]
    for position in range(1, len(ids)):
        via = best[:, None] + log_transmat  # (K, K) from, to
        came_from[position] = via.argmax(axis=0)
        best = via.max(axis=0) + log_emissions[position]
    path = np.empty(len(ids), np.intp)
    path[-1] = best.argmax()
    for position in range(len(ids) - 1, 0, -1):
        path[position - 1] = came_from[position, path[position]]
    return path


def sum_of_logs(likelihoods: Floats) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(likelihoods, dtype=np.float64).sum())


def _agree(updated: Floats, assumed: Floats) -> bool:
    """Returns True if two arrays of state distributions are equal apart from rounding.

    This is the test of convergence at the positions where long documents are cut: `assumed` holds the distributions
    with which a pass over the text began, `updated` those that the pass has computed. The tolerance is relative,
    because a filter step does not enlarge a relative error: a positive linear map does not enlarge Hilbert's projective
    distance (Birkhoff 1957).
    """
    return np.allclose(updated, assumed, rtol=4096 * float(np.finfo(updated.dtype).eps), atol=1e-30)


def stationary(parameters: Parameters) -> NDArray[np.float64]:
    """Returns the stationary distribution (K,) over the K states of a hidden Markov model.

    Element k is the fraction of the tokens of an infinite text that state k emits. After each EOT (end-of-text) token
    the next state is chosen by `startprob`.
    """
    startprob, transmat, emissions = parameters
    ending = emissions[EOT][:, None]  # (K, 1)
    walk = (1 - ending) * transmat + ending * startprob
    walk = (walk + np.eye(len(walk))) / 2  # a lazy walk has the same limit and cannot alternate
    for _ in range(40):
        walk = walk @ walk  # 2^40 steps
        walk /= walk.sum(axis=1, keepdims=True)
    return startprob @ walk
