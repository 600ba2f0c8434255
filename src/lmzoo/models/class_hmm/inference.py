"""Filtering, counting and decoding, when each token leaves only its own block of states possible.

In the terms of `lmzoo.models.hmm.inference`, with f_t the filtered belief, over the states of the class of token t:

    f_t  = (f_t-1 A) b_t / c_t,   c_t = sum of (f_t-1 A) b_t
    w_t  = (b_t / c_t) (A w_t+1)                      evidence from t on
    g_t  = f_t (A w_t+1)                              the posterior of state_t
    x_t  = f_t^T w_t+1 * A                            the posterior of the transition from t to t + 1

Here A is the block of transitions between two classes, and end-of-text is a token like others: as it has one state
only, nothing is remembered across it. So a stream needs no care for documents. It is walked in blocks, which start with
a document where they can: then all that is known at their start is that a text has ended. In a long document the filter
is run twice, first to find the beliefs at the borders of blocks, so that memory holds the beliefs of one block.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.class_hmm.layout import EOT_CLASS, EOT_STATE, START, Belief, Counts, Layout, Parameters
from lmzoo.stream import TokenStream
from lmzoo.system.compiled import N_THREADS, kernel, read, write

_I32, _I64, _F32, _F64 = types.int32, types.int64, types.float32, types.float64
_LAYOUT = (read(_I32), read(_I64), read(_I64))  # classes, first states, first emissions
_PARAMETERS = (read(_F32, 2), read(_F32))
_BELIEFS = (write(_I64), write(_F32), write(_F32))  # offsets, beliefs, likelihoods

_BLOCK: Final = 4096
"""Tokens of a block; one of many short documents ends with a document and may be somewhat longer."""
_MANY_COUNTS: Final = 1 << 28
"""Threads hold a matrix of counts each; together at most so many numbers (1 GB)."""


class Filtered(NamedTuple):
    """The beliefs after each of N tokens, one behind the other."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]  # (N + 1,)
    beliefs: NDArray[np.float32]
    likelihoods: NDArray[np.float32]  # (N,) of each token, given those before it

    def last(self, layout: Layout) -> Belief:
        return Belief(int(layout.classes[self.ids[-1]]), self.beliefs[self.offsets[-2] : self.offsets[-1]])


def filter_tokens(ids: NDArray[np.int32], before: Belief, layout: Layout, parameters: Parameters) -> Filtered:
    """Runs the filter over tokens, from the belief before them."""
    n_states = layout.n_states_of[layout.classes[ids]]
    offsets = np.concatenate([[0], np.cumsum(n_states)]).astype(np.int64)
    found = Filtered(ids, offsets, np.zeros(offsets[-1], np.float32), np.empty(len(ids), np.float32))
    _filter(ids, before.token_class, before.probs, *_of(layout), *parameters, *found[1:])
    return found


def chains(stream: TokenStream) -> Iterator[list[slice]]:
    """Cuts a stream into blocks; each list of them, in order, starts with a document, and the next one does too."""
    ends = stream.ends
    starts = np.unique(ends[np.searchsorted(ends, np.arange(_BLOCK, len(stream), _BLOCK))])
    for start, end in itertools.pairwise(np.unique([0, *starts, len(stream)]).tolist()):
        # Only a long document makes a chain of more than two blocks' size.
        borders = [start, *range(start + _BLOCK, end - _BLOCK, _BLOCK), end]
        yield [slice(*pair) for pair in itertools.pairwise(borders)]


def filtered_blocks(
    blocks: Iterable[slice], stream: TokenStream, layout: Layout, parameters: Parameters
) -> Iterator[tuple[slice, Belief, Filtered]]:
    """Filters a chain of blocks; with each comes the belief before it."""
    belief = START
    for block in blocks:
        found = filter_tokens(stream.ids[block], belief, layout, parameters)
        yield block, belief, found
        belief = found.last(layout)


def likelihoods(stream: TokenStream, layout: Layout, parameters: Parameters) -> NDArray[np.float32]:
    """(T,) probability of every token of a stream, given those before it in its document."""
    result = np.empty(len(stream), np.float32)

    def score(chain: list[slice]) -> None:
        for block, _, found in filtered_blocks(chain, stream, layout, parameters):
            result[block] = found.likelihoods

    for _ in _in_threads(score, chains(stream), N_THREADS):
        pass
    return result


