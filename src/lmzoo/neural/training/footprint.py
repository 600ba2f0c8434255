"""The memory that a training run needs, estimated before the run starts.

The weights are counted without allocating them. The memory of a training step is measured on much smaller chunks and
extrapolated: what the forward pass saves for the backward pass is linear in the number of sequences and at most
quadratic in the number of columns, as in attention. Memory that is allocated and freed within the forward pass hardly
grows with the chunk and is left out.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lmzoo.errors import TrainingError
from lmzoo.neural.devices import autocast, preserved_rng_state
from lmzoo.neural.network import Network
from lmzoo.neural.objectives.next_token import Chunk
from lmzoo.neural.objectives.objective import Objective
from lmzoo.neural.saved_sizes import ShapesOnly
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.system.placement import this_process

_BYTES_PER_ID = 32
"""Memory for each id of the training text while it is arranged in sequences, mostly for positions of 8 bytes."""
_FRAGMENTS = 1.25
"""Bytes taken from the system for each byte of tensors, because freed memory is not always used again.

On CPUs 1.1 to 2 were measured, in addition to about 50 MB for code and buffers.
"""
_WIDTHS = (8, 16, 24)
"""Numbers of columns of the chunks on which memory is measured."""


class Footprint(NamedTuple):
    """The memory of each part of a training run, in bytes, in one process."""

    weights: int
    """The weights with their gradients, their best and averaged copies, and the two moments of AdamW."""
    chunk: int = 0
    """What the forward pass of a chunk saves and its backward pass allocates."""
    text: int = 0
    """The arranged training text, always in main memory."""


def weight_bytes(make_network: Callable[[], Network], config: TrainConfig, n_processes: int) -> int:
    """Returns the memory in bytes of the weights of a network and of everything that training keeps for each weight.

    The network is created on the meta device, which allocates no memory. If the size of one of its arrays needs more
    than 64 bits, the result is a lower bound, which no memory can hold.
    """
    try:
        with torch.device("meta"), ShapesOnly():
            size = sum(parameter.numel() * parameter.element_size() for parameter in make_network().parameters())
    except (RuntimeError, OverflowError, TypeError) as error:
        if "overflow" not in str(error).lower():
            raise
        size = 2**63
    averages = 2 if config.ema_fraction else 0  # the average, and the current weights while it is evaluated
    flat_gradient = 1 if n_processes > 1 else 0
    return size * (5 + averages + flat_gradient)


def chunk_bytes(network: Network, objective: Objective, config: TrainConfig, n_rows: int, width: int) -> int:
    """Estimates the memory in bytes that one training step needs, beyond the weights and their gradients.

    The step minimises `objective` on a chunk of `n_rows` sequences of `width` ids.
    """
    with preserved_rng_state(network.device):
        *narrower, two = (allocated_bytes(network, objective, config, 2, columns) for columns in _WIDTHS)
        three = allocated_bytes(network, objective, config, 3, _WIDTHS[-1])  # one row may run other operations
    of_row = three[0] - two[0]
    fixed = two[0] - 2 * of_row
    rows = [(sizes[0] - fixed) / 2 for sizes in (*narrower, two)]
    growth = max((more - less) / of_row for more, less in zip(three, two, strict=False))  # in the backward pass
    of_width = np.polynomial.Polynomial.fit(_WIDTHS, rows, 2)(width)
    return int(fixed + _FRAGMENTS * n_rows * growth * max(rows[0], of_width))


def check_memory(needed: Footprint, config: TrainConfig, device: torch.device, sizes: Collection[str]) -> None:
    """Raises TrainingError if training needs more memory than is free.

    The message names the settings to lower, among them `sizes`, the settings for the size of the network.
    """
    # All processes check before any of them starts, and those on one machine share its memory.
    free, n_sharing = psutil.virtual_memory().available, this_process().n_local
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        needed, n_sharing = needed._replace(text=0), 1
    if sum(needed) * n_sharing <= free:
        return
    parts = [f"{_gigabytes(needed.weights)} for the weights and what training keeps for each weight"]
    if needed.chunk:
        parts.append(f"{_gigabytes(needed.chunk)} for a chunk of {config.batch_size} x {config.chunk_size} tokens")
    if needed.text:
        parts.append(f"{_gigabytes(needed.text)} for the text")
    several = f" in each of {n_sharing} processes" if n_sharing > 1 else ""
    raise TrainingError(
        f"training needs about {_gigabytes(sum(needed))} of memory{several} ({', '.join(parts)}), but only "
        f"{_gigabytes(free)} are free: try a smaller {' or '.join([*sizes, 'batch_size', 'chunk_size'])}"
    )


def text_bytes(n_ids: int) -> int:
    """Returns the memory in bytes of a training text of `n_ids` ids, with the input and target ids of an epoch."""
    return _BYTES_PER_ID * n_ids


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.3g} GB" if size < 1e12 else f"{size / 1e9:,.0f} GB"


def allocated_bytes(network: Network, objective: Objective, config: TrainConfig, n_rows: int, width: int) -> list[int]:
    """Measures the memory in bytes that one training step holds: after the forward pass, then during the backward pass.

    The step minimises `objective` on a chunk of `n_rows` sequences of `width` ids. The list has one entry for the end
    of the forward pass and one for each operation of the backward pass. The weights are not changed.
    """
    ids = 1 + torch.arange(n_rows * width, device=network.device).view(n_rows, width) % (network.vocab_size - 1)
    network.train()
    with _AllocationCounter(network.parameters()) as counter:
        with autocast(config.bf16, network.device):
            step = objective(network, Chunk(ids, ids, positions=torch.zeros_like(ids)), ())
        counter.sizes[:] = [counter.allocated]
        step.total.backward()
    network.zero_grad()
    network.eval()
    return counter.sizes


class _AllocationCounter(TorchDispatchMode):
    """Counts the bytes of all live tensors created in the context, after each torch operation."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch would import its compiler to exclude this class from compilation

    def __init__(self, existing: Iterable[Tensor]) -> None:
        super().__init__()
        self.allocated = 0
        self.sizes: list[int] = []
        self._counted = weakref.WeakSet(tensor.untyped_storage() for tensor in existing)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self._count(tensor.untyped_storage())
        self.sizes.append(self.allocated)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._counted:  # the tensor is a view, or was modified in place
            return
        self._counted.add(storage)
        self.allocated += storage.nbytes()
        weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, n_bytes: int) -> None:
        self.allocated -= n_bytes
