"""How much memory a training run takes, told before it begins.

Weights are counted without making them. What a chunk takes is measured on much smaller ones. The forward pass leaves
something for the backward pass that is a polynomial, linear in the rows and at most quadratic in the columns, as in
attention; the backward pass adds its share. What comes and goes within the forward pass does not grow with the chunk.
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
from lmzoo.neural.devices import autocast, borrowed_generators
from lmzoo.neural.losses import next_token_loss
from lmzoo.neural.network import Network
from lmzoo.neural.settings import TrainConfig
from lmzoo.system.placement import this_process

_BYTES_PER_ID = 32
"""What arranging the train split in rows takes, mostly for positions of 8 bytes that are repeated, turned and cut."""
_FRAGMENTS = 1.25
"""What is taken from the system for each byte of tensors, as pieces that are given back are not all used again.

On a processor 1.1 to 2 were measured, beside some 50 MB for code and buffers of the kernels.
"""
_WIDTHS = (8, 16, 24)
"""Columns of the small chunks."""


class Footprint(NamedTuple):
    """Bytes of each part of a training run, in one process."""

    weights: int
    """With their gradients, best and averaged copies, and the two numbers for each that AdamW keeps."""
    chunk: int = 0
    """What its forward pass leaves and its backward pass adds."""
    text: int = 0
    """On the processor, wherever the network is."""


def weight_bytes(make_network: Callable[[], Network], config: TrainConfig, n_processes: int) -> int:
    """Bytes for the weights of a network, which is made with sizes alone, and all that goes with them."""
    with torch.device("meta"):
        size = sum(parameter.numel() * parameter.element_size() for parameter in make_network().parameters())
    averages = 2 if config.averaging else 0  # the average, and the last weights while it is evaluated
    flat_gradient = 1 if n_processes > 1 else 0
    return size * (5 + averages + flat_gradient)


def chunk_bytes(network: Network, config: TrainConfig, n_rows: int, width: int) -> int:
    """Bytes that learning from `n_rows` x `width` ids takes beyond the weights and their gradients."""
    with borrowed_generators(network.device):
        *narrower, two = (_held(network, config, 2, columns) for columns in _WIDTHS)
        three = _held(network, config, 3, _WIDTHS[-1])  # not one: its operations may be others
    of_row = three[0] - two[0]
    fixed = two[0] - 2 * of_row
    rows = [(held[0] - fixed) / 2 for held in (*narrower, two)]
    added = max((more - less) / of_row for more, less in zip(three, two, strict=False))  # by the backward pass
    return int(
        fixed + _FRAGMENTS * n_rows * added * max(rows[0], np.polynomial.Polynomial.fit(_WIDTHS, rows, 2)(width))
    )


def check_memory(needed: Footprint, config: TrainConfig, device: torch.device, sizes: Collection[str]) -> None:
    """TrainingError if more is needed than is free; it names what to lower, among it the `sizes` of the network."""
    # Each process checks before any of them begins, and those on one machine share its memory.
    free, n_sharing = psutil.virtual_memory().available, this_process().n_local
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        needed, n_sharing = needed._replace(text=0), 1
    if sum(needed) * n_sharing <= free:
        return
    parts = [f"{_gigabytes(needed.weights)} for the weights and what training keeps of each"]
    if needed.chunk:
        parts.append(f"{_gigabytes(needed.chunk)} for a chunk of {config.batch_size} x {config.chunk_size} tokens")
    if needed.text:
        parts.append(f"{_gigabytes(needed.text)} for the text")
    each = f" in each of {n_sharing} processes" if n_sharing > 1 else ""
    raise TrainingError(
        f"training would take about {_gigabytes(sum(needed))} of memory{each} ({', '.join(parts)}), and "
        f"{_gigabytes(free)} are free: try a smaller {' or '.join([*sizes, 'batch_size', 'chunk_size'])}"
    )


def text_bytes(n_ids: int) -> int:
    return _BYTES_PER_ID * n_ids


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.3g} GB" if size < 1e12 else f"{size / 1e9:,.0f} GB"


def _held(network: Network, config: TrainConfig, n_rows: int, width: int) -> list[int]:
    """Bytes that are held after the forward pass, and then after each operation of the backward pass."""
    ids = torch.ones((n_rows, width), dtype=torch.int64, device=network.device)
    network.train()
    with _Live(network.parameters()) as live:
        with autocast(config.bf16, network.device):
            loss, _ = next_token_loss(network, ids, ids, network.initial_memory(n_rows))
        live.sizes[:] = [live.now]
        loss.backward()
    network.zero_grad()
    network.eval()
    return live.sizes


class _Live(TorchDispatchMode):
    """Counts, after each of torch's operations, the bytes of what they made that nothing has let go of."""

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = 0
        self.sizes: list[int] = []
        self._counted = weakref.WeakSet(tensor.untyped_storage() for tensor in there)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self._count(tensor.untyped_storage())
        self.sizes.append(self.now)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._counted:  # the tensor is a view, or changed in place
            return
        self._counted.add(storage)
        self.now += storage.nbytes()
        weakref.finalize(storage, self._let_go, storage.nbytes())

    def _let_go(self, n_bytes: int) -> None:
        self.now -= n_bytes
