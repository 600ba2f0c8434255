"""The embedding of n-grams for one token: mirrors `lmzoo.neural.layers.ngram_embedding.NgramEmbedding.forward`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmzoo.neural.one_token.operations import Array, Ids, Weights, affine
from lmzoo.stream import EOT


def ngram_embedding(module: Any, weights: Weights, windows: Ids) -> Array:
    """Returns the sum (B, D) of the projected vectors of the n-grams that end in one token of each sequence.

    `windows` (B, n) holds the id of each token and the ids before it, newest first. An n-gram that would reach across
    the start of its document has the vector 0.
    """
    rows = np.stack(module.table_rows_of(windows), axis=1)  # (B, n - 1)
    x = weights.table.weight[rows] * (windows[:, :-1] != EOT)[:, :, None]  # (B, n - 1, d_slot)
    return affine(x.reshape(len(x), -1), weights.out)
