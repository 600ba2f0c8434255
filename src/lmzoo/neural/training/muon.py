"""The optimizer Muon, which makes the update of each matrix orthogonal (Jordan et al. 2024).

The momentum B of the gradient, with singular value decomposition B = U S V^T, is replaced by nearly U V^T, so that
every direction is learned at the same rate. A few Newton-Schulz iterations compute it with matrix products alone.

This computes the same as `torch.optim.Muon` with Nesterov momentum, but faster: matrices of the same shape are
processed as one batch, and on devices without instructions for bfloat16 the iterations can run in float32, because
bfloat16 would take ten times as long there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the polynomial a x + b x^3 + c x^5 that moves singular values towards 1, as steeply as possible."""
_N_ITERATIONS = 5
_MOMENTUM = 0.95
_SMALLEST_NORM = 1e-7


@final
class Muon:
    """Updates matrices by the orthogonalised momentum of their gradients, with decoupled weight decay.

    Updates are scaled to about the size (root mean square of the elements) of those of AdamW, so that one learning rate
    serves both optimizers (Liu et al. 2025). `matrices` are the tensors to update, and `dtype` is the type of numbers
    in which the iterations compute.
    """

    def __init__(self, matrices: Iterable[Tensor], *, weight_decay: float, dtype: torch.dtype) -> None:
        self.parameters, self._weight_decay, self._dtype = list(matrices), weight_decay, dtype
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        """The moving average of the gradient of each matrix."""

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Updates all matrices that have a gradient."""
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for matrix in self.parameters:
            if matrix.grad is not None:
                by_shape.setdefault(matrix.shape, []).append(matrix)
        for shape, matrices in by_shape.items():
            updates = orthogonalised(torch.stack([self._momentum(matrix) for matrix in matrices]), self._dtype)
            step_size = learning_rate * 0.2 * math.sqrt(max(shape))
            for matrix, update in zip(matrices, updates, strict=True):
                matrix.mul_(1 - learning_rate * self._weight_decay)
                matrix.add_(update, alpha=-step_size)

    def _momentum(self, matrix: Tensor) -> Tensor:
        """Updates the moving average of a matrix's gradient, and returns it with Nesterov's correction."""
        gradient = matrix.grad
        assert gradient is not None
        if matrix not in self.state:
            self.state[matrix] = {"momentum_buffer": torch.zeros_like(gradient)}
        average = self.state[matrix]["momentum_buffer"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(average, _MOMENTUM)


def orthogonalised(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns matrices (M, R, C) with all singular values moved close to 1, by Newton-Schulz iterations in `dtype`."""
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if is_tall else matrices).to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_SMALLEST_NORM)  # now no singular value is above 1
    for _ in range(_N_ITERATIONS):
        squares = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(squares, squares, squares, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)
