"""Transformer, decoder only (Vaswani et al. 2017; Radford et al. 2018): every token looks at the tokens before it.

    a block    x = x + Attention(norm(x)),   x = x + MLP(norm(x))
    attention  softmax(Q K' / sqrt(d)) V,  where a query sees itself and the `window` - 1 tokens before it
    MLP        relu(x A)^2 B

Changed since 2017, for what it gives at no cost: norms stand before the layers and have no mean (Zhang & Sennrich
2019), positions are rotations of queries and keys (RoPE, Su et al. 2021), which are normed too (Henry et al. 2020), the
MLP's activation is a square (So et al. 2021). Attention is banded (Child et al. 2019) with a rolling cache of keys and
values, also while training (Transformer-XL, Dai et al. 2019): rotations tell distance only, so every token sees its
exact window wherever a chunk begins, and n layers see n (window - 1) + 1 tokens.
With `ngrams` above 1 the vector of a token also tells the tokens before it: every n-gram has a vector in a table, at a
place found by hashing (Huang et al. 2025), so that the first layer need not learn what pairs of tokens mean.
What it cannot do: see further, or learn much from little text.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.checks import check_share, check_whole
from lmzoo.errors import ConfigurationError
from lmzoo.neural.attention import attention
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.single import (
    SQUARED_RELU,
    Array,
    RowMemory,
    Weights,
    affine,
    attend,
    rms_norm,
    rotated,
    shifted,
)
from lmzoo.neural.windows import window_of_one, windows
from lmzoo.stream import EOT

_TRAINING = TrainConfig(tokens=1_000_000)

_MULTIPLIER = 6364136223846793005
"""Of Knuth's generator (MMIX): products with it have their bits well mixed at the upper end."""


def _norm(x: Tensor) -> Tensor:
    """RMSNorm over the last axis, without gain: the matrices after it can scale as well."""
    return F.rms_norm(x, x.shape[-1:])


def _wrapped(key: int) -> int:
    """What of a number is left in 64 bits, one of which is its sign."""
    return (key + (1 << 63)) % (1 << 64) - (1 << 63)


def _rotations(positions: Tensor, d_head: int) -> tuple[Tensor, Tensor]:
    """positions (B, T) -> cos and sin (B, 1, 1, T, d) of the angles by which the entries of a vector there are turned.

    In float64, as a position may be large and the difference of two angles is all that counts.
    """
    exact = torch.float32 if positions.device.type == "mps" else torch.float64  # which Apple's cards do not have
    frequencies = 10_000.0 ** -(torch.arange(0, d_head, 2, dtype=exact, device=positions.device) / d_head)  # (d / 2,)
    angles = positions[:, None, None, :, None] * frequencies.repeat(2)
    return angles.cos().float(), angles.sin().float()


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (.., T, d) with each pair (x_i, x_{i + d/2}) turned: dot products then depend on distances alone."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