def log_likelihood(stream: TokenStream, layout: Layout, parameters: Parameters) -> float:
    """Of a stream, in nats."""
    return float(np.log(likelihoods(stream, layout, parameters), dtype=np.float64).sum())


def expected_counts(stream: TokenStream, layout: Layout, parameters: Parameters) -> tuple[float, Counts]:
    """The E-step of Baum-Welch: the log-likelihood in nats, and the expected counts."""
    n_threads = int(np.clip(_MANY_COUNTS // layout.n_states**2, 1, N_THREADS))
    all_chains = list(chains(stream))

    def count(chains: list[list[slice]]) -> tuple[float, Counts]:
        counts = Counts(np.zeros((layout.n_states,) * 2, np.float32), np.zeros(layout.n_emissions))
        return sum(_count_chain(chain, stream, layout, parameters, counts) for chain in chains), counts

    # Which thread counts what is settled beforehand: sums of floats depend on their order.
    total, counts = 0.0, None
    for part, found in _in_threads(count, [all_chains[i::n_threads] for i in range(n_threads)], n_threads):
        total += part
        if counts is None:
            counts = found
        else:
            for sums, more in zip(counts, found, strict=True):
                sums += more
    assert counts is not None
    counts.transitions[:] *= parameters.transmat
    return total, counts


def _count_chain(
    chain: list[slice], stream: TokenStream, layout: Layout, parameters: Parameters, counts: Counts
) -> float:
    """Adds the counts of a chain, in which those of transitions still lack the factor A; returns its log-likelihood."""
    entering = [START]
    for _, _, found in filtered_blocks(chain[:-1], stream, layout, parameters):
        entering.append(found.last(layout))
    total, following = 0.0, _NOTHING
    for block, belief in zip(reversed(chain), reversed(entering), strict=True):
        found = filter_tokens(stream.ids[block], belief, layout, parameters)
        total += float(np.log(found.likelihoods, dtype=np.float64).sum())
        following = _smoothed(found, following, layout, parameters, counts)
    # The way from the end of the last text to the first token of this one.
    counts.transitions[EOT_STATE, slice(*layout.block(following.token_class))] += following.probs
    return total


_NOTHING: Final = Belief(EOT_CLASS, np.empty(0, np.float32))


def _smoothed(found: Filtered, following: Belief, layout: Layout, parameters: Parameters, counts: Counts) -> Belief:
    """Makes beliefs into posteriors, in place, adds counts, and returns the evidence at the first token."""
    evidence = np.empty((2, int(layout.n_states_of.max())), np.float32)
    evidence[0, : len(following.probs)] = following.probs
    row = _smooth(
        found.ids, len(following.probs) > 0, following.token_class, evidence,
        *_of(layout), *parameters, *found[1:], *counts,
    )  # fmt: skip
    first = int(layout.classes[found.ids[0]])
    return Belief(first, evidence[row, : int(layout.n_states_of[first])])


def posteriors(ids: NDArray[np.int32], layout: Layout, parameters: Parameters) -> NDArray[np.float32]:
    """(T, K) the probability of each state at each position of one text, given all of it."""
    found = filter_tokens(ids, START, layout, parameters)
    counts = Counts(np.zeros((layout.n_states,) * 2, np.float32), np.zeros(layout.n_emissions))
    _smoothed(found, _NOTHING, layout, parameters, counts)
    result = np.zeros((len(ids), layout.n_states), np.float32)
    for position, token_class in enumerate(layout.classes[ids]):
        result[position, slice(*layout.block(token_class))] = found.beliefs[slice(*found.offsets[position:][:2])]
    return result


def most_likely_path(ids: NDArray[np.int32], layout: Layout, parameters: Parameters) -> NDArray[np.int64]:
    """(T,) the states of the most likely path (Viterbi 1967)."""
    n_states = layout.n_states_of[layout.classes[ids]]
    offsets = np.concatenate([[0], np.cumsum(n_states)]).astype(np.int64)
    came_from, path = np.empty(offsets[-1], np.int64), np.empty(len(ids), np.int64)
    _decode(ids, *_of(layout), *parameters, offsets, came_from, path)
    return path


def _of(layout: Layout) -> tuple[NDArray[Any], ...]:
    return layout.classes, layout.first_state, layout.first_emission


def _in_threads(work: Callable[[Any], Any], parts: Iterable[Any], n_threads: int) -> Iterator[Any]:
    with ThreadPoolExecutor(n_threads) as pool:
        yield from pool.map(work, parts)


@kernel(read(_I32), _I64, write(_F32), *_LAYOUT, *_PARAMETERS, *_BELIEFS, reassociate=True)
def _filter(
    ids, class_before, previous, classes, first_state, first_emission, transmat, emissions,
    offsets, beliefs, likelihoods,
):  # fmt: skip
    """Fills in `beliefs`, which are zero, and `likelihoods`; `previous` is the belief before the first token."""
    before = first_state[class_before]
    for t in range(ids.size):
        first = first_state[classes[ids[t]]]
        belief = beliefs[offsets[t] : offsets[t + 1]]
        for i in range(previous.size):
            weight, row = previous[i], transmat[before + i, first : first + belief.size]
            for j in range(belief.size):
                belief[j] += weight * row[j]
        emission = emissions[first_emission[ids[t]] : first_emission[ids[t]] + belief.size]
        likelihood = np.float32(0)
        for j in range(belief.size):
            belief[j] *= emission[j]
            likelihood += belief[j]
        likelihoods[t] = likelihood
        scale = np.float32(1) / likelihood
        for j in range(belief.size):
            belief[j] *= scale
        previous, before = belief, first


@kernel(
    read(_I32), types.boolean, _I64, write(_F32, 2), *_LAYOUT, *_PARAMETERS, *_BELIEFS, write(_F32, 2), write(_F64),
    returns=_I64, reassociate=True,
)  # fmt: skip
def _smooth(
    ids, goes_on, class_after, evidence, classes, first_state, first_emission, transmat, emissions,
    offsets, beliefs, likelihoods, transitions, emitted,
):  # fmt: skip
    """Walks back. Row 0 of `evidence` is that of what follows; returns the row where that of the first token is."""
    after = first_state[class_after]
    n_after = first_state[class_after + 1] - after
    row = 0
    for t in range(ids.size - 1, -1, -1):
        first, place = first_state[classes[ids[t]]], first_emission[ids[t]]
        belief, following, here = beliefs[offsets[t] : offsets[t + 1]], evidence[row], evidence[1 - row]
        scale = np.float32(1) / likelihoods[t]
        for i in range(belief.size):
            message = np.float32(1)
            if goes_on:
                message = np.float32(0)
                probs, counts = transmat[first + i, after : after + n_after], transitions[first + i]
                for j in range(n_after):
                    message += probs[j] * following[j]
                for j in range(n_after):
                    counts[after + j] += belief[i] * following[j]
            here[i] = emissions[place + i] * scale * message
            belief[i] *= message
            emitted[place + i] += belief[i]
        row, goes_on, after, n_after = 1 - row, True, first, belief.size
    return row


@kernel(read(_I32), *_LAYOUT, *_PARAMETERS, read(_I64), write(_I64), write(_I64))
def _decode(ids, classes, first_state, first_emission, transmat, emissions, offsets, came_from, path):
    """Fills in `path`; `came_from` holds the best state before each state of each token."""
    best, before = np.zeros(1), 0
    for t in range(ids.size):
        first, n_states = first_state[classes[ids[t]]], offsets[t + 1] - offsets[t]
        scores = np.full(n_states, -np.inf)
        for i in range(best.size):
            for j in range(n_states):
                score = best[i] + np.log(np.float64(transmat[before + i, first + j]))
                if score > scores[j]:
                    scores[j], came_from[offsets[t] + j] = score, i
        for j in range(n_states):
            scores[j] += np.log(np.float64(emissions[first_emission[ids[t]] + j]))
        best, before = scores, first
    state = np.argmax(best)
    for t in range(ids.size - 1, -1, -1):
        path[t] = first_state[classes[ids[t]]] + state
        state = came_from[offsets[t] + state]
