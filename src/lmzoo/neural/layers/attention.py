"""Scaled dot-product attention, softmax(Q K' / sqrt(d)) V (Vaswani et al. 2017, equation 1), fast on CPUs too."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Computes scaled dot-product attention, softmax(q k' / sqrt(d)) v.

    `q` (B, H, T, d) holds the queries and `k`, `v` (B, H, M, d) the keys and values of B sequences and H heads; the
    result has the shape of `q`. `mask` (T, M) or (B, 1, T, M) is True where a query may attend to a key, which must be
    at least one key for each query; None = all keys.

    In training on a CPU the attention weights are kept for the backward pass. torch's fused kernel would compute them a
    second time, and in bfloat16 it takes four times as long as these matrix products.
    """
    if q.requires_grad and q.device.type == "cpu":
        return _Attention.apply(q, k, v, mask)  # pyright: ignore[reportReturnType]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class ScaledDotProduct(nn.Module):
    """The function `attention` as a layer without weights, so that forward hooks can observe queries and keys."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Computes scaled dot-product attention; shapes as in `attention`."""
        return attention(q, k, v, mask)


def weights_of(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the attention weights softmax(q k' / sqrt(d)) (B, H, T, M), which `attention` multiplies with v.

    `q` (B, H, T, d), `k` (B, H, M, d) and `mask` are the arguments of `attention`.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)  # (B, H, T, M)
    return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1)


class _Attention(torch.autograd.Function):
    """Scaled dot-product attention that keeps its weights P for the backward pass.

    Let S be the scaled products of queries and keys, P = softmax(S), y = P v the output, and dx the gradient of the
    loss with respect to x. Then dv = P^T dy, dP = dy v^T, and dS = P * (dP - s), where s (T, 1) holds the sums of the
    rows of dP * P.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        q = q * q.shape[-1] ** -0.5
        scores = q @ k.transpose(2, 3)  # (B, H, T, M)
        if mask is not None:
            scores.masked_fill_(~mask, -math.inf)
        weights = scores.softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v  # (B, H, T, d)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (d_y,) = gradients
        q, k, v, weights = ctx.saved_tensors
        d_weights = d_y @ v.transpose(2, 3)
        d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_q = (d_scores @ k).mul_(q.shape[-1] ** -0.5)
        return d_q, d_scores.transpose(2, 3) @ q, weights.transpose(2, 3) @ d_y, None
