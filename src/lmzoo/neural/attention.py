"""Attention, fast on processors too: softmax(Q K' / sqrt(d)) V (Vaswani et al. 2017, equation 1)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """q (B, H, T, d), k and v (B, H, M, d) -> (B, H, T, d).

    `seen` (T, M) or (B, 1, T, M) says which keys each query may see, at least one; None = all. In training on a
    processor the matrix of weights is kept for the backward pass, which the fused kernel of torch makes a second time;
    in bfloat16 that kernel takes four times as long as these products.
    """
    if q.requires_grad and q.device.type == "cpu":
        return _Attention.apply(q, k, v, seen)  # pyright: ignore[reportReturnType]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


class _Attention(torch.autograd.Function):
    """With weights P, y = P v and row sums s of dP * P:  dv = P' dy,  dP = dy v',  dS = P * (dP - s)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        q = q * q.shape[-1] ** -0.5
        scores = q @ k.transpose(2, 3)  # (B, H, T, M)
        if seen is not None:
            scores.masked_fill_(~seen, -math.inf)
        weights = scores.softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (d_y,) = gradients
        q, k, v, weights = ctx.saved_tensors
        d_weights = d_y @ v.transpose(2, 3)
        d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_q = (d_scores @ k).mul_(q.shape[-1] ** -0.5)
        return d_q, d_scores.transpose(2, 3) @ q, weights.transpose(2, 3) @ d_y, None
