"""The interface between the training loop and what it minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor

from lmzoo.neural.network import Network, State


class Step(NamedTuple):
    """The loss of one training step, as a weighted sum and the total weight by which to divide it.

    Sums can be averaged exactly over several processes, even if their batches have different total weights.
    """

    total: Tensor
    """Weighted sum of the losses of all predictions, a scalar with gradient."""
    weight: Tensor | float
    """Sum of the weights of all predictions."""
    state: State = ()
    """State of the network after the batch, from which the next batch continues."""
    figures: Mapping[str, float] = MappingProxyType({})
    """Further numbers to report, by name."""


Objective = Callable[[Network, Any, State], Step]
"""(network, batch, state after the previous batch) -> the loss of the batch.

The state is empty, (), before the first batch and after training was set back to earlier weights.
"""
