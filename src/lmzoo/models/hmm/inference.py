"""Filtering, smoothing and decoding: what the tokens tell about the hidden states.

Rabiner 1989 (A Tutorial on Hidden Markov Models, Proceedings of the IEEE 77) in its scaled form, with the belief before
a token as the quantity that is kept, because that is what a language model predicts from:

    p_t(k) = P(state_t = k | tokens before t)        predictive belief,  p_0 = startprob
    c_t    = sum_k p_t(k) b_t(k)                     likelihood of token t,  b_t(k) = P(token t | k)
    p_t+1  = (p_t b_t / c_t) A
    w_t    = (b_t / c_t) (A w_t+1)                   evidence from t on, scaled so that
    g_t    = p_t w_t                                 the posterior of state_t sums to 1 (at a document's end: A w = 1)
    x_t    = (p_t b_t / c_t)^T w_t+1 * A             the posterior of the transition from t to t + 1

Every number is a probability or a ratio of probabilities of one token: nothing underflows, however long the document.
A token that is impossible (c_t = 0, only in imported models) says nothing about the states: b_t / c_t is 1 for it.

All documents of a batch take a step at once, so that the work is matrix products. At a cut inside a long document p and
w come from the neighbouring blocks. They are guessed from the text around the cut, then found exactly: as the filter is
run, what leaves a block is compared with what was assumed to enter the next one, until they agree. A hidden Markov
model forgets, so that the first guess is nearly always confirmed; the worst case is one round for each block.
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
"""Applies a function to batches and yields the results in order, like `map`."""


class Parameters(NamedTuple):
    """The probabilities of a model of K states and V tokens."""

    startprob: Floats  # (K,)
    transmat: Floats  # (K, K)
    emissions: Floats  # (V, K): a token picks a row

    def astype(self, dtype: type[np.floating]) -> Parameters:
        return Parameters(*(np.ascontiguousarray(array, dtype) for array in self))


class Counts(NamedTuple):
    """How often the hidden states are expected to have done what, given the tokens, and how likely the tokens are."""

    log_likelihood: float  # nats
    starts: NDArray[np.float64]  # (K,)
    transitions: NDArray[np.float64]  # (K, K)
    emissions: NDArray[np.float64]  # (V, K)


def filter_batch(batch: Batch, entering: Floats, parameters: Parameters) -> tuple[Floats, Floats, Floats]:
    """Predictive beliefs (P, K), likelihoods (P,), and the beliefs (C, K) after the blocks that stop at a cut.

    `entering` (B, K) holds the beliefs at the starts of the blocks.
    """
    _, transmat, emissions = parameters
    n_states, n_tokens, dtype = len(transmat), len(batch.tokens), transmat.dtype
    beliefs = np.empty((n_tokens + len(batch.exit_cuts), n_states), dtype)
    likelihoods = np.empty(n_tokens, dtype)
    ones = np.ones(n_states, dtype)
    scratch = np.empty_like(entering)
    steps = [*batch.steps, slice(n_tokens, len(beliefs))]
    beliefs[steps[0]] = entering
    for now, then in itertools.pairwise(steps):
        n_going_on = then.stop - then.start
        joint = scratch[: now.stop - now.start]  # (N, K)
        np.take(emissions, batch.tokens[now], axis=0, out=joint, mode="clip")
        joint *= beliefs[now]
        likelihood = np.dot(joint, ones, out=likelihoods[now])
        if not likelihood.all():
            np.copyto(joint, beliefs[now], where=(likelihood == 0)[:, None])
        filtered = joint[:n_going_on]
        filtered *= _scales(likelihood[:n_going_on])
        np.dot(filtered, transmat, out=beliefs[then])
    return beliefs[:n_tokens], likelihoods, beliefs[n_tokens:]


def smooth_batch(
    batch: Batch, beliefs: Floats, likelihoods: Floats, closing: Floats, parameters: Parameters
) -> tuple[Floats, Floats]:
    """Makes the predictive beliefs (P, K) into posteriors, in place. Returns the transitions (K, K) and w_0 (B, K).

    `closing` (C, K) is the evidence that follows the blocks that stop at a cut, scaled so that its product with the
    beliefs there is 1.
    """
    _, transmat, emissions = parameters
    transitions, product = np.zeros_like(transmat), np.empty_like(transmat)
    backwards = np.ascontiguousarray(transmat.T)
    scratch, other, filtered = np.empty((3, len(batch.starts), len(transmat)), transmat.dtype)
    scales, impossible = _scales(likelihoods), likelihoods == 0
    some_impossible = impossible.any()
    following = closing
    for now in reversed(batch.steps):
        n_going_on = len(following)
        belief = beliefs[now]
        evidence = scratch[: len(belief)]
        np.take(emissions, batch.tokens[now], axis=0, out=evidence, mode="clip")
        evidence *= scales[now]
        if some_impossible:
            evidence[impossible[now]] = 1
        if n_going_on:
            here = np.multiply(evidence[:n_going_on], belief[:n_going_on], out=filtered[:n_going_on])
            transitions += np.dot(here.T, following, out=product)
            evidence[:n_going_on] *= np.dot(following, backwards, out=here)
        belief *= evidence
        following, scratch, other = evidence, other, scratch
    return transitions * transmat, following


def _scales(likelihoods: Floats) -> Floats:
    """(N, 1) reciprocals of likelihoods; 1 for impossible tokens."""
    if not likelihoods.all():
        likelihoods = np.where(likelihoods == 0, 1, likelihoods)
    return np.reciprocal(likelihoods)[:, None]


def beliefs_at_starts(text: PackedText, parameters: Parameters, run: Map = map) -> Floats:
    """(C + 1, K) the predictive belief at every cut, then at a document's start: row -1, as `entry_cuts` says it."""
    beliefs = np.tile(parameters.startprob, (text.n_cuts + 1, 1))

    def leave(batch: Batch) -> tuple[Batch, Floats]:
        return batch, filter_batch(batch, beliefs[batch.entry_cuts], parameters)[-1]

    def round_over(batches: list[Batch]) -> Floats:
        found = beliefs.copy()
        for batch, leaving in run(leave, [batch for batch in batches if len(batch.exit_cuts)]):
            found[batch.exit_cuts] = leaving
        return found

    if text.n_cuts:
        beliefs = round_over(text.before_cuts)
        while not _agree(found := round_over(text.batches), beliefs):
            beliefs = found
    return beliefs


