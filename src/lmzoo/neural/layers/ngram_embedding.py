"""An embedding of n-grams in a table that is addressed by hashing (Huang et al. 2025)."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.stream import EOT

MULTIPLIER = 6364136223846793005
"""Multiplier of Knuth's linear congruential generator MMIX: the high bits of its products are well mixed."""


@final
class NgramEmbedding(nn.Module):
    """An embedding of n-grams: adds up, for each token, the learned vectors of the n-grams that end with the token.

    The lengths of the n-grams are 2 to `ngrams`. The vectors are the rows of a table. The row of an n-gram is found by
    hashing, so different n-grams may share a row by chance.
    """

    def __init__(self, ngrams: int, n_slots: int, d_slot: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.n_slots, self.dropout = n_slots, dropout
        self.table = nn.Embedding((ngrams - 1) * n_slots, d_slot)
        self.out = nn.Linear((ngrams - 1) * d_slot, d_model, bias=False)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, window: Tensor) -> Tensor:
        """Returns the sum of the n-gram vectors of each token, for T tokens in each of B sequences.

        `window` (B, T, n) holds the id of each token and the n - 1 ids before it, newest first. The result (B, T, D)
        has the width D of the model.
        """
        x = self.table(torch.stack(self.table_rows_of(window), 2))  # (B, T, n - 1, d_slot)
        # An n-gram does not reach across the start of a document. Dropout drops whole n-grams, so that long ones, many
        # of which occur once, are not memorized.
        in_document = (window[:, :, :-1] != EOT).unsqueeze(3).to(x.dtype)  # (B, T, n - 1, 1)
        return self.out((x * F.dropout(in_document, self.dropout, self.training)).flatten(2))

    def table_rows_of(self, window: Any) -> list[Any]:
        """Returns the table rows in which the vectors of the n-grams, n = 2, 3, ..., that end with a token are stored.

        `window` (.., n) holds the id of each token and the ids before it, newest first. It is a tensor or a NumPy array
        of int64, and so is each of the n - 1 results (..).
        """
        rows, key = [], window[..., 0]
        for lag in range(1, window.shape[-1]):
            key = key * MULTIPLIER + window[..., lag] + 1  # wraps around
            rows.append((lag - 1) * self.n_slots + (key >> 20) % self.n_slots)
        return rows
