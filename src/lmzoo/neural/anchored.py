"""Networks whose positions are absolute, in *anchored* windows: where a window begins is decided by the text alone.

A network with C positions reads inputs 0 .. C - 1 of a document as they come. For more it must let go of the oldest
ones, and then all that are left get new positions and are read again. It lets go of S = C / 2 at a time: input p is
read in the window that starts at the first multiple of S that is not more than C - 1 inputs before it,

    start(p) = S max(0, ceil((p - C + 1) / S)),

and so sees at least C - S inputs before it. As this depends on p alone, generation with a cache, single predictions and
batched scoring see the same inputs and agree. Each input is read about twice, whatever the length of the document.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.errors import ConfigurationError
from lmzoo.neural.attention import attention
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.single import Array, RowMemory, Weights, affine, attend, shifted
from lmzoo.stream import EOT


@final
class Attention(nn.Module):
    """`attention` in `n_heads` heads, and what goes in and out of them."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(
        self, x: Tensor, cached: Tensor | None, slots: Tensor | None, seen: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """x (N, W, D), cached keys and values (N, 2, H, M, d) -> (N, W, D), and the cache with the new ones.

        `cached` None = nothing is kept, in training. `slots` (N, W) says where in the cache new ones go; None = after
        its end. `seen` (N, 1, W, M + W), or a part that serves all, says which slots each query may see; None = all.
        """
        qkv = self.qkv(x).unflatten(2, (3, self.n_heads, -1)).permute(0, 2, 3, 1, 4)  # (N, 3, H, W, d)
        q, k, v = qkv.unbind(1)
        if cached is not None:
            new = qkv[:, 1:]  # (N, 2, H, W, d)
            if slots is None:
                cached = torch.cat([cached, new], dim=3)  # (N, 2, H, M + W, d)
            else:
                cached = F.pad(cached, (0, 0, 0, x.shape[1]))
                cached = cached.scatter(3, slots[:, None, None, :, None].expand_as(new), new)
            k, v = cached.unbind(1)
        return self.out(attention(q, k, v, seen).transpose(1, 2).flatten(2)), cached

    @staticmethod
    def read_one(weights: Weights, x: Array, cached: Array) -> tuple[Array, Array]:
        """The same for x (D,), which sees all that is cached."""
        n_cached = cached.shape[3]
        y, cached = attend(affine(x, weights.qkv), cached, n_cached, n_cached + 1)
        return affine(y, weights.out), cached


