"""Filtering, expected counts and decoding, when each token leaves only one block of states possible.

The symbols are those of `lmzoo.models.hmm.inference`. f_t is the filtered distribution, over the states of the class of
token t:

    f_t  = (f_t-1 A) b_t / c_t,   c_t = sum of (f_t-1 A) b_t
    w_t  = (b_t / c_t) (A w_t+1)                      backward variable
    g_t  = f_t (A w_t+1)                              posterior of state_t
    x_t  = f_t^T w_t+1 * A                            posterior of the transition from t to t + 1

Here A is the block of transition probabilities between two classes. The end-of-text token is a token like others; it
has a single state, so that no information passes from one document to the next, and a stream is processed as one
sequence. The stream is cut into blocks, which start with a document if possible, so that the state distribution at
their start is known. In a document longer than a block the filter runs twice, the first time for the distributions at
the block boundaries; so memory holds the distributions of only one block.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.class_hmm.layout import EOT_CLASS, EOT_STATE, START, Counts, Layout, Parameters, StateDistribution
from lmzoo.stream import TokenStream
from lmzoo.system.compiled import N_THREADS, kernel, read_only, writable

_I32, _I64, _F32, _F64 = types.int32, types.int64, types.float32, types.float64
_LAYOUT = (read_only(_I32), read_only(_I64), read_only(_I64))  # classes, first states, first emissions
_PARAMETERS = (read_only(_F32, 2), read_only(_F32))
_FILTERED = (writable(_I64), writable(_F32), writable(_F32))  # offsets, probabilities, likelihoods

_BLOCK: Final = 4096
"""Tokens per block; a block of short documents is extended to the end of its last document."""
_MANY_COUNTS: Final = 1 << 28
"""Each thread has a matrix of counts; this is the largest total number of their elements (1 GB)."""


class Filtered(NamedTuple):
    """The probabilities of the states of a hidden Markov model after each of N tokens, given the tokens so far.

    After a token, only the states of its class have a probability above 0, and only these probabilities are stored. The
    distributions have different sizes, and follow each other in the flat array `probs`.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    """Bounds (N + 1,): the distribution after token t is probs[offsets[t] : offsets[t + 1]]."""
    probs: NDArray[np.float32]
    likelihoods: NDArray[np.float32]
    """Probability (N,) of each token, given the tokens before it."""

    def last(self, layout: Layout) -> StateDistribution:
        token_class = int(layout.classes[self.ids[-1]])
        return StateDistribution(token_class, self.probs[self.offsets[-2] : self.offsets[-1]])


def filter_tokens(
    ids: NDArray[np.int32], before: StateDistribution, layout: Layout, parameters: Parameters
) -> Filtered:
    """Runs the forward filter of a hidden Markov model over a sequence of tokens.

    - `ids` (N,): the tokens.
    - `before`: the state distribution after the token that precedes the sequence.
    - `layout`: the class of each token, and the hidden states of each class.
    - `parameters`: the transition and emission probabilities.

    Returns the state distribution after each token, and the probability of each token given the tokens before it.
    """
    offsets = _state_offsets(ids, layout)
    filtered = Filtered(ids, offsets, np.zeros(offsets[-1], np.float32), np.empty(len(ids), np.float32))
    _filter(ids, before.token_class, before.probs, *_of(layout), *parameters, *filtered[1:])
    return filtered


def chains(stream: TokenStream) -> Iterator[list[slice]]:
    """Divides a token stream into parts that can be processed independently, and yields these parts in order.

    Each part begins at the start of a document, and is a list of successive slices of the stream. A part has several
    slices if it contains a long document, so that memory holds the state distributions of one slice at a time.
    """
    ends = stream.ends
    starts = np.unique(ends[np.searchsorted(ends, np.arange(_BLOCK, len(stream), _BLOCK))])
    for start, end in itertools.pairwise(np.unique([0, *starts, len(stream)]).tolist()):
        # Only a long document makes a chain longer than two blocks.
        borders = [start, *range(start + _BLOCK, end - _BLOCK, _BLOCK), end]
        yield [slice(*pair) for pair in itertools.pairwise(borders)]


