"""One token in one row, as in generation: by compiled kernels, as calls of torch cost more than the arithmetic here.

A network that has a short way of its own writes `read_one`, with the operations of this file: it mirrors `forward`, for
arrays (D,) in place of tensors (B, T, D), and may leave any token to `forward`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from lmzoo.neural.network import Memory, Network

Array = NDArray[np.float32]
Weights = Any
"""Parameters and buffers of a module as arrays, and those of the modules in it, under the names that it gives them."""
RowMemory = Sequence[NDArray[Any]]
"""The memory of one row: arrays (1, ..)."""

_PAYS_OFF = 500
"""Tokens that torch reads before kernels do: about what it takes to load them (0.4 s; to compile them once, 2 s)."""

NO_ACTIVATION: Final = 0
RELU: Final = 1
SQUARED_RELU: Final = 2
GELU: Final = 3
"""In its tanh form."""
TANH: Final = 4


@final
class SingleReader:
    """What a network does in evaluation, for one token in one row; None = it has no short way, or none yet."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._n_read = 0
        self._tensors: list[Tensor] = []
        self._places: list[int] | None = None
        self._weights: Weights | None = None

    def read(self, token_id: int, memory: Memory) -> tuple[Tensor, Memory] | None:
        """The hidden vector (D,) that `forward` makes, and the memory after it."""
        self._n_read += 1
        if self._n_read <= _PAYS_OFF or self._network.training:
            return None
        weights = self._current_weights()
        found = weights and self._network.read_one(weights, token_id, [part.numpy() for part in memory])
        if not found:
            return None
        hidden, after = found
        return torch.from_numpy(hidden), tuple(map(torch.from_numpy, after))

    def logits(self, hidden: Tensor) -> Array | None:
        """(V,) logits from a hidden vector (D,): without kernels, so that a state predicts the same at all times."""
        weights = self._current_weights()
        return weights and self._network.logits_one(weights, hidden.numpy())

    def _current_weights(self) -> Weights | None:
        """Arrays that share the memory of the network's tensors, wherever these are by now.

        So they see what is changed in place, as by an optimiser; None on other devices, and in other types.
        """
        if self._places != [tensor.data_ptr() for tensor in self._tensors]:
            self._tensors = [*self._network.parameters(), *self._network.buffers()]
            self._places = [tensor.data_ptr() for tensor in self._tensors]
            usual = all(
                tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous()
                for tensor in self._tensors
            )
            self._weights = _weights(self._network) if usual else None
        return self._weights


def _weights(module: nn.Module) -> Weights:
    if isinstance(module, nn.ModuleList):
        return [_weights(child) for child in module]
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    found = SimpleNamespace(**{name: tensor.detach().numpy() for name, tensor in tensors})
    for name, child in module.named_children():
        setattr(found, name, _weights(child))
    if isinstance(module, nn.Linear) and module.bias is None:
        found.bias = np.empty(0, np.float32)
    return found


@cache
def _kernels() -> Any:
    from lmzoo.neural import kernels

    return kernels


# ---- Operations -------------------------------------------------------------------------------------


def affine(x: Array, layer: Weights, activation: int = NO_ACTIVATION) -> Array:
    """activation(W x + b), where W and b are those of an `nn.Linear`."""
    y = np.empty(len(layer.weight), np.float32)
    _kernels().affine(x, layer.weight, layer.bias, activation, y)
    return y


def layer_norm(x: Array, layer: Weights) -> Array:
    y = np.empty_like(x)
    _kernels().layer_norm(x, layer.weight, layer.bias, y)
    return y


def rms_norm(x: Array) -> Array:
    """Over the last axis of x (.., D), without gain."""
    y = np.empty_like(x)
    _kernels().rms_norm(x.ravel(), x.shape[-1], y.ravel())
    return y


def rotated(x: Array, cos: Array, sin: Array) -> Array:
    """x (R, d) with each pair (x_i, x_{i + d/2}) turned by the angle with cos and sin (d / 2,)."""
    y = np.empty_like(x)
    _kernels().rotate(x, cos, sin, y)
    return y


def attend(qkv: Array, cached: Array, n_seen: int, size: int) -> tuple[Array, Array]:
    """q, k and v (3 H d,) of a token and a cache (1, 2, H, M, d) -> what its heads gather (H d,), and the next cache.

    It sees the last `n_seen` keys of the cache, and its own. The next cache has the last `size` of all.
    """
    _, _, n_heads, _, d = cached.shape
    y, after = np.empty(n_heads * d, np.float32), np.empty((1, 2, n_heads, size, d), np.float32)
    _kernels().attend(qkv, np.ascontiguousarray(cached), n_seen, y, after)
    return y, after


def shifted(recent: NDArray[Any], newest: object) -> NDArray[Any]:
    """recent (1, N) without its oldest entry and with a new one."""
    after = np.empty_like(recent)
    after[:, :-1] = recent[:, 1:]
    after[:, -1:] = newest
    return after
