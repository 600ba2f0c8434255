"""What a neural species is made of: a network that reads ids row by row and remembers where it is.

Rows are streams: documents stand in them one after the other without padding. The ids are *inputs*: position t reads
the id before it and predicts the one at it, and the input EOT means "a document starts here". A network forgets its
memory whenever it reads EOT, and then reads on. So nothing leaks across documents, the memory after EOT is that of a
document start, and training, scoring and generation are one code path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

Memory = tuple[Tensor, ...]
"""What a network carries from chunk to chunk: tensors whose first axis is the row."""


class Network(nn.Module, ABC):
    """ids (B, T) and a memory -> hidden vectors (B, T, D) and the new memory; `head` makes logits (.., V) of them.

    Hidden vectors and logits are separate steps because the logits are the larger by far: whoever needs few of them,
    or a loss only, never holds B x T x V numbers. Everything learned is in `parameters()`: there are no buffers.
    """

    head: nn.Linear

    @abstractmethod
    def initial_memory(self, batch_size: int) -> Memory:
        """The memory of rows of which nothing was read: the first id may stand anywhere in a document."""

    @abstractmethod
    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Reads ids (B, T) int64; leaves the tensors of `memory` as they are."""
