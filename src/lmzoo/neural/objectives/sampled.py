"""Sampled softmax: next-token prediction with a part of the vocabulary, at a part of the cost."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmzoo.neural.layers.cross_entropy import token_nats
from lmzoo.neural.network import Network, State
from lmzoo.neural.objectives.next_token import Chunk, read_chunk, weighted_targets
from lmzoo.neural.objectives.objective import Step


class SampledLayer(NamedTuple):
    """The rows of an output layer that a sampled softmax needs, for U different targets and S sampled tokens."""

    weight: Tensor
    """(U + S, D): the rows of the weight matrix."""
    bias: Tensor
    """(U + S,): the biases; for sampled tokens, the logarithm of the weight of the sample is added."""
    rows: Tensor
    """(N,): the index in `weight` and `bias` of each of N targets."""
    token_ids: Tensor
    """(U + S,) the ids of the tokens to which the rows belong."""


class SampledSoftmax:
    """The next-token objective with an estimate of the softmax normalizer in place of the exact sum.

    The estimate is a sum over all targets of the chunk, and over n = `n_samples` tokens that are sampled to represent
    the rest of the vocabulary. They are sampled from the distribution q, which is proportional to the `frequencies`
    (V,) of the tokens to the power 3/4. A sampled token has the weight 1 / (n q), so the estimate is unbiased (Bengio &
    Senecal 2003; Jean et al. 2015). The estimate is used in training only; predictions use the exact sum.
    """

    def __init__(self, frequencies: Tensor, n_samples: int) -> None:
        self._n_samples = n_samples
        weights = frequencies**0.75
        self._proposal = weights / weights.sum()

    def __call__(self, network: Network, chunk: Chunk, state: State) -> Step:
        hidden, state = read_chunk(network, chunk, state)  # (N, D)
        targets, weights = chunk.targets.flatten(), None
        if chunk.weights is not None:
            hidden, targets, weights = weighted_targets(hidden, targets, chunk.weights)
        layer = self.sampled_layer(network.head, targets)
        total = network.sampled_cross_entropy(hidden, layer, weights)
        return Step(total, len(hidden) if weights is None else weights.sum(), state)

    def surprisals(self, head: nn.Linear, hidden: Tensor, targets: Tensor) -> Tensor:
        """Estimates -log P(target) in nats (N,) of each target id (N,), from hidden vectors (N, D)."""
        layer = self.sampled_layer(head, targets)
        return token_nats(hidden, layer.weight, layer.bias, layer.rows)

    def sampled_layer(self, head: nn.Linear, targets: Tensor) -> SampledLayer:
        """Samples tokens for the targets (N,), and returns the rows of the output layer for these and the targets.

        A softmax over the rows is the estimate of the softmax over all V tokens.
        """
        wanted, index = targets.unique(return_inverse=True)  # (U,), (N,)
        sampled = torch.multinomial(self._proposal, self._n_samples, replacement=True)  # (S,)
        log_weights = -(self._n_samples * self._proposal[sampled]).log()
        log_weights[torch.isin(sampled, wanted)] = -math.inf  # these are in the sum already
        ids = torch.cat([wanted, sampled])
        offsets = torch.cat([log_weights.new_zeros(len(wanted)), log_weights])  # (U + S,)
        bias = offsets if head.bias is None else head.bias[ids] + offsets
        return SampledLayer(head.weight[ids], bias, index, ids)