def filtered_blocks(
    blocks: Iterable[slice], stream: TokenStream, layout: Layout, parameters: Parameters
) -> Iterator[tuple[slice, StateDistribution, Filtered]]:
    """Runs the forward filter of a hidden Markov model over successive slices of a token stream, called blocks.

    The first block must begin at the start of a document. `layout` gives the class of each token and hidden state.
    Yields a tuple for each block: the block, the state distribution before its first token, and the state distributions
    after each of its tokens.
    """
    before = START
    for block in blocks:
        filtered = filter_tokens(stream.ids[block], before, layout, parameters)
        yield block, before, filtered
        before = filtered.last(layout)


def likelihoods(stream: TokenStream, layout: Layout, parameters: Parameters) -> NDArray[np.float32]:
    """Computes the probability (T,) of each of the T tokens of a stream under a hidden Markov model.

    Each probability is conditional on the tokens before it in the same document. `layout` gives the class of each token
    and hidden state.
    """
    result = np.empty(len(stream), np.float32)

    def score(chain: list[slice]) -> None:
        for block, _, filtered in filtered_blocks(chain, stream, layout, parameters):
            result[block] = filtered.likelihoods

    for _ in _in_threads(score, chains(stream), N_THREADS):
        pass
    return result


def log_likelihood(stream: TokenStream, layout: Layout, parameters: Parameters) -> float:
    """Returns the log-likelihood of a token stream under a hidden Markov model, in nats."""
    return float(np.log(likelihoods(stream, layout, parameters), dtype=np.float64).sum())


