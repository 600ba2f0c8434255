"""Initial parameters for Baum-Welch, from word classes.

EM converges to a local optimum near its starting point. From random parameters its first ten iterations bring little,
because all states are still alike. Words that occur between the same words are similar (Brown et al. 1992, Class-Based
n-gram Models of Natural Language), so each state starts as one class of words: the counts of each word's left and right
neighbours are projected to few dimensions and clustered by k-means. On the Brown corpus with 64 states, one iteration
from these classes gives the perplexity of about twenty iterations from random parameters, and the optimum that EM
reaches is better.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lmzoo.models.hmm.inference import Counts
from lmzoo.stream import TokenStream

_N_DIMENSIONS: Final = 128
_N_ROUNDS: Final = 8
_TYPES_PER_STATE: Final = 4
"""With fewer distinct tokens per state than this, pairs or triples of tokens are clustered instead."""
_FREQUENCY_POWER: Final = 1.5
"""Exponent of a word's count in its k-means weight; above 1, so that frequent words tend to form classes alone."""
_SHARED: Final = 0.5
"""Fraction of each word's count that is distributed over all states at random, so that EM can change its class."""


def initial_counts(stream: TokenStream, vocab_size: int, n_states: int, rng: np.random.Generator) -> Counts:
    """Returns counts of hidden states from which Baum-Welch can start with an M-step.

    Words are clustered into `n_states` classes, one for each state. Half of each word's count is assigned to the state
    of its class, and the other half is distributed over all states at random.
    """
    types, token_ids = _choose_units(stream, n_states)
    n_types = len(token_ids)
    at_start = np.zeros(len(stream), bool)
    at_start[stream.starts] = True
    not_first = np.flatnonzero(~at_start)
    pairs = sparse.coo_array(
        (np.ones(len(not_first), np.float32), (types[not_first - 1], types[not_first])), shape=(n_types, n_types)
    ).tocsr()  # sums duplicates
    starts = np.bincount(types[stream.starts], minlength=n_types)  # (N,)
    counts = np.bincount(types, minlength=n_types)  # (N,)

    neighbours: Any = sparse.hstack([pairs, pairs.T, starts[:, None].astype(np.float32)], format="csr")
    classes = _cluster(_project(neighbours, rng), counts.astype(np.float64) ** _FREQUENCY_POWER, n_states, rng)
    shares = rng.standard_exponential((n_types, n_states), dtype=np.float32)
    shares *= _SHARED / shares.sum(axis=1, keepdims=True)
    shares[np.arange(n_types), classes] += 1 - _SHARED

    occurrences = sparse.csr_array((counts, (token_ids, np.arange(n_types))), shape=(vocab_size, n_types))
    return Counts(np.nan, starts @ shares, (shares.T @ (pairs @ shares)).astype(np.float64), occurrences @ shares)


def _choose_units(stream: TokenStream, n_states: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Chooses the units of a text to cluster into classes, one class for each of `n_states` hidden states.

    The units are the tokens, or bigrams or trigrams of tokens if there are too few distinct tokens, as with characters.
    Returns two arrays: the unit (T,) that ends at each of the T positions of the text, as a number from 0 to N - 1 for
    N distinct units; and the last token id (N,) of each unit.
    """
    token_ids, types = np.unique(stream.ids, return_inverse=True)
    for _ in range(2):
        if len(token_ids) >= _TYPES_PER_STATE * n_states:
            break
        before = np.empty_like(types)
        before[1:] = types[:-1]
        before[stream.starts] = len(token_ids)
        kinds, types = np.unique(before * (stream.ids.max() + np.intp(1)) + stream.ids, return_inverse=True)
        token_ids = kinds % (stream.ids.max() + np.intp(1))
    return types, token_ids


def _project(neighbours: Any, rng: np.random.Generator) -> NDArray[np.float32]:
    """Maps N rows of counts of neighbouring tokens to unit vectors (N, D) with a smaller number of dimensions D.

    The square roots of the relative frequencies in each row are projected on their leading singular vectors, which are
    computed by randomised subspace iteration (Halko et al. 2011). With square roots, the distance between two rows is
    the Hellinger distance between their distributions.
    """
    rows = neighbours.sqrt()
    rows = sparse.diags_array(1 / np.maximum(np.sqrt(neighbours.sum(axis=1)), 1)) @ rows
    basis = rng.standard_normal((rows.shape[1], min(_N_DIMENSIONS, *rows.shape))).astype(np.float32)
    for _ in range(4):
        basis, _ = np.linalg.qr(rows.T @ (rows @ basis))
    return _unit_rows((rows @ basis).astype(np.float32))


def _cluster(
    points: NDArray[np.float32], weights: NDArray[np.float64], n_clusters: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Returns the cluster (N,) of each of N points, by spherical k-means.

    `weights` (N,) are the weights of the points in the mean of a cluster. The initial centres are points, sampled with
    probabilities proportional to these weights.
    """
    n_points = len(points)
    sampled = rng.choice(n_points, min(n_clusters, n_points), replace=False, p=weights / weights.sum())
    centres = points[sampled]
    for _ in range(_N_ROUNDS):
        clusters = _nearest(points, centres)
        membership = sparse.csr_array((weights, (clusters, np.arange(n_points))), shape=(len(centres), n_points))
        centres = np.where(np.diff(membership.indptr)[:, None] > 0, membership @ points, centres)
        centres = _unit_rows(centres.astype(np.float32))
    return _nearest(points, centres)


def _nearest(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.intp]:
    parts = np.array_split(points, 1 + len(points) // 4096)
    return np.concatenate([np.argmax(part @ centres.T, axis=1) for part in parts])


def _unit_rows(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
