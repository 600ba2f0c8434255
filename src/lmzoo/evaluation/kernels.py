"""Compiled loops for mixtures of models.

Import this module in the functions that use it, because numba is slow to import.
"""

from __future__ import annotations

from lmzoo.system.compiled import kernel, read_only, types, writable


@kernel(read_only(types.float64, 2), read_only(types.int64), read_only(types.float64), writable(types.float32, 3))
def decaying_means(values, starts, decays, means):
    """Fills `means` (K, M, T) with decaying means of the earlier values in each of M rows of `values` (M, T).

    A mean is 0 at the starts of documents, `starts` (D,). Each value x changes a mean m to d * m + (1 - d) * x, where d
    is one of the K `decays`.
    """
    for k in range(decays.size):
        for row in range(values.shape[0]):
            for d in range(starts.size):
                stop = starts[d + 1] if d + 1 < starts.size else values.shape[1]
                mean = 0.0
                for t in range(starts[d], stop):
                    means[k, row, t] = mean
                    mean = decays[k] * mean + (1 - decays[k]) * values[row, t]


@kernel(read_only(types.float64, 2), read_only(types.float64), types.float64, writable(types.float64))
def mix_dynamically(probs, prior, share, totals):
    """Fills `totals` (T,) with the probability of each token under a mixture of M models whose weights change.

    `probs` (T, M): probability of each token under each model. `prior` (M,): initial weights of the models. `share`:
    the share of the total weight that is redistributed after each token in proportion to `prior`.
    """
    weights = prior.copy()
    for t in range(probs.shape[0]):
        weights *= probs[t]
        totals[t] = weights.sum()
        weights *= (1 - share) / totals[t]
        weights += share * prior
