"""Where Baum-Welch starts: word classes found in the contexts of the words.

EM climbs to the nearest hill, and from random parameters it spends its first ten iterations on a plateau where all
states are alike. Words that occur between the same words belong together (Brown et al. 1992, Class-Based n-gram Models
of Natural Language), so each state starts with a class of its own: each word's left and right neighbours, counted and
projected to few dimensions, are clustered by k-means. On the Brown corpus with 64 states, one iteration from there
gives the perplexity of about twenty from random parameters, and the hill is a better one.
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
"""With fewer types of tokens than this for each state, what is clustered are tokens in their contexts."""
_FREQUENCY_POWER: Final = 1.5
"""The weight of a word in k-means is its count to this power: frequent words should rather have states of their own."""
_SHARED: Final = 0.5
"""The part of each word that is spread over all states at random, so that EM can move it."""


def initial_counts(stream: TokenStream, vocab_size: int, n_states: int, rng: np.random.Generator) -> Counts:
    """Counts of the hidden states as if half of each word belonged to its class."""
    types, token_ids = _types(stream, n_states)
    n_types = len(token_ids)
    at_start = np.zeros(len(stream), bool)
    at_start[stream.starts] = True
    going_on = np.flatnonzero(~at_start)
    pairs = sparse.coo_array(
        (np.ones(len(going_on), np.float32), (types[going_on - 1], types[going_on])), shape=(n_types, n_types)
    ).tocsr()  # sums duplicates
    starts = np.bincount(types[stream.starts], minlength=n_types)  # (N,)
    counts = np.bincount(types, minlength=n_types)  # (N,)

    neighbours: Any = sparse.hstack([pairs, pairs.T, starts[:, None].astype(np.float32)], format="csr")
    classes = _cluster(_projected(neighbours, rng), counts.astype(np.float64) ** _FREQUENCY_POWER, n_states, rng)
    shares = rng.standard_exponential((n_types, n_states), dtype=np.float32)
    shares *= _SHARED / shares.sum(axis=1, keepdims=True)
    shares[np.arange(n_types), classes] += 1 - _SHARED

    occurrences = sparse.csr_array((counts, (token_ids, np.arange(n_types))), shape=(vocab_size, n_types))
    return Counts(np.nan, starts @ shares, (shares.T @ (pairs @ shares)).astype(np.float64), occurrences @ shares)


def _types(stream: TokenStream, n_states: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """(T,) what is clustered, numbered, and (N,) the token of each: tokens, or tokens with the ones before them.

    A vocabulary that is small for the number of states (characters) would leave most states without a class of their
    own, so there a type is the last two or three tokens.
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


def _projected(neighbours: Any, rng: np.random.Generator) -> NDArray[np.float32]:
    """(N, D) rows on the unit sphere: the main directions of the square roots of counts, by subspace iteration.

    Square roots make the distance of two rows that of Hellinger between their distributions (Halko et al. 2011 for the
    method).
    """
    rows = neighbours.sqrt()
    rows = sparse.diags_array(1 / np.maximum(np.sqrt(neighbours.sum(axis=1)), 1)) @ rows
    basis = rng.standard_normal((rows.shape[1], min(_N_DIMENSIONS, *rows.shape))).astype(np.float32)
    for _ in range(4):
        basis, _ = np.linalg.qr(rows.T @ (rows @ basis))
    return _on_sphere((rows @ basis).astype(np.float32))


def _cluster(
    points: NDArray[np.float32], weights: NDArray[np.float64], n_clusters: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """(N,) the cluster of each point, by spherical k-means from centres drawn by weight."""
    n_points = len(points)
    drawn = rng.choice(n_points, min(n_clusters, n_points), replace=False, p=weights / weights.sum())
    centres = points[drawn]
    for _ in range(_N_ROUNDS):
        clusters = _nearest(points, centres)
        membership = sparse.csr_array((weights, (clusters, np.arange(n_points))), shape=(len(centres), n_points))
        centres = np.where(np.diff(membership.indptr)[:, None] > 0, membership @ points, centres)
        centres = _on_sphere(centres.astype(np.float32))
    return _nearest(points, centres)


def _nearest(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.intp]:
    parts = np.array_split(points, 1 + len(points) // 4096)
    return np.concatenate([np.argmax(part @ centres.T, axis=1) for part in parts])


def _on_sphere(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
