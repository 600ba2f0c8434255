"""The weights that a training run keeps beside the current ones: the best so far, and a moving average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn


@final
class KeptWeights:
    """The best weights of a training run so far, and optionally an exponential moving average of the current weights.

    `ema_fraction` is the time constant of the average, as a fraction of the steps so far; 0 = no average.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], ema_fraction: float) -> None:
        self._parameters, self._ema_fraction = parameters, ema_fraction
        self._best = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._average = {name: best.clone() for name, best in self._best.items()} if ema_fraction else {}

    def update_average(self, n_steps: int) -> None:
        """Updates the moving average with the current weights, after `n_steps` training steps."""
        for name, average in self._average.items():
            average.lerp_(self._parameters[name].detach(), min(1.0, 1 / (self._ema_fraction * n_steps)))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Returns a context in which the network has its averaged weights, if a moving average is kept.

        When the context ends, the network gets its current weights back.
        """
        if not self._average:
            yield
            return
        current = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._set(self._average)
        try:
            yield
        finally:
            self._set(current)

    def keep(self) -> None:
        """Stores a copy of the current parameters of the network as the best weights so far."""
        for name, parameter in self._parameters.items():
            self._best[name].copy_(parameter.detach())

    def restore_best(self) -> None:
        """Sets the parameters of the network to the best weights so far.

        If a moving average of the weights is kept, it is set to the same values.
        """
        self._set(self._best)
        for name, average in self._average.items():
            average.copy_(self._best[name])

    def tensors(self) -> dict[str, Tensor]:
        """Returns the current, the best and the averaged weights, under names such as "best.head.bias"."""
        kinds = {"weights": self._parameters, "best": self._best, "average": self._average}
        return {
            f"{kind}.{name}": tensor.detach() for kind, tensors in kinds.items() for name, tensor in tensors.items()
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the current, the best and the averaged weights from the tensors of a checkpoint."""
        self._set({name: tensors[f"weights.{name}"] for name in self._parameters})
        self._best = {name: tensors[f"best.{name}"] for name in self._best}
        self._average = {name: tensors[f"average.{name}"] for name in self._average}

    def _set(self, weights: Mapping[str, Tensor]) -> None:
        """Copies the weights, a mapping from parameter name to tensor, into the parameters of the network."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])
