"""Networks with absolute positions, read in *anchored* windows, whose start depends on the position alone.

A network with C positions reads the inputs 0 .. C - 1 of a document one after the other. For more inputs it must drop
the oldest ones, and then all that remain get new positions and are read again. It drops S = C / 2 inputs at a time:
input p is read in the window that starts at the first multiple of S that is at most C - 1 inputs before it,

    start(p) = S max(0, ceil((p - C + 1) / S)),

so at least C - S inputs before p are visible. With C = 4 and S = 2:

    input p          0  1  2  3  4  5  6  7
    start(p)         0  0  0  0  2  2  4  4
    position         0  1  2  3  2  3  2  3       = p - start(p)

As start(p) depends on p alone, generation with a KV cache, single predictions and batched scoring all see the same
inputs and agree. Each input is read about twice, whatever the length of the document.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.errors import ConfigurationError
from lmzoo.neural.layers.attention import ScaledDotProduct
from lmzoo.neural.network import Network, State
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import EOT


@final
class Attention(nn.Module):
    """Causal multi-head self-attention (Vaswani et al. 2017, section 3.2) with learned biases.

    Shape letters: N windows, W tokens in each, D width, H heads of d = D / H numbers, M tokens in the KV cache.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.attend = ScaledDotProduct()

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Computes the self-attention of W tokens in each of N windows to each other.

        `x` (N, W, D) holds the tokens as vectors of width D, and the result has the same shape. `mask`, of shape (W, W)
        or (N, 1, W, W), is True where a query (first) may attend to a key (last); None = to all.
        """
        q, k, v = self._project(x).unbind(1)  # (N, H, W, d) each
        y = self.attend(q, k, v, mask)  # (N, H, W, d)
        return self.out(y.transpose(1, 2).flatten(2))  # (N, W, D)

    def extend(
        self, x: Tensor, cache: Tensor, cache_positions: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Computes the self-attention of W new tokens in each of N windows to a KV cache and to each other.

        `x` (N, W, D) holds the new tokens as vectors of width D, and `cache` (N, 2, H, M, d) the keys and values of M
        earlier tokens in H heads. The new ones are written at `cache_positions` (N, W); None = after the end of the
        cache. `mask`, of a shape that broadcasts to (N, 1, W, M + W), is True where a query may attend to a key;
        None = to all. Returns the output (N, W, D) and the extended cache (N, 2, H, M + W, d).
        """
        qkv = self._project(x)  # (N, 3, H, W, d)
        q, new = qkv[:, 0], qkv[:, 1:]  # (N, H, W, d), (N, 2, H, W, d)
        if cache_positions is None:
            cache = torch.cat([cache, new], dim=3)  # (N, 2, H, M + W, d)
        else:
            cache = F.pad(cache, (0, 0, 0, x.shape[1]))
            cache = cache.scatter(3, cache_positions[:, None, None, :, None].expand_as(new), new)
        k, v = cache.unbind(1)  # (N, H, M + W, d) each
        y = self.attend(q, k, v, mask)  # (N, H, W, d)
        return self.out(y.transpose(1, 2).flatten(2)), cache

    def _project(self, x: Tensor) -> Tensor:
        """Returns queries, keys and values of N x W tokens `x` (N, W, D) in H heads of d numbers: (N, 3, H, W, d)."""
        return self.qkv(x).unflatten(2, (3, self.n_heads, -1)).permute(0, 2, 3, 1, 4)


class _Windows(NamedTuple):
    """The windows in which a transformer with absolute positions reads a chunk of T inputs from each of B sequences.

    Positions are counted from the first input of the chunk, which has position 0. Inputs of earlier chunks have
    negative positions.
    """

    start: Tensor
    """(B, T): column of the first input of the window in which each input is read."""
    continued: Tensor
    """(B, T): True where that window began before the chunk, so that its KV cache is continued."""


