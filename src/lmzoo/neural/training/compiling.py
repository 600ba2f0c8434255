"""Compiled training: torch.compile fuses the operations between matrix products for the length of a training run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from lmzoo.errors import ConfigurationError, TrainingError
from lmzoo.neural.network import Network


@contextmanager
def compiled_blocks(network: Network) -> Iterator[None]:
    """Compiles the blocks of a network within the context, each at its first use.

    The blocks share compiled code. There is one version for each size of chunk, of which a run has one or two, and in
    transformers another one for chunks of this size in which no document ends. Raises ConfigurationError if the network
    has no blocks, and TrainingError if torch cannot compile: it needs a C++ compiler for a CPU, and the package triton
    for a graphics card that is new enough for it.
    """
    # Here, as importing these takes seconds
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._inductor.exc import GPUTooOldForTriton, TritonMissing

    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise ConfigurationError(
            "compiled=true needs a network made of blocks, such as a transformer; leave the setting out for this model"
        )
    for block in blocks:
        block.forward = torch.compile(block.forward, dynamic=False)
    try:
        yield
    except BackendCompilerFailed as error:
        raise TrainingError(
            f"compiled=true needs a C++ compiler: install one, such as g++, or leave the setting out: {error}"
        ) from error
    except (TritonMissing, GPUTooOldForTriton) as error:
        raise TrainingError(
            f"compiled=true needs triton for this graphics card: install it, or leave the setting out: {error}"
        ) from error
    finally:
        for block in blocks:
            del block.forward  # removes the attribute of the instance, which hid the method of the class


def eager_evaluation(compiled: bool) -> AbstractContextManager[Any]:
    """Returns a context in which the compiled blocks of a network run without compilation.

    Evaluation reads batches of many sizes, and torch.compile would generate code for each of them. If `compiled` is
    False, the context does nothing.
    """
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()
