"""Reading one token at a time with compiled kernels, as in generation, where calls of torch cost more than arithmetic.

A network type registers a function that mirrors its `forward` for one token of each of B sequences, on arrays (B, D) in
place of tensors (B, T, D).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from lmzoo.neural.network import Network, State
from lmzoo.neural.one_token.operations import Array, Ids, StateArrays, Weights, affine

ReadTokens = Callable[[Any, Weights, Ids, StateArrays], tuple[Array, StateArrays]]
"""(network, its weights, B token ids, state of B sequences) -> the hidden vectors (B, D) and the new state."""

AddToLogits = Callable[[Any, Weights, Array, Array], None]
"""A function that takes a network, its weights and hidden vectors (B, D), and adds to logits (B, V) in place."""

_readers: dict[type[Network], tuple[str, str | None]] = {}


def register_reader(network_type: type[Network], path: str, add_to_logits: str | None = None) -> None:
    """Registers the function "module:function" that reads single tokens for networks of this type.

    The function is a `ReadTokens`. It is imported when a network of this type is used for the first time. The logits of
    such a network must be those of its `head`, unless the function `add_to_logits`, an `AddToLogits`, adds other terms
    to them. If hidden vectors have more elements than the head reads, it reads the first ones.
    """
    _readers[network_type] = path, add_to_logits


@cache
def _resolve(path: str) -> Any:
    module, function = path.split(":")
    return getattr(import_module(module), function)


@final
class TokenReader:
    """Reads texts token by token with compiled kernels, which need less time for one token of each text than torch.

    Only networks of a type with a registered function for single tokens are read by these kernels.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        path, add_to_logits = _readers.get(type(network), (None, None))
        self._read_tokens: ReadTokens | None = _resolve(path) if path else None
        self._add_to_logits: AddToLogits | None = _resolve(add_to_logits) if add_to_logits else None
        self._n_read = 0
        self._tensors: list[Tensor] = []
        self._addresses: list[int] | None = None
        self._weights: Weights | None = None

    def read(self, token_ids: Ids, state: State, *, threshold: int) -> tuple[State, Tensor] | None:
        """Reads one token of each of B sequences with compiled kernels.

        Returns the new state of the network and the hidden vectors (B, D), or None (instead of both) if torch must read
        the tokens. Torch reads about the first `threshold` tokens, since loading the kernels takes time. Torch also
        reads all tokens of a network that is in training, has no kernels or has weights that numpy cannot share. The
        tensors of `state` are not modified.
        """
        self._n_read += len(token_ids)
        if self._read_tokens is None or (weights := self._weights_for_kernels(threshold)) is None:
            return None
        hidden, new_state = self._read_tokens(self._network, weights, token_ids, [part.numpy() for part in state])
        return tuple(map(torch.from_numpy, new_state)), torch.from_numpy(hidden)

    def logits_batch(self, hidden: Tensor, *, threshold: int) -> Array | None:
        """Returns the logits (B, V) over V tokens of B hidden vectors (B, D), computed by compiled kernels.

        Returns None if torch must compute them, for the same reasons as in `read`.
        """
        weights = self._weights_for_kernels(threshold)
        return None if weights is None else self._completed(affine(hidden.numpy(), weights.head), hidden, weights)

    def logits(self, hidden: Tensor) -> Array | None:
        """Returns the logits (V,) over V tokens of one hidden vector (D,), computed by numpy.

        Returns None if numpy cannot read the weights, so that torch must compute the logits. Unlike the compiled
        kernels, numpy is used from the first token, so that equal states always give equal predictions.
        """
        if self._read_tokens is None or (weights := self._current_weights()) is None:
            return None
        matrix, bias = weights.head.weight, weights.head.bias
        logits = matrix @ hidden.numpy()[: matrix.shape[1]]
        return self._completed((logits + bias if bias.size else logits)[None], hidden[None], weights)[0]

    def _completed(self, logits: Array, hidden: Tensor, weights: Weights) -> Array:
        """Adds all other terms to the logits (B, V) of the output layer, in place, and returns the logits.

        `hidden` (B, D) are the hidden vectors. Only networks with a registered `AddToLogits` have other terms.
        """
        if self._add_to_logits:
            self._add_to_logits(self._network, weights, hidden.numpy(), logits)
        return logits

    def _weights_for_kernels(self, threshold: int) -> Weights | None:
        """Returns the network's weights as arrays; None if torch must compute with them, for the reasons in `read`."""
        if self._n_read <= threshold or self._read_tokens is None or self._network.training:
            return None
        return self._current_weights()

    def _current_weights(self) -> Weights | None:
        """Returns the network's parameters and buffers as arrays that share their memory; None if numpy cannot.

        The arrays see every change in place, such as the step of an optimizer. They are made again when a tensor has
        moved. Numpy can share only contiguous float32 tensors on the CPU.
        """
        if self._addresses != [tensor.data_ptr() for tensor in self._tensors]:
            tensors = [*self._network.parameters(), *self._network.buffers()]
            shareable = all(
                tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous()
                for tensor in tensors
            )
            self._weights, self._tensors = _as_arrays(self._network) if shareable else None, tensors
            # Set last: as soon as another thread sees these addresses, it uses the arrays.
            self._addresses = [tensor.data_ptr() for tensor in tensors]
        return self._weights


def _as_arrays(module: nn.Module) -> Weights:
    """Returns the parameters and buffers of a module and its submodules as arrays that share their memory."""
    if isinstance(module, nn.ModuleList):
        return [_as_arrays(child) for child in module]
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    arrays = SimpleNamespace(**{name: tensor.detach().numpy() for name, tensor in tensors})
    for name, child in module.named_children():
        setattr(arrays, name, _as_arrays(child))
    if isinstance(module, nn.Linear) and module.bias is None:
        arrays.bias = np.empty(0, np.float32)
    return arrays
