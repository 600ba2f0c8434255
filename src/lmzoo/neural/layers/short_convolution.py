"""A short causal convolution that tells a layer which tokens come before each token (after So et al. 2021, Primer)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from lmzoo.neural.layers.windows import earlier_vectors


@final
class ShortConvolution(nn.Module):
    """A depthwise causal convolution over the last k tokens, with a residual connection.

        y_t = x_t + w_1 x_{t-1} + ... + w_{k-1} x_{t-k+1}

    The products with the weights w_1, ..., w_{k-1} are elementwise. Tokens of earlier documents count as 0. The weights
    start at 0, so a new layer returns its input.
    """

    def __init__(self, size: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size - 1, d_model))

    def forward(self, x: Tensor, previous: Tensor, in_document: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the convolution for T new tokens in each of B sequences.

        The arguments are those of `lmzoo.neural.layers.windows.earlier_vectors`. Returns the output (B, T, D) and the
        vectors of the last k - 1 tokens.
        """
        earlier, last = earlier_vectors(x, previous, in_document)
        for vectors, weight in zip(earlier, self.weight.to(x.dtype), strict=True):
            x = torch.addcmul(x, vectors, weight)
        return x, last
