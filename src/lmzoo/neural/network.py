"""What a neural species is made of: a network that reads ids row by row and remembers where it is.

Rows are streams: documents stand in them one after the other without padding. The ids are *inputs*: position t reads
the id before it and predicts the one at it, and the input EOT means "a document starts here". A network forgets its
memory whenever it reads EOT, and then reads on. So nothing leaks across documents, the memory after EOT is that of a
document start, and training, scoring and generation are one code path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.neural.losses import linear_cross_entropy
from lmzoo.neural.single import Array, RowMemory, Weights

_BLOCK_ELEMENTS = 1 << 21
"""Logits that are held at a time."""

Memory = tuple[Tensor, ...]
"""What a network carries from chunk to chunk: tensors whose first axis is the row."""


class Network(nn.Module, ABC):
    """ids (B, T) and a memory -> hidden vectors (B, T, D) and the new memory; `logits` (.., V) are made of hidden ones.

    Hidden vectors and logits are separate steps because the logits are the larger by far: whoever needs few of them,
    or a loss only, never holds B x T x V numbers. Everything learned is in `parameters()`: there are no buffers. A
    network whose output is not a linear layer overrides what is from `logits` on.
    """

    head: nn.Linear

    @property
    def device(self) -> torch.device:
        """Where its weights are, and where all that it reads and makes must be."""
        return next(self.parameters()).device

    @abstractmethod
    def initial_memory(self, batch_size: int) -> Memory:
        """The memory of rows of which nothing was read: the first id may stand anywhere in a document."""

    @abstractmethod
    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Reads ids (B, T) int64; leaves the tensors of `memory` as they are."""

    def read_one(self, weights: Weights, token_id: int, memory: RowMemory) -> tuple[Array, RowMemory] | None:
        """What `forward` does in evaluation, for one id of one row: the hidden vector (D,), and the memory after it.

        As arrays, see `lmzoo.neural.single`; None = leave it to `forward`. Leaves the memory that comes as it is.
        """
        return None

    def joined(self, memories: Sequence[Memory]) -> Memory:
        """One memory with the rows of all of these."""
        return tuple(torch.cat(parts) for parts in zip(*memories, strict=True))

    def logits(self, hidden: Tensor) -> Tensor:
        """(.., V) logits of the next token from hidden vectors (.., D)."""
        return self.head(hidden)

    def logits_one(self, weights: Weights, hidden: Array) -> Array | None:
        """(V,) the same from one hidden vector (D,), as arrays; None = leave it to that."""
        logits = weights.head.weight @ hidden
        return logits + weights.head.bias if weights.head.bias.size else logits

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean of -log P(target) in nats, from hidden vectors (N, D) of the last `forward` and targets (N,)."""
        return linear_cross_entropy(hidden, self.head.weight, self.head.bias, targets)

    def surprisals(self, hidden: Tensor, observed: Tensor) -> Tensor:
        """(N,) -log P(observed) in nats, from hidden vectors (N, D)."""
        rows = max(1, _BLOCK_ELEMENTS // self.head.out_features)
        blocks = zip(hidden.split(rows), observed.split(rows), strict=True)
        return torch.cat([F.cross_entropy(self.head(block), ids, reduction="none") for block, ids in blocks])

    def hidden_matrices(self) -> list[Tensor]:
        """Matrices that turn hidden vectors into hidden vectors: not those with a row for each token."""
        tables = {id(module.weight) for module in self.modules() if isinstance(module, nn.Embedding)}
        tables.add(id(self.head.weight))
        layers = [module for module in self.modules() if isinstance(module, nn.Linear)]
        return [layer.weight for layer in layers if id(layer.weight) not in tables]

    def start_from(self, log_frequencies: Tensor) -> None:
        """Makes a fresh network predict the tokens (V,) as often as they occur: learning this takes many steps."""
        self.head.bias.data = log_frequencies
