"""The interface between the training loop and what it minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor

from lmzoo.neural.network import Network, State


class Step(NamedTuple):
    """The loss of one training step, as a weighted sum of losses and the sum of the weights.

    The loss is the first divided by the second. They are kept apart so that several processes can average their losses
    exactly, even if their batches have different total weights.
    """

    total: Tensor
    """Weighted sum of the losses of all predictions, a scalar with gradient."""
    weight: Tensor | float
    """Sum of the weights of all predictions."""
    state: State = ()
    """State of the network after the batch, from which the next batch continues."""
    measures: Mapping[str, float] = MappingProxyType({})
    """Numbers to report besides the loss, by name."""


Objective = Callable[[Network, Any, State], Step]
"""A function (network, batch, state after the previous batch) -> the loss of the batch.

The state is empty, (), before the first batch, and after the training loop has gone back to earlier weights.
"""