class AnchoredNetwork(Network):
    """A decoder with `window` = C absolute positions; a species writes `blocks`, and what is abstract here.

    Its memory: the last C inputs (B, C), how many of them are in the current window (B,), and for each block their keys
    and values (B, 2, H, M, d), of which those beyond a row's number are void.
    """

    blocks: nn.ModuleList
    """Each takes what `Attention` takes and returns what it returns, in `read_one` as well."""

    def __init__(self, *, d_model: int, n_heads: int, window: int) -> None:
        super().__init__()
        self.window, self.step = window, window // 2  # C and S
        self._cache_shape = 2, n_heads, 0, d_model // n_heads

    @abstractmethod
    def embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        """(N, W, D) what the first block reads, for ids (N, W) at positions (N, W) or (W,) below C."""

    @abstractmethod
    def output(self, x: Tensor) -> Tensor:
        """(N, W, D) hidden vectors from what the last block writes."""

    @abstractmethod
    def embedded_one(self, weights: Weights, token_id: int, position: int) -> Array:
        """(D,) the same for one id."""

    @abstractmethod
    def output_one(self, weights: Weights, x: Array) -> Array:
        """(D,) the same for one token."""

    def initial_memory(self, batch_size: int) -> Memory:
        recent = torch.full((batch_size, self.window), EOT, device=self.device)
        count = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        cached = torch.zeros(batch_size, *self._cache_shape, device=self.device)
        return recent, count, *(cached for _ in self.blocks)

    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        if self.training:
            return self._read_chunk(ids), self.initial_memory(len(ids))
        recent, count, *caches = memory
        n_new = ids.shape[1]
        if int(count.max()) + n_new <= self.window and not (ids == EOT).any():  # as mostly when generating
            hidden, caches = self._read(ids, count, caches)
            return hidden, (torch.cat([recent, ids], dim=1)[:, n_new:], count + n_new, *caches)
        column = torch.arange(n_new, device=ids.device)
        # Where the window of each column starts, as a column; the window of the memory starts at column -count.
        last_eot = torch.where(ids == EOT, column, -1).cummax(1).values  # (B, T)
        begin = torch.where(last_eot >= 0, last_eot, -count[:, None])
        start = begin + self.step * ((column - begin - self.window + self.step) // self.step).clamp(min=0)
        goes_on = (start == -count[:, None]) & (count[:, None] > 0)  # (B, T): columns of the window of the memory
        position = column - start
        texts = torch.cat([recent, ids], dim=1)  # (B, C + T): column t is at C + t
        after = texts[:, n_new:], position[:, -1] + 1
        # First what goes on in the window of the memory, then all other windows from their starts, side by side.
        rows = goes_on[:, 0].nonzero()[:, 0]  # (N1,)
        width = int(goes_on.sum(1).max())  # W1
        going, going_caches = self._read(ids[rows, :width], count[rows], [cached[rows] for cached in caches])
        is_new = ~goes_on
        is_new[:, 1:] &= start[:, 1:] != start[:, :-1]
        row, first_column = is_new.nonzero(as_tuple=True)  # (N2,)
        n_read = int(position[~goes_on].max()) + 1  # W2
        place = start[row, first_column][:, None] + self.window + torch.arange(n_read, device=ids.device)
        fresh_ids = texts[row[:, None], place.clamp(max=texts.shape[1] - 1)]  # (N2, W2); what is past the end is void
        fresh, fresh_caches = self._read(
            fresh_ids, torch.zeros_like(row), [cached.new_zeros(len(row), *self._cache_shape) for cached in caches]
        )

        n_going = len(rows)
        going_number = (goes_on[:, 0].cumsum(0) - 1)[:, None]  # (B, 1)
        fresh_number = is_new.flatten().cumsum(0).view_as(is_new) - 1  # (B, T)
        place = torch.where(
            goes_on, going_number * width + column, n_going * width + fresh_number * n_read + position
        )  # (B, T)
        hidden = torch.cat([going.flatten(0, 1), fresh.flatten(0, 1)])[place]
        last = torch.where(goes_on[:, -1], going_number[:, 0], n_going + fresh_number[:, -1])  # (B,)
        size = int(after[1].max())
        caches = [
            torch.cat([_of_size(size, one), _of_size(size, other)])[last]
            for one, other in zip(going_caches, fresh_caches, strict=True)
        ]
        return hidden, (*after, *caches)

    def read_one(self, weights: Weights, token_id: int, memory: RowMemory) -> tuple[Array, RowMemory] | None:
        recent, count, *caches = memory
        position = int(count[0])
        if token_id == EOT or position == self.window:
            return None  # another window begins
        x = self.embedded_one(weights, token_id, position)
        after = []
        for block, own, cached in zip(cast(Iterable[Any], self.blocks), weights.blocks, caches, strict=True):
            x, cached = block.read_one(own, x, cached[:, :, :, :position])
            after.append(cached)
        return self.output_one(weights, x), (shifted(recent, token_id), count + 1, *after)

    def joined(self, memories: Sequence[Memory]) -> Memory:
        size = max(cached.shape[3] for memory in memories for cached in memory[2:])
        return super().joined(
            [(*memory[:2], *(_of_size(size, cached) for cached in memory[2:])) for memory in memories]
        )

    def _read(self, ids: Tensor, count: Tensor, caches: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Reads ids (N, W) after the first `count` (N,) keys of each cache; those with a position past C are void."""
        n_new, n_cached = ids.shape[1], int(count.max()) if len(count) else 0
        slots = seen = None
        place = torch.arange(n_cached + n_new, device=ids.device)
        if (count == n_cached).all():  # all rows are equally long
            positions = place[n_cached:]  # (W,)
            if n_new > 1:
                seen = place <= positions[:, None]  # (W, M + W)
        else:
            positions = slots = count[:, None] + place[:n_new]  # (N, W)
            seen = (place <= slots[..., None])[:, None]  # (N, 1, W, M + W)
        x = self.embedded(ids, positions.clamp(max=self.window - 1))
        after = []
        for block, cached in zip(self.blocks, caches, strict=True):
            x, cached = block(x, cached[:, :, :, :n_cached], slots, seen)
            after.append(cached)
        return self.output(x), after

    def _read_chunk(self, ids: Tensor) -> Tensor:
        """Training: each chunk is a window of its own, and so is each document in it; (B, T, D)."""
        column = torch.arange(ids.shape[1], device=ids.device)
        # A text of fewer than two chunks comes as a longer one: it is two windows then.
        starts = (ids == EOT) | (column % self.window == 0)
        start = torch.where(starts, column, 0).cummax(1).values  # (B, T)
        seen = column[:, None] >= column  # (T, T)
        if start.any():
            seen = (seen & (start[:, :, None] == start[:, None, :]))[:, None]  # (B, 1, T, T)
        x = self.embedded(ids, column - start)
        for block in self.blocks:
            x, _ = block(x, None, None, seen)
        return self.output(x)


def check_decoder(window: int, d_model: int, n_heads: int, training: TrainConfig) -> None:
    """ConfigurationError for heads that do not divide the model, and chunks longer than the window."""
    if d_model % n_heads:
        raise ConfigurationError(f"d_model must be a multiple of n_heads = {n_heads}, got {d_model}")
    if training.chunk_size > window:
        raise ConfigurationError(
            f"chunk_size must be at most window = {window}, as a chunk is read in one window; got {training.chunk_size}"
        )


def _of_size(size: int, cached: Tensor) -> Tensor:
    """A cache (N, 2, H, M, d) with `size` slots in place of M."""
    cached = cached[:, :, :, :size]
    return F.pad(cached, (0, 0, 0, size - cached.shape[3]))
