"""Where a fit runs: the devices that a network may use, and this process among those that train it together."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

Device = Literal["auto", "cpu", "cuda", "mps"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "mps")
"""The names of devices; "auto" is cuda if the machine has it, else mps, else cpu."""

BFLOAT16_VARIABLE = "LMZOO_BFLOAT16"
"""Environment variable that says if devices have instructions for bfloat16 (1) or not (0), instead of a look at them.
The jobs of a cluster read it, so that networks are trained in the same way on all of its nodes."""


class Process(NamedTuple):
    """The rank of this process among all processes that train the same network, and the number of these processes."""

    rank: int = 0
    """Number of this process, from 0."""
    n_processes: int = 1
    local_rank: int = 0
    """Number of this process among those on this machine."""
    n_local: int = 1
    """Number of processes on this machine."""


def this_process() -> Process:
    """Returns the rank of this process among all processes that train the same network, and their number.

    Rank and number are read from the environment variables that the launcher torchrun sets. Without torchrun, the
    process has rank 0 and is the only one.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return Process()
    return Process(*(int(os.environ.get(name, default)) for name, default in zip(names, Process(), strict=True)))
