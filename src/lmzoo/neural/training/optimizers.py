"""The optimizers of a training run: AdamW, and Muon for hidden matrices if the settings ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

import torch
from torch import Tensor, nn

from lmzoo.neural.devices import has_bfloat16
from lmzoo.neural.network import Network
from lmzoo.neural.training.adamw import AdamW
from lmzoo.neural.training.muon import Muon
from lmzoo.neural.training.settings import TrainConfig


@final
class Optimizers:
    """One or two optimizers that update all parameters of a network with one learning rate.

    Muon updates the hidden matrices if `config.optimizer` is "muon"; AdamW updates all other parameters.
    """

    def __init__(self, network: Network, config: TrainConfig) -> None:
        groups = network.parameter_groups()
        use_muon = config.optimizer == "muon" and bool(groups.hidden_matrices)
        matrices = groups.other_matrices if use_muon else [*groups.hidden_matrices, *groups.other_matrices]
        decayed, others = (matrices, config.weight_decay), (groups.vectors, 0.0)
        self._optimizers: list[AdamW | Muon] = [AdamW([decayed, others])]
        if use_muon:
            self._optimizers.append(
                Muon(
                    groups.hidden_matrices,
                    weight_decay=config.weight_decay,
                    dtype=torch.bfloat16 if has_bfloat16(network.device) else torch.float32,
                )
            )

    def step(self, learning_rate: float) -> None:
        """Updates all parameters from their gradients, with the given learning rate."""
        for optimizer in self._optimizers:
            optimizer.step(learning_rate)

    def states(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
        """Yields the states of the optimizers for a checkpoint, as pairs ("parameter name.state name", tensor)."""
        for name, parameter in parameters.items():
            for key, value in self._optimizer_of(parameter).state.get(parameter, {}).items():
                yield f"{name}.{key}", value

    def load_states(self, parameters: Mapping[str, nn.Parameter], states: Mapping[str, Tensor]) -> None:
        """Restores the states of the optimizers from a checkpoint; a parameter without an entry has no state yet."""
        for name, parameter in parameters.items():
            prefix = f"{name}."
            state = {key.removeprefix(prefix): value for key, value in states.items() if key.startswith(prefix)}
            if state:
                self._optimizer_of(parameter).state[parameter] = state

    def _optimizer_of(self, parameter: Tensor) -> AdamW | Muon:
        return next(
            optimizer for optimizer in self._optimizers if any(one is parameter for one in optimizer.parameters)
        )