class AnchoredNetwork(Network):
    """A transformer decoder with C = `window` absolute positions, which reads a document in overlapping windows.

    When the C positions are used up, a new window starts C // 2 inputs later than the last one, and its inputs are read
    again from position 0. The state of the network: the last C inputs (B, C) of B sequences, the number of inputs in
    the current window (B,), and for each block the keys and values of these inputs (B, 2, H, M, d) in H heads of d
    numbers. KV cache entries beyond the number of inputs of a sequence are unused.
    """

    n_scored_together = 8  # each input is read in two windows; with more sequences, these do not fit a core's cache
    blocks: nn.ModuleList
    """The layers. Each block has the methods `forward` and `extend` of `Attention`."""

    def __init__(self, *, d_model: int, n_heads: int, window: int) -> None:
        super().__init__()
        self.window, self.step = window, window // 2  # C and S
        self._cache_shape = 2, n_heads, 0, d_model // n_heads

    @abstractmethod
    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Returns the input of the first block (N, W, D), for N windows of W ids each and a network of width D.

        `positions` (N, W) or (W,) are the positions of the `ids` (N, W) in their windows.
        """

    @abstractmethod
    def finish(self, x: Tensor) -> Tensor:
        """Returns the hidden vectors (N, W, D), from which the next tokens are predicted, of N windows of W tokens.

        `x` (N, W, D) is the output of the last block. A network with a final layer normalization applies it to `x`
        here; a network without one returns `x`.
        """

    def initial_state(self, batch_size: int) -> State:
        recent = torch.full((batch_size, self.window), EOT, device=self.device)
        count = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        cache = torch.zeros(batch_size, *self._cache_shape, device=self.device)
        return recent, count, *(cache for _ in self.blocks)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        if self.training:
            return self._read_chunk(ids), self.initial_state(len(ids))
        recent, count, *caches = state
        n_new = ids.shape[1]
        inputs = torch.cat([recent, ids], dim=1)  # (B, C + T)
        if int(count.max()) + n_new <= self.window and not (ids == EOT).any():  # the usual case in generation
            hidden, caches = self._extend(ids, count, caches)
            return hidden, (inputs[:, n_new:], count + n_new, *caches)
        windows = self._windows(ids, count)
        hidden, caches = self._read_windows(inputs, windows, count, caches)
        return hidden, (inputs[:, n_new:], n_new - windows.start[:, -1], *caches)

    def read_rows(self, ids: Tensor) -> Tensor:
        if ids.shape[1] > self.window:
            raise ConfigurationError(
                f"a row of {ids.shape[1]} ids is longer than the window of the network, {self.window}: shorten the "
                "texts, or train a network with a larger window"
            )
        return self._read_chunk(ids)  # one window for each row, where `forward` may read one for each EOT

    def stack_states(self, states: Sequence[State]) -> State:
        size = max(cache.shape[3] for state in states for cache in state[2:])
        return super().stack_states([(*state[:2], *(_resized(cache, size) for cache in state[2:])) for state in states])

    def _windows(self, ids: Tensor, count: Tensor) -> _Windows:
        """Returns the context window of each of the next T inputs of B sequences, `ids` (B, T).

        `count` (B,): number of earlier inputs in the current window of each sequence.
        """
        column = torch.arange(ids.shape[1], device=ids.device)
        last_eot = torch.where(ids == EOT, column, -1).cummax(1).values  # (B, T)
        # The first input of each document; of one that began before the chunk, the first input of its window.
        first = torch.where(last_eot >= 0, last_eot, -count[:, None])
        start = first + self.step * ((column - first - self.window + self.step) // self.step).clamp(min=0)
        return _Windows(start, (start == -count[:, None]) & (count[:, None] > 0))

    def _read_windows(
        self, inputs: Tensor, windows: _Windows, count: Tensor, caches: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Reads the T inputs of a chunk if they need several windows: returns hidden vectors (B, T, D) and KV caches.

        A window has at most C inputs, and the next one starts S = C // 2 inputs later. `inputs` (B, C + T) holds for
        each of B sequences the last C inputs before the chunk, then the chunk. Windows that began before the chunk are
        continued from `caches`. Then all windows that begin later are read in parallel from their first input. Example:
        C = 4, S = 2, and the chunk is the inputs 3 .. 6 of a document. Input 3 continues the window (0, 1, 2, 3). The
        new windows are (2, 3, 4, 5) and (4, 5, 6).
        """
        start, continued = windows
        column = torch.arange(start.shape[1], device=start.device)
        position = column - start  # (B, T), in the window

        sequences = continued[:, 0].nonzero()[:, 0]  # (N1,)
        width = int(continued.sum(1).max())  # W1: inputs read in each continued window
        ids = inputs[sequences, self.window : self.window + width]
        old, old_caches = self._extend(ids, count[sequences], [cache[sequences] for cache in caches])  # (N1, W1, D)

        is_new = ~continued  # (B, T): the first column of the chunk that is read in each new window
        is_new[:, 1:] &= start[:, 1:] != start[:, :-1]
        sequence, first_column = is_new.nonzero(as_tuple=True)  # (N2,)
        new_width = int(position[~continued].max()) + 1  # W2: inputs read in each new window
        index = start[sequence, first_column][:, None] + self.window + torch.arange(new_width, device=start.device)
        ids = inputs[sequence[:, None], index.clamp(max=inputs.shape[1] - 1)]  # (N2, W2); void beyond the chunk
        new, new_caches = self.read_new_windows(ids)  # (N2, W2, D)

        # Each input takes its hidden vector from the window in which it is read.
        n_old = len(sequences)
        old_row = (continued[:, 0].cumsum(0) - 1)[:, None]  # (B, 1)
        new_row = is_new.flatten().cumsum(0).view_as(is_new) - 1  # (B, T)
        index = torch.where(continued, old_row * width + column, n_old * width + new_row * new_width + position)
        hidden = torch.cat([old.flatten(0, 1), new.flatten(0, 1)])[index]  # (B, T, D)

        # The last window of each sequence goes on after the chunk.
        last = torch.where(continued[:, -1], old_row[:, 0], n_old + new_row[:, -1])  # (B,)
        size = int(position[:, -1].max()) + 1
        pairs = zip(old_caches, new_caches, strict=True)
        return hidden, [torch.cat([_resized(one, size), _resized(other, size)])[last] for one, other in pairs]

    def read_new_windows(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Reads the first W ids (N, W) of each of N windows: returns hidden vectors (N, W, D) and the KV caches."""
        empty = torch.zeros(len(ids), *self._cache_shape, device=ids.device)
        return self._extend(ids, ids.new_zeros(len(ids)), [empty for _ in self.blocks])

    def _extend(self, ids: Tensor, count: Tensor, caches: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Reads W more ids (N, W) in each of N windows: returns hidden vectors (N, W, D) and the extended KV caches.

        `count` (N,) is the number of entries in use in each KV cache. Ids beyond the last position of a window are
        padding, and the caller must ignore their results.
        """
        n_new, n_cached = ids.shape[1], int(count.max()) if len(count) else 0
        cache_positions = mask = None
        key = torch.arange(n_cached + n_new, device=ids.device)
        if (count == n_cached).all():
            positions = key[n_cached:]  # (W,)
            if n_new > 1:
                mask = key <= positions[:, None]  # (W, M + W)
        else:  # sequences of different lengths
            positions = cache_positions = count[:, None] + key[:n_new]  # (N, W)
            mask = (key <= positions[..., None])[:, None]  # (N, 1, W, M + W)
        x = self.embed(ids, positions.clamp(max=self.window - 1))
        new_caches = []
        for block, cache in zip(cast(Iterable[Any], self.blocks), caches, strict=True):
            x, cache = block.extend(x, cache[:, :, :, :n_cached], cache_positions, mask)
            new_caches.append(cache)
        return self.finish(x), new_caches

    def _read_chunk(self, ids: Tensor) -> Tensor:
        """Reads a training chunk, T ids (B, T) of each of B sequences, and returns the hidden vectors (B, T, D).

        A new window, with positions from 0 and no attention to earlier ids, starts at the beginning of the chunk, at
        the beginning of each document, and after each multiple of C ids, where C is the number of positions of the
        network.
        """
        column = torch.arange(ids.shape[1], device=ids.device)
        starts = (ids == EOT) | (column % self.window == 0)
        start = torch.where(starts, column, 0).cummax(1).values  # (B, T): first column of the window
        mask = column[:, None] >= column  # (T, T)
        if start.any():
            mask = (mask & (start[:, :, None] == start[:, None, :]))[:, None]  # (B, 1, T, T)
        x = self.embed(ids, column - start)  # (B, T, D)
        for block in self.blocks:
            x = block(x, mask)  # (B, T, D)
        return self.finish(x)


def check_decoder(window: int, d_model: int, n_heads: int, training: TrainConfig) -> None:
    """Checks the sizes of a decoder with absolute positions.

    Raises ConfigurationError if `n_heads` does not divide `d_model`, or if a training chunk is longer than `window`.
    """
    if d_model % n_heads:
        raise ConfigurationError(f"d_model must be a multiple of n_heads = {n_heads}, got {d_model}")
    if training.chunk_size > window:
        raise ConfigurationError(
            f"chunk_size must be at most window = {window}, as a chunk is read in one window; got {training.chunk_size}"
        )


def _resized(cache: Tensor, size: int) -> Tensor:
    """Returns a KV cache truncated to `size` tokens, or padded with zeros to this size.

    `cache` (N, 2, H, M, d) holds keys and values of M tokens for N sequences and H heads of d numbers.
    """
    cache = cache[:, :, :, :size]
    return F.pad(cache, (0, 0, 0, size - cache.shape[3]))
