"""Processors and graphics cards: which of them there are, and what they are good at."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from lmzoo.errors import ConfigurationError
from lmzoo.system.placement import Device, this_process

CPU = torch.device("cpu")


def find_device(name: Device) -> torch.device:
    """The device of this process; ConfigurationError if there is none of this name."""
    process = this_process()
    found: list[Device] = ["cpu"]
    if torch.backends.mps.is_available() and process.n_processes == 1:  # processes could not exchange gradients there
        found.insert(0, "mps")
    if torch.cuda.is_available():
        found.insert(0, "cuda")
    if name == "auto":
        name = found[0]
    if name not in found:
        alone = "" if process.n_processes == 1 else f" for {process.n_processes} processes"
        raise ConfigurationError(f"there is no device {name} here{alone}: choose auto, {' or '.join(found)}")
    if name != "cuda":
        return torch.device(name)
    if process.local_rank >= torch.cuda.device_count():
        raise ConfigurationError(
            f"{process.n_local} processes on this machine need a cuda device each, and there are "
            f"{torch.cuda.device_count()}: start fewer, or choose cpu"
        )
    return torch.device("cuda", process.local_rank)


def autocast(bf16: bool | None, device: torch.device = CPU) -> AbstractContextManager[Any]:
    """Multiplies matrices in bfloat16; None = where the device has instructions for it, as else it is emulated."""
    if bf16 is None:
        if device.type == "cuda":
            bf16 = torch.cuda.get_device_capability(device) >= (8, 0)  # since Ampere
        else:
            # Older versions of torch cannot say.
            found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
            bf16 = device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def borrowed_generators(device: torch.device) -> AbstractContextManager[Any]:
    """Gives torch's global generators back as they were: dropout and initial weights draw from them."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
