"""Compiled training: the arithmetic between products of matrices fused by torch.compile, for as long as a run lasts."""

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
    """Compiles the blocks of a network at their first use in here; outside, it is as it was.

    ConfigurationError if it has none, TrainingError if there is no compiler. Blocks share their code, and sizes are
    compiled in: a run has one or two sizes of chunk.
    """
    from torch._dynamo.exc import BackendCompilerFailed  # here, as importing it takes seconds

    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise ConfigurationError("compiled is for networks made of blocks, as transformers are: leave it out")
    for block in blocks:
        block.forward = torch.compile(block.forward, dynamic=False)
    try:
        yield
    except BackendCompilerFailed as error:
        raise TrainingError(f"compiled needs a C++ compiler, such as g++, or must be left out: {error}") from error
    finally:
        for block in blocks:
            del block.forward  # of the instance; that of the class is what it was


def as_written(compiled: bool) -> AbstractContextManager[Any]:
    """Runs what `compiled_blocks` has compiled as it was before: for evaluation, whose sizes come and go."""
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()