@final
class Attention(nn.Module):
    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, cached: Tensor, seen: Tensor, turns: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """x (B, T, D), keys and values of the tokens before it (B, 2, H, M, d) -> (B, T, D), and the cache after it.

        seen (T, M + T) or (B, 1, T, M + T) says which keys each query may see; turns rotate the T positions.
        """
        qkv = self.qkv(x).unflatten(2, (3, self.n_heads, -1)).permute(0, 2, 3, 1, 4)  # (B, 3, H, T, d)
        v = qkv[:, 2]
        q, k = _rotated(_norm(qkv[:, :2]), *turns).to(v.dtype).unbind(1)
        # Keys are cached as they were turned: only differences of positions count.
        cached = torch.cat([cached.to(v.dtype), torch.stack([k, v], dim=1)], dim=3)  # (B, 2, H, M + T, d)
        keys, values = cached.unbind(1)
        y = attention(q, keys, values, seen)  # (B, H, T, d)
        return self.out(y.transpose(1, 2).flatten(2)), cached[:, :, :, x.shape[1] :]

    @staticmethod
    def read_one(
        weights: Weights, x: Array, cached: Array, n_seen: int, turns: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        """The same for x (D,), which sees the last `n_seen` keys of the cache; turns (d / 2,)."""
        qkv, n_others = affine(x, weights.qkv), 2 * len(x)
        q_and_k, v = qkv[:n_others].reshape(-1, cached.shape[4]), qkv[n_others:]  # (2 H, d), (D,)
        q_and_k = rotated(rms_norm(q_and_k), *turns)
        y, cached = attend(np.concatenate([q_and_k.ravel(), v]), cached, n_seen, cached.shape[3])
        return affine(y, weights.out), cached


@final
class Block(nn.Module):
    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(d_model, n_heads)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cached: Tensor, seen: Tensor, turns: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        y, cached = self.attention(_norm(x), cached, seen, turns)
        x = x + self.dropout(y)
        return x + self.dropout(self.down(self.up(_norm(x)).relu().square())), cached

    @staticmethod
    def read_one(
        weights: Weights, x: Array, cached: Array, n_seen: int, turns: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        y, cached = Attention.read_one(weights.attention, rms_norm(x), cached, n_seen, turns)
        x = x + y
        return x + affine(affine(rms_norm(x), weights.up, SQUARED_RELU), weights.down), cached


@final
class NgramEmbedding(nn.Module):
    """A vector for each n-gram, n = 2 .. `ngrams`, that ends in a token. n-grams may share one by chance."""

    def __init__(self, ngrams: int, n_slots: int, d_slot: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.n_slots, self.dropout = n_slots, dropout
        self.table = nn.Embedding((ngrams - 1) * n_slots, d_slot)
        self.out = nn.Linear((ngrams - 1) * d_slot, d_model, bias=False)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, window: Tensor) -> Tensor:
        """window (B, T, n), newest first -> (B, T, D)."""
        slots, key = [], window[:, :, 0]
        for lag in range(1, window.shape[2]):
            key = key * _MULTIPLIER + window[:, :, lag] + 1  # wraps around
            slots.append((lag - 1) * self.n_slots + ((key >> 20) % self.n_slots))
        x = self.table(torch.stack(slots, 2))  # (B, T, n - 1, d_slot)
        # Before a document start there are no n-grams. Others are left out by chance, each as a whole, so that long
        # ones, of which many come once, are not learned by heart.
        there = (window[:, :, :-1] != EOT).unsqueeze(3).to(x.dtype)  # (B, T, n - 1, 1)
        return self.out((x * F.dropout(there, self.dropout, self.training)).flatten(2))

    def read_one(self, weights: Weights, window: list[int]) -> Array:
        """The same for the window of one token -> (D,)."""
        x = np.zeros((len(window) - 1, self.table.embedding_dim), np.float32)
        key = window[0]
        for n, (later, earlier) in enumerate(itertools.pairwise(window)):
            key = _wrapped(key * _MULTIPLIER + earlier + 1)
            if later != EOT:
                x[n] = weights.table.weight[n * self.n_slots + (key >> 20) % self.n_slots]
        return affine(x.ravel(), weights.out)


@final
class Transformer(Network):
    """Its memory: which of the last M = window - 1 tokens are of the current document, and their keys and values."""

    def __init__(
        self, vocab_size: int, *, d_model: int, n_layers: int, n_heads: int, window: int, dropout: float,
        ngrams: int, n_slots: int, d_slot: int, ngram_dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_earlier = ngrams - 1
        self.n_heads, self.d_head, self.n_cached = n_heads, d_model // n_heads, window - 1
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.ngrams = NgramEmbedding(ngrams, n_slots, d_slot, d_model, ngram_dropout) if ngrams > 1 else None
        self.blocks = nn.ModuleList(Block(d_model, n_heads, dropout) for _ in range(n_layers))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(d_model, vocab_size)
        self.head.weight = self.embedding.weight  # tied
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for name, parameter in self.blocks.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                nn.init.zeros_(parameter)  # every block starts as the identity
            else:
                nn.init.normal_(parameter, std=d_model**-0.5)

    def initial_memory(self, batch_size: int) -> Memory:
        of_document = torch.zeros(batch_size, self.n_cached, dtype=torch.bool, device=self.device)
        position = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        cached = torch.zeros(batch_size, 2, self.n_heads, self.n_cached, self.d_head, device=self.device)
        earlier = torch.full((batch_size, self.n_earlier), EOT, device=self.device)
        return of_document, position, earlier, *(cached for _ in self.blocks)

    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        of_document, position, earlier, *caches = memory
        n_new, n_keys = ids.shape[1], self.n_cached + ids.shape[1]
        # Documents are numbered within the row from that of the cache, 0; cached keys of an earlier one are -1.
        document = (ids == EOT).cumsum(1)  # (B, T)
        document_of_key = torch.cat([of_document.long() - 1, document], dim=1)  # (B, M + T)
        place = torch.arange(n_keys, device=ids.device)
        distance = place[self.n_cached :, None] - place  # (T, M + T)
        seen = (distance >= 0) & (distance <= self.n_cached)
        if (document_of_key != 0).any():
            seen = (seen & (document[:, :, None] == document_of_key[:, None, :]))[:, None]  # (B, 1, T, M + T)
        turns = _rotations(position[:, None] + place[:n_new], self.d_head)
        x = self.embedding(ids)  # (B, T, D)
        if self.ngrams is not None:
            x = x + self.ngrams(windows(ids, earlier))
        x = self.dropout(_norm(x))
        after = [
            document_of_key[:, n_new:] == document[:, -1:],
            position + n_new,
            torch.cat([earlier, ids], dim=1)[:, n_new:],
        ]
        for block, cached in zip(self.blocks, caches, strict=True):
            x, cached = block(x, cached, seen, turns)
            after.append(cached)
        return _norm(x), tuple(after)

    def read_one(self, weights: Weights, token_id: int, memory: RowMemory) -> tuple[Array, RowMemory] | None:
        if token_id == EOT:
            return None
        of_document, position, earlier, *caches = memory
        angles = position * 10_000.0 ** -(np.arange(0, self.d_head, 2) / self.d_head)  # (d / 2,)
        turns = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        n_seen = int(of_document.sum())  # the cache ends with them
        x = weights.embedding.weight[token_id]
        if self.ngrams is not None:
            x = x + self.ngrams.read_one(weights.ngrams, window_of_one(token_id, earlier))
        x = rms_norm(x)
        after = [shifted(of_document, True), position + 1, shifted(earlier, token_id)]
        for own, cached in zip(weights.blocks, caches, strict=True):
            x, cached = Block.read_one(own, x, cached, n_seen, turns)
            after.append(cached)
        return rms_norm(x), after


def transformer(
    vocab_size: int,
    *,
    d_model: int = 128,
    n_layers: int = 4,
    n_heads: int = 4,
    window: int = 64,
    dropout: float = 0.0,
    ngrams: int = 1,
    n_slots: int = 16_384,
    d_slot: int = 32,
    ngram_dropout: float = 0.1,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """A decoder. Each layer looks at `window` tokens, so that all see n_layers x (window - 1) + 1.

    With `ngrams` n it has vectors for n-grams up to that order, too, and sees n - 1 tokens more: `n_slots` of
    `d_slot` numbers for each order, left out while training with probability `ngram_dropout`.
    """
    check_whole(1, ngrams=ngrams, n_slots=n_slots, d_slot=d_slot)
    check_whole(1, d_model=d_model, n_layers=n_layers, n_heads=n_heads, window=window)
    check_share(dropout=dropout, ngram_dropout=ngram_dropout)
    if d_model % (2 * n_heads):
        raise ConfigurationError(f"d_model must be a multiple of 2 x n_heads = {2 * n_heads}, got {d_model}")
    architecture = {
        "d_model": d_model, "n_layers": n_layers, "n_heads": n_heads, "window": window, "dropout": dropout,
        "ngrams": ngrams, "n_slots": n_slots, "d_slot": d_slot, "ngram_dropout": ngram_dropout,
    }  # fmt: skip
    context_size = n_layers * (window - 1) + ngrams
    return NeuralLM(vocab_size, Transformer, architecture, _TRAINING.changed(training), context_size=context_size)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "transformer": {
        "quick": {
            "n_layers": 2, "ngrams": 3, "ngram_dropout": 0.3,
            "training": {
                "tokens": 500_000, "batch_size": 16, "learning_rate": 1e-2, "weight_decay": 0.01, "optimizer": "muon"
            },
        },
        "standard": {
            "d_model": 256, "n_layers": 4, "dropout": 0.2, "ngrams": 3, "ngram_dropout": 0.5,
            "training": {
                "tokens": 2_500_000, "learning_rate": 1e-2, "weight_decay": 0.1, "optimizer": "muon", "averaging": 0.1
            },
        },
        "thorough": {
            "d_model": 384, "n_layers": 6, "n_heads": 6, "dropout": 0.3, "ngrams": 3, "ngram_dropout": 0.5,
            "training": {
                "tokens": 4_500_000, "learning_rate": 1e-2, "weight_decay": 0.1, "optimizer": "muon", "averaging": 0.1
            },
        },
        # Vectors for n-grams would solve some tasks of the ladder without attention, so there are none.
        "ladder": {
            "d_model": 64, "n_layers": 2, "n_heads": 4, "window": 128, "dropout": 0.0, "ngrams": 1,
            "training": {"batch_size": 16},
        },
        "tiny": {
            "d_model": 16, "n_layers": 2, "n_heads": 2, "window": 6, "dropout": 0.1, "ngrams": 3, "n_slots": 100,
            "training": {
                "tokens": 4000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2, "optimizer": "muon"
            },
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
