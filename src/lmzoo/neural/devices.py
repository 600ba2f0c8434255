"""Devices on which torch computes: choosing one, reduced precision, and the state of random generators."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

import torch

from lmzoo.errors import ConfigurationError
from lmzoo.system.placement import BFLOAT16_VARIABLE, Device, this_process

CPU = torch.device("cpu")


def find_device(name: Device) -> torch.device:
    """Returns the torch device of this name for this process; "auto" is the fastest device present.

    Each process of a distributed fit gets a CUDA device of its own. Raises ConfigurationError if this machine has no
    such device, or fewer CUDA devices than processes.
    """
    process = this_process()
    available: list[Device] = ["cpu"]
    if torch.backends.mps.is_available() and process.n_processes == 1:  # mps has no exchange between processes
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name == "auto":
        name = available[0]
    if name not in available:
        several = "" if process.n_processes == 1 else f" for {process.n_processes} processes"
        raise ConfigurationError(f"this machine has no device '{name}'{several}: choose auto, {' or '.join(available)}")
    if name != "cuda":
        return torch.device(name)
    if process.local_rank >= torch.cuda.device_count():
        raise ConfigurationError(
            f"{process.n_local} processes on this machine need one cuda device each, but it has "
            f"{torch.cuda.device_count()}: start fewer processes, or choose the device cpu"
        )
    return torch.device("cuda", process.local_rank)


def has_bfloat16(device: torch.device) -> bool:
    """Returns True if a device has instructions for bfloat16, and False if it would have to emulate them.

    The environment variable LMZOO_BFLOAT16 overrides what the device says, if it is 0 or 1.
    """
    if (decided := os.environ.get(BFLOAT16_VARIABLE)) in ("0", "1"):
        return decided == "1"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # since Ampere
    # Older versions of torch do not report the capabilities of the CPU.
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device.type == "cpu" and bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def autocast(bf16: bool | None, device: torch.device = CPU) -> AbstractContextManager[Any]:
    """Returns a context in which torch multiplies matrices in bfloat16 if `bf16` is True.

    None means True if the device has instructions for bfloat16.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device) if bf16 is None else bf16)


def product_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Returns the type in which autocast multiplies matrices; without autocast, the type of the tensor."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype


def preserved_rng_state(device: torch.device) -> AbstractContextManager[Any]:
    """Returns a context that restores torch's global random generators on exit.

    Dropout and the initialisation of weights use these generators.
    """
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def seed_generators(seed: int, device: torch.device) -> None:
    """Seeds torch's random generator of the CPU, and those of all other devices unless `device` is the CPU."""
    if device.type == "cpu":
        # torch.manual_seed also formats a traceback for every other kind of device, which takes a noticeable part of
        # each training step of a small network.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
