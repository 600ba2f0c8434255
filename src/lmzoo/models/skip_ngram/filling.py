"""Writes next-token distributions of skip n-gram models: sums the predictions of all contexts, in compiled code."""

from __future__ import annotations

from numba import types

from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64, _F64 = types.int32, types.int64, types.float64


@kernel(read_only(_I64, 2), read_only(_F64, 2), read_only(_I64), read_only(_I32), read_only(_F64), writable(_F64, 2))
def add_predictions(contexts, weights, starts, tokens, probs, rows):
    """Adds the predictions of P contexts, multiplied by their weights, to each of B distributions over V tokens.

    - `contexts` (P, B): index of each context of each distribution.
    - `weights` (P, B): weights of the contexts.
    - `starts`, `tokens`, `probs`: context c predicts tokens[starts[c] : starts[c + 1]] with the probabilities
      probs[starts[c] : starts[c + 1]].
    - `rows` (B, V): the distributions, updated in place.
    """
    for b in range(rows.shape[0]):
        for pattern in range(contexts.shape[0]):
            context, weight = contexts[pattern, b], weights[pattern, b]
            for i in range(starts[context], starts[context + 1]):
                rows[b, tokens[i]] += weight * probs[i]
