"""The optimizer AdamW: Adam, with a weight decay that is separate from the gradient (Loshchilov & Hutter 2019).

This computes the same as `torch.optim.AdamW`, bit for bit, but is not a subclass of `torch.optim.Optimizer`: at the
first step of such an optimizer, torch imports its compiler, which takes longer than many steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor
from torch.optim.adamw import adamw

_DECAYS = (0.9, 0.999)
"""Decay rates, per step, of the moving averages of the gradients and of their squares."""
_EPSILON = 1e-8
"""Added to the square root of the average of the squared gradients, so that no divisor is 0."""


@final
class AdamW:
    """Updates parameters by moving averages of their gradients, divided by the square roots of those of their squares.

    `groups` are pairs: some parameters, and their weight decay.
    """

    def __init__(self, groups: Iterable[tuple[Iterable[Tensor], float]]) -> None:
        self._groups = [(list(parameters), weight_decay) for parameters, weight_decay in groups]
        self.parameters = [parameter for parameters, _ in self._groups for parameter in parameters]
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        """The number of steps of each parameter, and the moving averages of its gradient and its squared gradient."""

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Updates all parameters that have a gradient."""
        for parameters, weight_decay in self._groups:
            updated = [parameter for parameter in parameters if parameter.grad is not None]
            states = [self._state_of(parameter) for parameter in updated]
            adamw(
                updated,
                [parameter.grad for parameter in updated if parameter.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=_DECAYS[0],
                beta2=_DECAYS[1],
                lr=learning_rate,
                weight_decay=weight_decay,
                eps=_EPSILON,
                maximize=False,
            )

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]
