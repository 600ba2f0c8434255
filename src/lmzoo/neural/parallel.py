"""Several processes that train one network, started by torchrun: each has all weights, and reads a share of the rows.

Their gradients become the mean of all after `backward`, in one exchange of a flat buffer. torch's
DistributedDataParallel would exchange parts of it while `backward` still computes the rest, but its hooks ask that the
whole loss be the forward pass of one module that uses each weight there. Here a loss is any function that calls the
network, and the output weights, tied to the input's, are used outside of `forward`. All processes get the same bits
from an exchange, and so go through the same steps.
"""

from __future__ import annotations

import atexit
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist

from lmzoo.errors import ConfigurationError, TrainingError
from lmzoo.system.placement import this_process

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Team:
    """This process among `size` that train together. Every method is called by all of them, in the same order."""

    rank: int = 0
    size: int = 1

    def share(self, batch_size: int) -> slice:
        """The rows of a batch that this process reads."""
        if batch_size % self.size:
            raise ConfigurationError(
                f"batch_size must be a multiple of the number of processes, {self.size}, among which its rows are "
                f"shared out; got {batch_size}"
            )
        n_rows = batch_size // self.size
        return slice(self.rank * n_rows, (self.rank + 1) * n_rows)

    def average(self, loss: Tensor, parameters: Iterable[Tensor]) -> float:
        """Makes the gradients the mean of those of all; returns that of the losses."""
        if self.size == 1:
            return loss.item()
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([loss.detach().reshape(1), *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(flat)
        flat /= self.size
        nats, *parts = flat.split([1, *(gradient.numel() for gradient in gradients)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return nats.item()

    def sum(self, value: float) -> float:
        """The sum of the values of all."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device="cpu")
        dist.all_reduce(total)
        return total.item()

    def from_first(self, value: T) -> T:
        """The value that the first process has."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """In the first process, the rows of all, one after the other; elsewhere its own."""
        if self.size == 1:
            return rows
        parts: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(rows, parts)
        return np.concatenate(parts) if parts else rows

    def check_same(self, fingerprint: str) -> None:
        """TrainingError unless all are about to train the same network on the same data."""
        if fingerprint != self.from_first(fingerprint):
            raise TrainingError(
                f"process {self.rank} has other data or settings than process 0: start all with the same command"
            )


def join(device: torch.device) -> Team:
    """The team of the processes that torchrun started together; of this one alone without it."""
    if this_process().n_processes == 1:
        return Team()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # Defaults of this module's functions keep the group that exists when it is first imported, as torch does while
        # it trains. Threads of a group that is never destroyed may abort the process at its end.
        importlib.import_module("torch.distributed.nn")
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return Team(dist.get_rank(), dist.get_world_size())
