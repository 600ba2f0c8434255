"""What training makes small."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lmzoo.neural.network import Memory, Network

_SLICE_ELEMENTS = 1 << 19
"""Logits that are held at a time: 2 MB, about what stays in a processor's cache; but at least 128 rows of them."""


def next_token_loss(network: Network, inputs: Tensor, targets: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    """Mean of -log P(target) in nats over a chunk (B, T), and the memory after it."""
    hidden, memory = network(inputs, memory)  # (B, T, D)
    return network.loss(hidden.flatten(0, 1), targets.flatten()), memory


class SampledLoss:
    """`next_token_loss` with a part of the vocabulary in place of all of it, which costs a part of the time.

    The sum of the softmax is over the targets of the chunk, and over `n_samples` others that stand for the rest: drawn
    by their `frequencies` q (V,) to the power 3/4, and counted with weight 1 / (n q), so that the sum is right on
    average (Bengio & Senecal 2003; Jean et al. 2015). It is for training alone: predictions sum over all tokens.
    """

    def __init__(self, frequencies: Tensor, n_samples: int) -> None:
        self._n_samples = n_samples
        weights = frequencies**0.75
        self._proposal = weights / weights.sum()

    def __call__(self, network: Network, inputs: Tensor, targets: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        hidden, memory = network(inputs, memory)  # (B, T, D)
        wanted, place = targets.flatten().unique(return_inverse=True)  # (U,), (N,)
        drawn = torch.multinomial(self._proposal, self._n_samples, replacement=True)  # (S,)
        log_weights = -(self._n_samples * self._proposal[drawn]).log()
        log_weights[torch.isin(drawn, wanted)] = -math.inf  # it is in the sum already
        ids = torch.cat([wanted, drawn])
        offsets = torch.cat([log_weights.new_zeros(len(wanted)), log_weights])  # (U + S,)
        head = network.head
        bias = offsets if head.bias is None else head.bias[ids] + offsets
        return linear_cross_entropy(hidden.flatten(0, 1), head.weight[ids], bias, place), memory


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Mean cross-entropy of softmax(hidden W' + b) in nats, without ever holding all N x V logits.

    hidden (N, D), weight (V, D), bias (V,) or None, targets (N,). For N = 2,048 and V = 16,000 the logits, their
    softmax and its gradient would be 400 MB, and moving them costs more than the arithmetic. Here each slice of rows is
    turned into its gradient while it is at hand: d loss / d logits = (softmax - onehot) / N.
    """
    if bias is None:
        bias = weight.new_zeros(len(weight))
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets)  # pyright: ignore[reportReturnType]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        n, vocab_size = len(hidden), len(weight)
        matrix = weight.to(dtype)  # (V, D), cast once for all slices
        total = weight.new_zeros(())
        d_hidden, d_weight, d_bias = (torch.zeros_like(tensor, dtype=weight.dtype) for tensor in (hidden, weight, bias))
        rows = max(128, _SLICE_ELEMENTS // vocab_size)
        for start in range(0, n, rows):
            part, wanted = hidden[start : start + rows].to(dtype), targets[start : start + rows, None]
            logits = (part @ matrix.t()).to(weight.dtype) + bias  # (R, V)
            probs = logits.softmax(1)
            # log sum exp(logits), by way of the largest probability: it cannot underflow, and this saves a pass of exp
            log_norm = logits.amax(1, keepdim=True) - probs.amax(1, keepdim=True).log()  # (R, 1)
            total += (log_norm - logits.gather(1, wanted)).sum()
            d_logits = probs.scatter_add_(1, wanted, probs.new_full(wanted.shape, -1))
            d_bias += d_logits.sum(0)
            d_logits = d_logits.to(dtype)
            d_hidden[start : start + rows] = d_logits @ matrix
            d_weight += d_logits.t() @ part
        ctx.n = n
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return total / n

    @staticmethod
    def backward(ctx: Any, *d_loss: Tensor) -> tuple[Tensor | None, ...]:
        scale = d_loss[0] / ctx.n
        return *(gradient * scale for gradient in ctx.saved_tensors), None
