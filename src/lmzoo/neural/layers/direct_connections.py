"""Direct connections from the last tokens to the next token: weights of n-grams in a hash table (Mikolov et al. 2011).

They are the weights of a maximum-entropy model: the weight of each n-gram that ends with a token is added to the logit
of the token. The weights of all n-grams with the same context, the tokens before the last one, are V successive
elements of one table:

    logit of w = sum_k table[start(last k tokens) + w]          for contexts of k = 1 .. n - 1 tokens

As the start is computed from a hash of the context, different n-grams may share a weight by chance.

T. Mikolov, A. Deoras, D. Povey, L. Burget, J. Cernocky, Strategies for Training Large Scale Neural Network Language
Models, ASRU 2011. Changed: the weights are learned by AdamW, like the rest of the network, instead of plain stochastic
gradient descent.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from lmzoo.neural.layers.ngram_embedding import MULTIPLIER


@final
class DirectConnections(nn.Module):
    """The weights of n-grams of 2 to `order` tokens, in a table of `size` + V elements; they are 0 at first.

    A window holds the last `order` - 1 tokens, newest first; the tokens before a document count as EOT (end of text).
    """

    def __init__(self, order: int, size: int, vocab_size: int) -> None:
        super().__init__()
        self.n_lengths, self.size = order - 1, size
        self.table = nn.Parameter(torch.zeros(size + vocab_size))

    def forward(self, windows: Tensor, token_ids: Tensor | None = None) -> Tensor:
        """Returns the sum (.., M) of the weights of all n-grams that end with each of M tokens after a window.

        `windows` (.., n - 1) int64 are the windows, and `token_ids` (M,) the tokens; None = all V tokens.
        """
        starts, vocab_size = self.starts_of(windows), len(self.table) - self.size
        return _SumOfWeights.apply(self.table, torch.stack(starts), token_ids, vocab_size)  # pyright: ignore[reportReturnType]

    def starts_of(self, windows: Any) -> list[Any]:
        """Returns where in the table the weights of the n-grams begin, for n = 2, 3, ...

        `windows` (.., n - 1) is a tensor or a NumPy array of int64, and so is each of the n - 1 results (..).
        """
        starts, key = [], 0
        for lag in range(self.n_lengths):
            key = (key + windows[..., lag] + 1) * MULTIPLIER  # wraps around
            starts.append((key >> 20) % self.size)
        return starts


class _SumOfWeights(torch.autograd.Function):
    """The sum of K weights for each of M tokens; only the starts (K, ..) are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, starts: Tensor, token_ids: Tensor | None, vocab_size: int) -> Tensor:
        ctx.n_weights = len(table)
        all_ids = torch.arange(vocab_size, device=table.device)
        ctx.save_for_backward(starts, all_ids if token_ids is None else token_ids)
        first, *others = starts
        if token_ids is None:
            rows = table.unfold(0, vocab_size, 1)  # (size + 1, V) overlapping views
            total = rows[first]
            for start in others:
                total += rows[start]
            return total
        total = table.take(first[..., None] + token_ids)
        for start in others:
            total += table.take(start[..., None] + token_ids)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        starts, token_ids = ctx.saved_tensors
        d_table = gradients[0].new_zeros(ctx.n_weights)
        for start in starts:
            d_table.scatter_add_(0, (start[..., None] + token_ids).flatten(), gradients[0].flatten())
        return d_table, None, None, None