def expected_counts(stream: TokenStream, layout: Layout, parameters: Parameters) -> tuple[float, Counts]:
    """Computes the expected numbers of transitions and emissions of hidden states in a token stream.

    This is the E-step of Baum-Welch. `layout` gives the class of each token and hidden state. Returns the
    log-likelihood of the stream, in nats, and the expected counts.
    """
    n_threads = int(np.clip(_MANY_COUNTS // layout.n_states**2, 1, N_THREADS))
    all_chains = list(chains(stream))

    def count(chains: list[list[slice]]) -> tuple[float, Counts]:
        counts = Counts(np.zeros((layout.n_states,) * 2, np.float32), np.zeros(layout.n_emissions))
        return sum(_count_chain(chain, stream, layout, parameters, counts) for chain in chains), counts

    # The work of each thread is fixed in advance, because sums of floats depend on their order.
    total, counts = 0.0, None
    for part, part_counts in _in_threads(count, [all_chains[i::n_threads] for i in range(n_threads)], n_threads):
        total += part
        if counts is None:
            counts = part_counts
        else:
            for sums, more in zip(counts, part_counts, strict=True):
                sums += more
    assert counts is not None
    counts.transitions[:] *= parameters.transmat
    return total, counts


def _count_chain(
    chain: list[slice], stream: TokenStream, layout: Layout, parameters: Parameters, counts: Counts
) -> float:
    """Adds the expected counts of a part of a token stream to `counts`, and returns the part's log-likelihood in nats.

    `chain` lists the successive slices of the stream that form the part; the first slice begins at the start of a
    document. The transition counts are added without their factor, the transition probabilities. The caller multiplies
    the sum over all parts by this factor, which is faster than a multiplication at every token.
    """
    at_starts = [START]
    for _, _, filtered in filtered_blocks(chain[:-1], stream, layout, parameters):
        at_starts.append(filtered.last(layout))
    total, following = 0.0, _NOTHING
    for block, before in zip(reversed(chain), reversed(at_starts), strict=True):
        filtered = filter_tokens(stream.ids[block], before, layout, parameters)
        total += float(np.log(filtered.likelihoods, dtype=np.float64).sum())
        following = _smooth_block(filtered, following, layout, parameters, counts)
    # The transition from the end of the previous document to the first token of the chain.
    counts.transitions[EOT_STATE, slice(*layout.block(following.token_class))] += following.probs
    return total


_NOTHING: Final = StateDistribution(EOT_CLASS, np.empty(0, np.float32))
"""Empty backward variables: no token follows the last block of a chain."""


def _smooth_block(
    filtered: Filtered, following: StateDistribution, layout: Layout, parameters: Parameters, counts: Counts
) -> StateDistribution:
    """Runs the backward pass of the forward-backward algorithm over a block of successive tokens.

    - `filtered`: result of the forward filter for the block. Its state distributions are replaced by posteriors, in
      place.
    - `following`: backward variables of the token after the block; empty if no token follows.
    - `counts`: expected counts, to which the counts of the block are added. The transition counts are added without
      their factor, the transition probabilities.

    Returns the backward variables of the first token of the block.
    """
    backward = np.empty((2, int(layout.n_states_of.max())), np.float32)
    backward[0, : len(following.probs)] = following.probs
    row = _smooth(
        filtered.ids, len(following.probs) > 0, following.token_class, backward,
        *_of(layout), *parameters, *filtered[1:], *counts,
    )  # fmt: skip
    first = int(layout.classes[filtered.ids[0]])
    return StateDistribution(first, backward[row, : int(layout.n_states_of[first])])


def posteriors(ids: NDArray[np.int32], layout: Layout, parameters: Parameters) -> NDArray[np.float32]:
    """Computes the probability (T, K) of each of K states at each of the T tokens of a text, given the whole text."""
    filtered = filter_tokens(ids, START, layout, parameters)
    counts = Counts(np.zeros((layout.n_states,) * 2, np.float32), np.zeros(layout.n_emissions))
    _smooth_block(filtered, _NOTHING, layout, parameters, counts)
    result = np.zeros((len(ids), layout.n_states), np.float32)
    for position, token_class in enumerate(layout.classes[ids]):
        result[position, slice(*layout.block(token_class))] = filtered.probs[slice(*filtered.offsets[position:][:2])]
    return result


def most_likely_path(ids: NDArray[np.int32], layout: Layout, parameters: Parameters) -> NDArray[np.int64]:
    """Returns the most likely sequence of hidden states (T,) for T tokens (Viterbi 1967)."""
    offsets = _state_offsets(ids, layout)
    came_from, path = np.empty(offsets[-1], np.int64), np.empty(len(ids), np.int64)
    _decode(ids, *_of(layout), *parameters, offsets, came_from, path)
    return path


def _state_offsets(ids: NDArray[np.int32], layout: Layout) -> NDArray[np.int64]:
    """Returns the bounds (N + 1,) of the states of each of N tokens in an array that has the states of all of them."""
    return np.append(0, layout.n_states_of[layout.classes[ids]].cumsum()).astype(np.int64)


def _of(layout: Layout) -> tuple[NDArray[Any], ...]:
    return layout.classes, layout.first_state, layout.first_emission


def _in_threads(work: Callable[[Any], Any], parts: Iterable[Any], n_threads: int) -> Iterator[Any]:
    with ThreadPoolExecutor(n_threads) as pool:
        yield from pool.map(work, parts)


@kernel(read_only(_I32), _I64, writable(_F32), *_LAYOUT, *_PARAMETERS, *_FILTERED, reassociate=True)
def _filter(
    ids, class_before, previous, classes, first_state, first_emission, transmat, emissions,
    offsets, filtered, likelihoods,
):  # fmt: skip
    """Runs the forward filter of a hidden Markov model in which each state emits only the tokens of one class.

    Writes the state distribution after token t of `ids` to filtered[offsets[t] : offsets[t + 1]], which must be zero
    before, and the probability of token t, given the tokens before it, to likelihoods[t].

    - `class_before`, `previous`: class of the token that precedes `ids`, and distribution over the states of this
      class.
    - `classes`: class of each token of the vocabulary.
    - `first_state`: first state of each class; the states of a class are numbered consecutively.
    - `first_emission`: index of each token's first probability in `emissions`, which holds the probabilities of a token
      in all states of its class.
    - `transmat` (K, K): transition probabilities of the K states.
    """
    before = first_state[class_before]
    for t in range(ids.size):
        first = first_state[classes[ids[t]]]
        probs = filtered[offsets[t] : offsets[t + 1]]
        for i in range(previous.size):
            weight, row = previous[i], transmat[before + i, first : first + probs.size]
            for j in range(probs.size):
                probs[j] += weight * row[j]
        emission = emissions[first_emission[ids[t]] : first_emission[ids[t]] + probs.size]
        likelihood = np.float32(0)
        for j in range(probs.size):
            probs[j] *= emission[j]
            likelihood += probs[j]
        likelihoods[t] = likelihood
        scale = np.float32(1) / likelihood
        for j in range(probs.size):
            probs[j] *= scale
        previous, before = probs, first


@kernel(
    read_only(_I32), types.boolean, _I64, writable(_F32, 2), *_LAYOUT, *_PARAMETERS, *_FILTERED, writable(_F32, 2),
    writable(_F64),
    returns=_I64, reassociate=True,
)  # fmt: skip
def _smooth(
    ids, is_followed, class_after, backward, classes, first_state, first_emission, transmat, emissions,
    offsets, filtered, likelihoods, transitions, emitted,
):  # fmt: skip
    """Runs the backward pass of the forward-backward algorithm for a hidden Markov model over the tokens `ids`.

    Replaces the state distributions in `filtered`, the result of the forward filter, by posteriors. Adds the expected
    numbers of emissions to `emitted`. Adds the expected numbers of transitions, without their factor, the transition
    probabilities, to `transitions`.

    - `is_followed`: True if a token, of class `class_after`, follows the last of `ids`.
    - `backward` (2, m): working memory for the backward variables of a token and of the next token, where m is the
      largest number of states of a class. If `is_followed`, row 0 must hold the variables of the token after `ids`.

    Returns the row of `backward` that holds the variables of the first token. The other arguments are those of the
    forward filter `_filter`.
    """
    after = first_state[class_after]
    n_after = first_state[class_after + 1] - after
    row = 0
    for t in range(ids.size - 1, -1, -1):
        first, offset = first_state[classes[ids[t]]], first_emission[ids[t]]
        probs, following, here = filtered[offsets[t] : offsets[t + 1]], backward[row], backward[1 - row]
        scale = np.float32(1) / likelihoods[t]
        for i in range(probs.size):
            message = np.float32(1)
            if is_followed:
                message = np.float32(0)
                weights, counts = transmat[first + i, after : after + n_after], transitions[first + i]
                for j in range(n_after):
                    message += weights[j] * following[j]
                for j in range(n_after):
                    counts[after + j] += probs[i] * following[j]
            here[i] = emissions[offset + i] * scale * message
            probs[i] *= message
            emitted[offset + i] += probs[i]
        row, is_followed, after, n_after = 1 - row, True, first, probs.size
    return row


@kernel(read_only(_I32), *_LAYOUT, *_PARAMETERS, read_only(_I64), writable(_I64), writable(_I64))
def _decode(ids, classes, first_state, first_emission, transmat, emissions, offsets, came_from, path):
    """Writes the most likely sequence of hidden states for the tokens `ids` to `path` (Viterbi 1967).

    `came_from` is working memory. For each state that a token can have, it receives the best state of the token before;
    its entries from offsets[t] to offsets[t + 1] - 1 belong to token t. The other arguments describe the model, as in
    the function `_filter`.
    """
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
