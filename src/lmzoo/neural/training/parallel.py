"""Several processes that train one network: each holds all weights and reads a part of every batch.

torchrun starts the processes. After the backward pass their gradients are averaged in one exchange of a flat buffer.
torch's DistributedDataParallel would overlap this exchange with the backward pass, but it requires that the whole loss
is the forward pass of one module that uses each weight there. In lmzoo an objective is any function that calls the
network, and the output weights, which may be tied to the embedding, are used outside of `forward`. All processes
receive the same bits from an exchange, so their weights stay equal.
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
class ProcessGroup:
    """The `size` processes that train one network; `rank` is the number of this process.

    Every process must call each method, in the same order.
    """

    rank: int = 0
    size: int = 1

    def rows_of(self, batch_size: int) -> slice:
        """Returns the slice of the `batch_size` sequences of a batch that this process reads.

        Raises ConfigurationError if the batch cannot be divided evenly among the processes.
        """
        if batch_size % self.size:
            raise ConfigurationError(
                f"batch_size must be a multiple of the number of processes, {self.size}, among which its sequences are "
                f"divided; got {batch_size}"
            )
        n_rows = batch_size // self.size
        return slice(self.rank * n_rows, (self.rank + 1) * n_rows)

    def backward(self, total: Tensor, weight: float, parameters: Iterable[Tensor]) -> float:
        """Computes the gradient of the weighted mean loss over all processes, and returns this mean.

        `total` is the weighted sum of the losses in this process, and `weight` the sum of the weights in all processes.
        The gradient of sum(total) / weight is left in `parameters`, which must all depend on `total`. If `weight` is 0,
        the mean and its gradient are 0.
        """
        mean = total / (weight or 1.0)  # the part of this process
        mean.backward()
        if self.size == 1:
            return mean.item()
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([mean.detach().reshape(1), *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(flat)
        nats, *parts = flat.split([1, *(gradient.numel() for gradient in gradients)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return nats.item()

    def sum(self, value: float) -> float:
        """Returns the sum of `value` over all processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device="cpu")
        dist.all_reduce(total)
        return total.item()

    def from_first(self, value: T) -> T:
        """Returns, in every process, the value that was passed in the first one."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Concatenates the arrays `rows` of all processes in the first process, and returns the result there.

        In all other processes, returns `rows` unchanged.
        """
        if self.size == 1:
            return rows
        parts: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(rows, parts)
        return np.concatenate(parts) if parts else rows

    def check_same(self, fingerprint: str) -> None:
        """Raises TrainingError if the processes are about to train different networks or on different data."""
        if fingerprint != self.from_first(fingerprint):
            raise TrainingError(
                f"process {self.rank} has other data or settings than process 0: start all processes with one command"
            )


def join_processes(device: torch.device) -> ProcessGroup:
    """Returns the group of all processes that torchrun started; without torchrun, a group of this process alone."""
    if this_process().n_processes == 1:
        return ProcessGroup()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # Otherwise torch would import this module during training, and default arguments in it would keep the process
        # group alive.
        importlib.import_module("torch.distributed.nn")
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)  # otherwise its threads may abort the process when it ends
    return ProcessGroup(dist.get_rank(), dist.get_world_size())
