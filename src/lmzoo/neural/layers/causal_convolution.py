"""A causal convolution over the last tokens of a document, computed as one matrix product."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class CausalConvolution(nn.Module):
    """A causal convolution of k tokens from vectors of width D to vectors of width E, with all channels connected.

        y_t = W_0 x_t + W_1 x_{t-1} + ... + W_{k-1} x_{t-k+1} + b

    Tokens of earlier documents count as 0. The matrices W_0, ..., W_{k-1} stand side by side in `linear.weight`
    (E, k D).
    """

    def __init__(self, size: int, d_input: int, d_output: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size * d_input, d_output)

    def forward(self, x: Tensor, previous: Tensor, in_document: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the convolution for T new tokens in each of B sequences.

        - `x` (B, T, D): the new tokens as vectors of width D.
        - `previous` (B, k - 1, D): the vectors of the k - 1 tokens before them.
        - `in_document` (B, T, k - 1): for each token, 1 if the token at distance 1, ..., k - 1 before it belongs to the
          same document, else 0.

        Returns the output (B, T, E) and the vectors of the last k - 1 tokens.
        """
        n_previous, n_new = previous.shape[1], x.shape[1]
        history = torch.cat([previous.to(x.dtype), x], dim=1)  # (B, k - 1 + T, D)
        window = [x]
        for lag in range(1, n_previous + 1):
            lagged = history[:, n_previous - lag :][:, :n_new]  # (B, T, D)
            window.append(lagged * in_document[:, :, lag - 1, None])
        return self.linear(torch.cat(window, dim=2)), history[:, n_new:]
