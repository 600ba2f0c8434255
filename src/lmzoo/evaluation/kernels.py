"""Compiled loops of mixtures of models. They are imported where they are used, because numba is slow to import."""

from __future__ import annotations

from lmzoo.system.compiled import kernel, read_only, types, writable


@kernel(read_only(types.float64, 2), read_only(types.int64), read_only(types.float64), writable(types.float32, 3))
def decaying_means(values, starts, decays, means):
    """Writes the decaying means of the earlier values of each of M rows of `values` (M, T) to `means` (K, M, T).

    A mean is 0 at the positions `starts` (D,). With each value, it is multiplied by its factor, which is one of the K
    `decays`, and the value times 1 minus this factor is added.
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
    """Writes the probabilities of T tokens under a mixture of M models with dynamic weights to `totals` (T,).

    `probs` (T, M): probability of each token under each model. `prior` (M,): initial weights of the models. `share`:
    the share of the total weight that is redistributed after each token in proportion to `prior`.
    """
    weights = prior.copy()
    for t in range(probs.shape[0]):
        weights *= probs[t]
        totals[t] = weights.sum()
        weights *= (1 - share) / totals[t]
        weights += share * prior
