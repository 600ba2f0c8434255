"""The objective of language modelling: the cross-entropy of the next token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lmzoo.neural.network import Network, State
from lmzoo.neural.objectives.objective import Step


class Chunk(NamedTuple):
    """A batch for next-token prediction: T successive positions of B sequences of text."""

    inputs: Tensor
    """(B, T): the id before each position, which is read."""
    targets: Tensor
    """(B, T): the id at each position, which is to be predicted."""
    at_start: bool = True
    """True if the sequences start here; False if they continue those of the previous chunk."""
    resets: Tensor | None = None
    """(B,): True for sequences whose state is reset although they continue; None: no state is reset. Without effect if
    `at_start` is True."""
    weights: Tensor | None = None
    """(B, T): weight of each target in the loss; None: all are 1. A target of weight 0 is read but not learned."""
    positions: Tensor | None = None
    """(B, T): position of each target in the training text, for objectives that know more about the target than its
    id; None: the positions are not known."""


def next_token(network: Network, chunk: Chunk, state: State) -> Step:
    """Computes the weighted sum of the cross-entropies of all targets of a chunk, in nats.

    If all weights are 0, the sum is 0 and its gradient is 0.
    """
    hidden, state = read_chunk(network, chunk, state)
    if chunk.weights is None:
        return Step(network.cross_entropy(hidden, chunk.targets.flatten()), chunk.targets.numel(), state)
    hidden, targets, weights = weighted_targets(hidden, chunk.targets, chunk.weights)
    return Step(network.cross_entropy(hidden, targets, weights), weights.sum(), state)


def weighted_targets(hidden: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Selects the N positions whose weight is not 0, so that the output layer is not computed for the others.

    `hidden` (B T, D) are the hidden vectors of a chunk, `targets` (B, T) its targets and `weights` (B, T) their
    weights. Returns hidden vectors (N, D), targets (N,) and weights (N,).
    """
    kept = weights.flatten().nonzero()[:, 0]  # (N,)
    return hidden[kept], targets.flatten()[kept], weights.flatten()[kept]


def read_chunk(network: Network, chunk: Chunk, state: State) -> tuple[Tensor, State]:
    """Reads a chunk, and returns the hidden vectors of all its positions (B T, D) and the new state."""
    if chunk.at_start or not state:
        state = network.initial_state(len(chunk.inputs))
    elif chunk.resets is not None:
        initial = network.initial_state(len(chunk.inputs))
        state = tuple(_reset(part, new, chunk.resets) for part, new in zip(state, initial, strict=True))
    hidden, state = network(chunk.inputs, state)  # (B, T, D)
    return hidden.flatten(0, 1), state


def _reset(part: Tensor, initial: Tensor, resets: Tensor) -> Tensor:
    """Resets the states of some of B sequences: returns `part` (B, ..), with some rows taken from `initial` (B, ..).

    Row b is taken from `initial` if `resets[b]` is True.
    """
    return torch.where(resets.view(-1, *(1,) * (part.ndim - 1)), initial.to(part.dtype), part)
