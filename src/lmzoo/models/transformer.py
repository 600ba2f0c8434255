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

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.checks import check_share, check_whole
from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.windows import windows
from lmzoo.stream import EOT

_TRAINING = TrainConfig(tokens=1_000_000)

_MULTIPLIER = 6364136223846793005
"""Of Knuth's generator (MMIX): products with it have their bits well mixed at the upper end."""


def _norm(x: Tensor) -> Tensor:
    """RMSNorm over the last axis, without gain: the matrices after it can scale as well."""
    return F.rms_norm(x, x.shape[-1:])


def _rotations(n_positions: int, d_head: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """cos and sin (n_positions, d_head / 2) of the angles by which a vector at each position is turned."""
    frequencies = 10_000.0 ** -(torch.arange(0, d_head, 2, device=device) / d_head)  # (d_head / 2,)
    angles = torch.arange(n_positions, device=device)[:, None] * frequencies
    return angles.cos(), angles.sin()


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, H, T, d) with each pair (x_i, x_{i + d/2}) turned: dot products then depend on distances alone."""
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)


@final
class Attention(nn.Module):
    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, cached: Tensor, seen: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, D), keys and values of the tokens before it (B, 2, H, M, d) -> (B, T, D), and the cache after it.

        seen (B, 1, T, M + T) says which keys each query may see.
        """
        n_cached, n_new = cached.shape[3], x.shape[1]
        q, k, v = self.qkv(x).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4).float()  # (B, H, T, d) each
        cached = torch.cat([cached, torch.stack([_norm(k), v], dim=1)], dim=3)  # (B, 2, H, M + T, d)
        k, v = cached.unbind(1)
        # Keys are cached unturned: a position counts from the start of this cache.
        q = _rotated(_norm(q), cos[n_cached:], sin[n_cached:])
        y = F.scaled_dot_product_attention(q, _rotated(k, cos, sin), v, attn_mask=seen)  # (B, H, T, d)
        return self.out(y.transpose(1, 2).flatten(2)), cached[:, :, :, n_new:]


@final
class Block(nn.Module):
    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(d_model, n_heads)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cached: Tensor, seen: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        y, cached = self.attention(_norm(x), cached, seen, cos, sin)
        x = x + self.dropout(y)
        return x + self.dropout(self.down(self.up(_norm(x)).relu().square())), cached


@final
class NgramEmbedding(nn.Module):
    """The sum of a vector for each n-gram, n = 2 .. `ngrams`, that ends in a token. n-grams may share one by chance."""

    def __init__(self, ngrams: int, n_slots: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.n_slots, self.dropout = n_slots, dropout
        self.table = nn.Embedding((ngrams - 1) * n_slots, d_model)
        nn.init.zeros_(self.table.weight)

    def forward(self, window: Tensor) -> Tensor:
        """window (B, T, n), newest first -> (B, T, D)."""
        slots, key = [], window[:, :, 0]
        for lag in range(1, window.shape[2]):
            key = key * _MULTIPLIER + window[:, :, lag] + 1  # wraps around
            slots.append((lag - 1) * self.n_slots + ((key >> 20) % self.n_slots))
        x = self.table(torch.stack(slots, 2))  # (B, T, n - 1, D)
        # Whole n-grams are left out, so that long ones, of which many come once, are not learned by heart.
        return (x * F.dropout(torch.ones_like(x[..., :1]), self.dropout, self.training)).sum(2)


@final
class Transformer(Network):
    """Its memory: which of the last M = window - 1 tokens are of the current document, and their keys and values."""

    def __init__(
        self, vocab_size: int, *, d_model: int, n_layers: int, n_heads: int, window: int, dropout: float,
        ngrams: int, n_slots: int, ngram_dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_earlier = ngrams - 1
        self.n_heads, self.d_head, self.n_cached = n_heads, d_model // n_heads, window - 1
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.ngrams = NgramEmbedding(ngrams, n_slots, d_model, ngram_dropout) if ngrams > 1 else None
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
        cached = torch.zeros(batch_size, 2, self.n_heads, self.n_cached, self.d_head, device=self.device)
        earlier = torch.full((batch_size, self.n_earlier), EOT, device=self.device)
        return of_document, earlier, *(cached for _ in self.blocks)

    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        of_document, earlier, *caches = memory
        n_new, n_keys = ids.shape[1], self.n_cached + ids.shape[1]
        # Documents are numbered within the row from that of the cache, 0; cached keys of an earlier one are -1.
        document = (ids == EOT).cumsum(1)  # (B, T)
        document_of_key = torch.cat([of_document.long() - 1, document], dim=1)  # (B, M + T)
        place = torch.arange(n_keys, device=ids.device)
        distance = place[self.n_cached :, None] - place  # (T, M + T)
        in_band = (distance >= 0) & (distance <= self.n_cached)
        seen = (in_band & (document[:, :, None] == document_of_key[:, None, :]))[:, None]  # (B, 1, T, M + T)
        cos, sin = _rotations(n_keys, self.d_head, ids.device)
        x = self.embedding(ids)  # (B, T, D)
        if self.ngrams is not None:
            x = x + self.ngrams(windows(ids, earlier))
        x = self.dropout(_norm(x))
        after = [document_of_key[:, n_new:] == document[:, -1:], torch.cat([earlier, ids], dim=1)[:, n_new:]]
        for block, cached in zip(self.blocks, caches, strict=True):
            x, cached = block(x, cached, seen, cos, sin)
            after.append(cached)
        return _norm(x), tuple(after)


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
    ngram_dropout: float = 0.1,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """A decoder. Each layer looks at `window` tokens, so that all see n_layers x (window - 1) + 1.

    With `ngrams` n it has vectors for n-grams up to that order, too, and sees n - 1 tokens more: `n_slots` for each
    order, left out while training with probability `ngram_dropout`.
    """
    check_whole(1, ngrams=ngrams, n_slots=n_slots, d_model=d_model, n_layers=n_layers, n_heads=n_heads, window=window)
    check_share(dropout=dropout, ngram_dropout=ngram_dropout)
    if d_model % (2 * n_heads):
        raise ConfigurationError(f"d_model must be a multiple of 2 x n_heads = {2 * n_heads}, got {d_model}")
    architecture = {
        "d_model": d_model, "n_layers": n_layers, "n_heads": n_heads, "window": window, "dropout": dropout,
        "ngrams": ngrams, "n_slots": n_slots, "ngram_dropout": ngram_dropout,
    }  # fmt: skip
    context_size = n_layers * (window - 1) + ngrams
    return NeuralLM(vocab_size, Transformer, architecture, _TRAINING.changed(training), context_size=context_size)
