"""Pauses Python's garbage collection while modules are imported and models are loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Turns off garbage collection inside the `with` block.

    Large packages create very many objects that are never freed. When PyTorch is imported, a sixth of the time would be
    spent on searching them for garbage.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
