"""A linear recurrence of single numbers over time, computed by a parallel scan (Blelloch 1990; Martin & Cundy 2018)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def linear_scan(keep: Tensor, new: Tensor, state: Tensor) -> Tensor:
    """Computes h_t = keep_t h_{t-1} + new_t at T time steps of B sequences, elementwise: returns all h (B, T, D).

    `keep` and `new` have the shape (B, T, D); `state` (B, D) is h before the first step. With `keep` from 0 to 1 there
    is no overflow, since only products of such numbers are computed, and no logarithms or quotients.
    """
    return _Scan.apply(keep, new, state)  # pyright: ignore[reportReturnType]


class _Scan(torch.autograd.Function):
    """A linear recurrence as one differentiable operation, whose gradient is the same recurrence back in time."""

    @staticmethod
    def forward(ctx: Any, keep: Tensor, new: Tensor, state: Tensor) -> Tensor:
        first = torch.addcmul(new[:, :1], keep[:, :1], state[:, None])
        h = _scan(keep, torch.cat([first, new[:, 1:]], dim=1))
        ctx.save_for_backward(keep, h, state)
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        keep, h, state = ctx.saved_tensors
        # d_t = gradient_t + keep_{t+1} d_{t+1}
        later = torch.cat([keep[:, 1:], torch.zeros_like(keep[:, :1])], dim=1).flip(1)
        d_new = _scan(later, gradients[0].flip(1)).flip(1)
        before = torch.cat([state[:, None], h[:, :-1]], dim=1)
        return d_new * before, d_new, keep[:, 0] * d_new[:, 0]


def _scan(keep: Tensor, h: Tensor) -> Tensor:
    """Computes h_t = keep_t h_{t-1} + h_t for all t, with h = 0 before the first step, by doubling.

    After round r, each step includes the 2^r steps up to it; log2(T) rounds include all.
    """
    reach = 1
    while reach < h.shape[1]:
        h = torch.cat([h[:, :reach], torch.addcmul(h[:, reach:], keep[:, reach:], h[:, :-reach])], dim=1)
        keep = torch.cat([keep[:, :reach], keep[:, reach:] * keep[:, :-reach]], dim=1)
        reach *= 2
    return h
