"""Where a fit computes: on which device, and as which of several processes. It decides nothing of the model itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple

from lmzoo.checks import check_choice

Device = Literal["auto", "cpu", "cuda", "mps"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda", "mps")

_device: ContextVar[Device] = ContextVar("device", default="cpu")


@contextmanager
def on_device(device: Device) -> Iterator[None]:
    """Networks that are made in this context compute there for good; auto = cuda, else mps, else cpu.

    A context, so that it reaches the members of a mixture, and so that species which count need not know of it.
    """
    check_choice(DEVICES, device=device)
    token = _device.set(device)
    try:
        yield
    finally:
        _device.reset(token)


def chosen_device() -> Device:
    """That of the context; cpu outside of all."""
    return _device.get()


class Process(NamedTuple):
    """One of the processes that train a network together."""

    rank: int = 0
    n_processes: int = 1
    local_rank: int = 0
    """Among those on this machine."""
    n_local: int = 1


def this_process() -> Process:
    """As torchrun says in the environment; alone if it was not started so."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return Process()
    return Process(*(int(os.environ.get(name, default)) for name, default in zip(names, Process(), strict=True)))
