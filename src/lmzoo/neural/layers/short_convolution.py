"""A short causal convolution that tells a layer which tokens come before each token (after So et al. 2021, Primer)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class ShortConvolution(nn.Module):
    """A causal convolution over the last k tokens, each channel by itself, that is added to its input.

        y_t = x_t + w_1 x_{t-1} + ... + w_{k-1} x_{t-k+1}

    The products with the weights w_1, ..., w_{k-1} are elementwise. Tokens of earlier documents count as 0. The weights
    start at 0, so a new layer returns its input.
    """

    def __init__(self, size: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size - 1, d_model))

    def forward(self, x: Tensor, previous: Tensor, in_document: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the convolution for T new tokens in each of B sequences.

        - `x` (B, T, D): the new tokens as vectors of width D.
        - `previous` (B, k - 1, D): the vectors of the k - 1 tokens before them.
        - `in_document` (B, T, k - 1): for each token, 1 if the token at distance 1, ..., k - 1 before it belongs to the
          same document, else 0.

        Returns the output (B, T, D) and the vectors of the last k - 1 tokens.
        """
        n_previous, n_new = previous.shape[1], x.shape[1]
        history = torch.cat([previous.to(x.dtype), x], dim=1)  # (B, k - 1 + T, D)
        for lag in range(1, n_previous + 1):
            lagged = history[:, n_previous - lag :][:, :n_new]  # (B, T, D)
            x = torch.addcmul(x, lagged * in_document[:, :, lag - 1, None], self.weight[lag - 1].to(x.dtype))
        return x, history[:, n_new:]
