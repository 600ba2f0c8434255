"""Comparison of a saved network's settings with its arrays, before memory for the network is allocated.

Settings are a few bytes of a file, and may declare a network of any size; the arrays are as large as the file itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from lmzoo.arrays import Arrays, take_array
from lmzoo.errors import SavedModelError
from lmzoo.neural.network import Network
from lmzoo.system.messages import first_line

_STATE_BYTES = 256_000_000
_STATE_RATIO = 16
"""The state of one text may take at most 256 MB plus 16 times the memory of the arrays. This is far more than usual,
because some settings, such as the window of attention, change the size of the state and not that of any array."""
_DRAWS = (Tensor.normal_, Tensor.uniform_)
_REGISTRATIONS = 4
"""Number of registrations allowed for each array: PyTorch registers tied and replaced parameters more than once."""


def check_sizes(make_network: Callable[[], Network], arrays: Arrays) -> None:
    """Raises SavedModelError unless the arrays of a saved network have the shapes that its settings imply.

    `make_network` creates the network from its settings. It is called on the meta device, which allocates no memory.
    """
    try:
        with torch.device("meta"), ShapesOnly(), _at_most_parameters(_REGISTRATIONS * (len(arrays) + 4)):
            network = make_network()
            parts = [*network.buffers(), *network.initial_state(1)]
    except (RuntimeError, OverflowError, TypeError, MemoryError) as error:  # sizes beyond 64 bits
        raise SavedModelError(f"the settings of the saved network are damaged: {first_line(error)}") from error
    for name, parameter in network.named_parameters():
        take_array(arrays, name, shape=tuple(parameter.shape), dtype=np.float32)
    needed = sum(part.numel() * part.element_size() for part in parts)
    allowed = _STATE_BYTES + _STATE_RATIO * sum(array.nbytes for array in arrays.values())
    if needed > allowed:
        raise SavedModelError(
            f"the settings of the saved network are damaged: the state of one text would take {needed / 1e9:,.1f} GB, "
            f"but at most {allowed / 1e9:,.1f} GB fit a network with these arrays"
        )


class NoInitialWeights(TorchFunctionMode):
    """A `with` block in which new networks do not initialise their weights, because these will be read from a file."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DRAWS or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


class ShapesOnly(NoInitialWeights):
    """A `with` block in which a network on the meta device, which has no numbers, does not compute with them.

    Initial weights are not drawn, and a softmax returns its input, which has the same shape. For these operations on
    the meta device, PyTorch would import its compiler, which takes longer than to load a small network.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.softmax:
            return args[0]
        return super().__torch_function__(torch.empty if func is torch.randn else func, types, args, kwargs)


@contextmanager
def _at_most_parameters(limit: int) -> Iterator[None]:
    """Raises SavedModelError when a network in the `with` block registers more than `limit` parameters."""
    count = 0

    def on_parameter(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal count
        count += isinstance(parameter, Tensor)
        if count > limit:
            raise SavedModelError("the settings of the saved network are damaged: it has more layers than its arrays")

    hook = register_module_parameter_registration_hook(on_parameter)
    try:
        yield
    finally:
        hook.remove()
