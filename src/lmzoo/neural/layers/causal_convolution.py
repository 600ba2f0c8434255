"""A causal convolution over the last tokens of a document, computed as one matrix product."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from lmzoo.neural.layers.windows import earlier_vectors


@final
class CausalConvolution(nn.Module):
    """A dense causal convolution over k tokens, from vectors of width D to vectors of width E.

        y_t = W_0 x_t + W_1 x_{t-1} + ... + W_{k-1} x_{t-k+1} + b

    Tokens of earlier documents count as 0. The matrices W_0, ..., W_{k-1} stand side by side in `linear.weight`
    (E, k D).
    """

    def __init__(self, size: int, d_input: int, d_output: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size * d_input, d_output)

    def forward(self, x: Tensor, previous: Tensor, in_document: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the convolution for T new tokens in each of B sequences.

        The arguments are those of `lmzoo.neural.layers.windows.earlier_vectors`. Returns the output (B, T, E) and the
        vectors of the last k - 1 tokens.
        """
        earlier, last = earlier_vectors(x, previous, in_document)
        return self.linear(torch.cat([x, *earlier], dim=2)), last
