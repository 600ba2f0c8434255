"""Cross-entropy of a linear output layer, computed without holding the logits of all predictions at once.

For N = 2,048 predictions and V = 16,000 tokens the logits, their softmax and its gradient would take 400 MB, and moving
them would cost more time than the arithmetic.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lmzoo.neural.devices import product_dtype

_SLICE_ELEMENTS = 1 << 19
"""Logits held at a time in training: 2 MB, about the size of a CPU's cache; but at least 128 rows of logits."""
_BLOCK_ELEMENTS = 1 << 21
"""Logits held at a time by `token_nats`."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Computes the weighted sum of the cross-entropies of softmax(hidden weight' + bias), in nats.

    `hidden` (N, D) are hidden vectors, `weight` (V, D) and `bias` (V,) the output layer over V tokens, `targets` (N,)
    the ids to predict, and `weights` (N,) the weight of each prediction; None = weight 1. Each slice of logits is
    turned into its gradient during the forward pass: d loss / d logits = weight (softmax - onehot). `weights` gets no
    gradient.
    """
    if bias is None:
        bias = weight.new_zeros(len(weight))
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, weights)  # pyright: ignore[reportReturnType]


def token_nats(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Computes -log P(target) of each prediction under softmax(hidden weight' + bias), in nats (N,).

    `hidden` (N, D) are hidden vectors, `weight` (V, D) and `bias` (V,) the output layer over V tokens, and `targets`
    (N,) the ids to predict. The backward pass computes the logits a second time, slice by slice, so the loss may be any
    function of the results, such as a function of the log-probability of a whole sequence.
    """
    return _TokenNats.apply(hidden, weight, bias, targets)  # pyright: ignore[reportReturnType]


def weighted_sum(nats: Tensor, weights: Tensor | None) -> Tensor:
    """Computes the sum of N losses (N,), multiplied by their weights (N,); None = weight 1."""
    return nats.sum() if weights is None else (nats * weights).sum()  # autocast would round a product with `@`


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, weights: Tensor | None
    ) -> Tensor:
        dtype = product_dtype(weight)
        n, vocab_size = len(hidden), len(weight)
        matrix = weight.to(dtype)  # (V, D), cast once for all slices
        total = weight.new_zeros(())
        d_hidden, d_weight, d_bias = (torch.zeros_like(tensor, dtype=weight.dtype) for tensor in (hidden, weight, bias))
        n_rows = max(128, _SLICE_ELEMENTS // vocab_size)
        for start in range(0, n, n_rows):
            rows = slice(start, start + n_rows)
            part, target = hidden[rows].to(dtype), targets[rows, None]  # (R, D), (R, 1)
            logits = (part @ matrix.t()).to(weight.dtype) + bias  # (R, V)
            probs = logits.softmax(1)
            # log sum exp(logits), from the largest probability: it cannot underflow, and this saves a pass of exp
            log_norm = logits.amax(1, keepdim=True) - probs.amax(1, keepdim=True).log()  # (R, 1)
            nats = log_norm - logits.gather(1, target)  # (R, 1)
            d_logits = probs.scatter_add_(1, target, probs.new_full(target.shape, -1))
            if weights is not None:
                nats, d_logits = nats * weights[rows, None], d_logits.mul_(weights[rows, None])
            total += nats.sum()
            d_bias += d_logits.sum(0)
            d_logits = d_logits.to(dtype)
            d_hidden[rows] = d_logits @ matrix
            d_weight += d_logits.t() @ part
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *d_total: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * d_total[0] for gradient in ctx.saved_tensors), None, None


class _TokenNats(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        ctx.dtype = product_dtype(weight)
        ctx.save_for_backward(hidden, weight, bias, targets)
        slices = _slices(hidden, weight, targets)
        return torch.cat(
            [F.cross_entropy(_logits(part, weight, bias, ctx.dtype), ids, reduction="none") for part, ids in slices]
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        d_hidden, d_weight = [], torch.zeros_like(weight)
        d_bias = None if bias is None else torch.zeros_like(bias)
        slices = _slices(hidden, weight, targets)
        for (part, ids), d_nats in zip(slices, gradients[0].split(_slice_size(weight)), strict=True):
            d_logits = _logits(part, weight, bias, ctx.dtype).softmax(1)  # (R, V)
            d_logits.scatter_add_(1, ids[:, None], d_logits.new_full((len(ids), 1), -1)).mul_(d_nats[:, None])
            if d_bias is not None:
                d_bias += d_logits.sum(0)
            d_logits = d_logits.to(ctx.dtype)
            d_hidden.append((d_logits @ weight.to(ctx.dtype)).to(hidden.dtype))
            d_weight += d_logits.t() @ part.to(ctx.dtype)
        return torch.cat(d_hidden), d_weight, d_bias, None


def _slice_size(weight: Tensor) -> int:
    return max(1, _BLOCK_ELEMENTS // len(weight))


def _slices(hidden: Tensor, weight: Tensor, targets: Tensor) -> zip[tuple[Tensor, Tensor]]:
    """Yields (hidden vectors, targets) of successive slices whose logits have at most `_BLOCK_ELEMENTS` elements."""
    size = _slice_size(weight)
    return zip(hidden.split(size), targets.split(size), strict=True)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Returns hidden weight' + bias (R, V), multiplied in `dtype` and converted to the type of `weight`."""
    bias = None if bias is None else bias.to(dtype)
    return F.linear(hidden.to(dtype), weight.to(dtype), bias).to(weight.dtype)