def smooth_text(
    text: PackedText,
    parameters: Parameters,
    reduce: Callable[[Batch, Floats, Floats, Floats], Part],
    collect: Callable[[Iterator[Part]], Result],
    run: Map = map,
) -> Result:
    """`collect` of what `reduce` makes of each batch, likelihoods (P,), posteriors (P, K) and transitions (K, K)."""
    entering = beliefs_at_starts(text, parameters, run)
    closing = np.ones((text.n_cuts, len(parameters.transmat)), parameters.transmat.dtype)

    def smooth(batch: Batch) -> tuple[Batch, Part, Floats]:
        beliefs, likelihoods, leaving = filter_batch(batch, entering[batch.entry_cuts], parameters)
        following = closing[batch.exit_cuts]
        following /= np.einsum("ck,ck->c", following, leaving)[:, None]
        transitions, opening = smooth_batch(batch, beliefs, likelihoods, following, parameters)
        return batch, reduce(batch, likelihoods, beliefs, transitions), opening

    def round_over(batches: list[Batch]) -> Iterator[Part]:
        for batch, part, opening in run(smooth, batches):
            found[batch.entry_cuts] = opening / opening.sum(axis=1, keepdims=True)
            yield part

    found = np.ones((text.n_cuts + 1, len(parameters.transmat)), closing.dtype)  # row -1: nothing is before a document
    for _ in round_over(text.after_cuts):
        pass
    while True:
        closing = found[:-1].copy()
        result = collect(round_over(text.batches))
        if _agree(found[:-1], closing):
            return result


def expected_counts(text: PackedText, parameters: Parameters, run: Map = map) -> Counts:
    """The E-step of Baum-Welch over a whole text, in the precision of the parameters; the sums are float64."""

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
    """(T,) probability of every token of a text, given those before it in its document."""
    entering = beliefs_at_starts(text, parameters, run)
    result = np.empty(len(text.stream), parameters.transmat.dtype)

    def likelihoods_of(batch: Batch) -> tuple[Batch, Floats]:
        return batch, filter_batch(batch, entering[batch.entry_cuts], parameters)[1]

    for batch, found in run(likelihoods_of, text.batches):
        result[batch.positions] = found
    return result


def posteriors(text: PackedText, parameters: Parameters) -> Floats:
    """(T, K) the probability of every state at every position, given the whole document."""
    result = np.empty((len(text.stream), len(parameters.transmat)))

    def collect(parts: Iterator[tuple[NDArray[np.int64], Floats]]) -> Floats:
        for positions, part in parts:
            result[positions] = part
        return result

    return smooth_text(text, parameters, lambda batch, _, part, __: (batch.positions, part), collect)


def most_likely_path(ids: NDArray[np.int32], parameters: Parameters) -> NDArray[np.intp]:
    """(T,) the states of the most likely path through one document (Viterbi 1967)."""
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


def _agree(found: Floats, assumed: Floats) -> bool:
    """Whether messages at cuts are equal up to rounding, state by state.

    A relative bound is the right one: no filter step can enlarge it (Birkhoff 1957: a positive linear map does not
    enlarge Hilbert's projective distance), so an error at a cut does not grow behind it.
    """
    return np.allclose(found, assumed, rtol=4096 * float(np.finfo(found.dtype).eps), atol=1e-30)


def stationary(parameters: Parameters) -> NDArray[np.float64]:
    """(K,) how much of an endless text each state emits: the walk starts anew after each end of text."""
    startprob, transmat, emissions = parameters
    ending = emissions[EOT][:, None]  # (K, 1)
    walk = (1 - ending) * transmat + ending * startprob
    walk = (walk + np.eye(len(walk))) / 2  # a lazy walk has the same limit and cannot alternate
    for _ in range(40):
        walk = walk @ walk  # 2^40 steps
        walk /= walk.sum(axis=1, keepdims=True)
    return startprob @ walk
