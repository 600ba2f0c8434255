"""The transformer of 2017 (Vaswani et al.), its decoder alone (Liu et al. 2018): self-attention in place of recurrence.

    input      x_p = sqrt(D) E[id] + s(p),   s(p)_{2i} = sin(p / 10000^(2i / D)),   s(p)_{2i + 1} = cos(same)
    a block    x = norm(x + Attention(x)),   x = norm(x + MLP(x))
    MLP        relu(x A + a) B + b,   4 D wide
    output     logits = x E' + c,   tied to the input (Press & Wolf 2017)

Dropout is applied to the input and to what each layer adds (section 5.4). Normalization comes *after* the sums
(post-norm): every gradient passes through all normalizations, and without the warm-up of section 5.3 deep stacks do not
learn (Xiong et al. 2020). Changed: label smoothing is left out ("this hurts perplexity"), and the output has a bias c,
which starts as the log-frequencies of the tokens. Beyond C inputs, windows are anchored (`lmzoo.neural.anchored`).
What it cannot do: use anything beyond its window, or learn much from little text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from lmzoo.checks import check_share, check_whole
from lmzoo.neural.anchored import AnchoredNetwork, Attention, check_decoder
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.one_token.reader import register_reader
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.system.placement import Device

_TRAINING = TrainConfig(tokens=1_000_000, learning_rate=1e-3, warmup=0.1, schedule="inverse-sqrt", weight_decay=0.0)


def sinusoids(n_positions: int, d_model: int) -> Tensor:
    """Returns the sinusoidal position vectors (n_positions, d_model) of Vaswani et al. (2017), section 3.5.

    Even columns hold sines and odd columns cosines.
    """
    empty = torch.empty(n_positions, d_model)
    if empty.is_meta:  # without numbers: to compute with them, PyTorch would import packages that are slow to load
        return empty
    wavelengths = 10_000.0 ** (torch.arange(0, d_model, 2) / d_model)  # (ceil(D / 2),), in units of 2 pi
    angles = torch.arange(n_positions)[:, None] / wavelengths
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :d_model]


@final
class Block(nn.Module):
    """A post-norm transformer block: self-attention and an MLP, each added to its input and normalized.

    Shape letters: N windows, W tokens in each, D width, H heads of d numbers, M tokens in the KV cache.
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(d_model, n_heads)
        self.norm_1 = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)
        self.norm_2 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Computes the output of the block in training, for N windows of W tokens of width D.

        `x` (N, W, D) is the input; the output has the same shape. `mask` (W, W) or (N, 1, W, W) is True where a query
        may attend to a key.
        """
        x = self.norm_1(x + self.dropout(self.attention(x, mask)))  # (N, W, D)
        return self.norm_2(x + self.dropout(self._mlp(x)))  # (N, W, D)

    def extend(
        self, x: Tensor, cache: Tensor, cache_positions: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Computes the output of the block for W new tokens in each of N windows, after the tokens of a KV cache.

        `x` (N, W, D) holds the new tokens as vectors of width D. Returns the output (N, W, D) and the extended cache
        (N, 2, H, M + W, d); see `Attention.extend`.
        """
        y, cache = self.attention.extend(x, cache, cache_positions, mask)
        x = self.norm_1(x + y)  # (N, W, D)
        return self.norm_2(x + self._mlp(x)), cache

    def _mlp(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())  # (N, W, D) -> (N, W, 4 D) -> (N, W, D)


@final
class Transformer2017(AnchoredNetwork):
    """The decoder of the transformer of 2017: post-norm blocks, sinusoidal positions and a tied output layer."""

    def __init__(
        self, vocab_size: int, *, d_model: int, n_layers: int, n_heads: int, window: int, dropout: float
    ) -> None:
        super().__init__(d_model=d_model, n_heads=n_heads, window=window)
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.sinusoids: Tensor
        self.register_buffer("sinusoids", sinusoids(window, d_model), persistent=False)  # computed, not learned
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(d_model, n_heads, dropout) for _ in range(n_layers))
        self.head = nn.Linear(d_model, vocab_size)
        self.head.weight = self.embedding.weight  # tied
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        scale = self.embedding.embedding_dim**0.5
        return self.dropout(scale * self.embedding(ids) + self.sinusoids[positions])

    def finish(self, x: Tensor) -> Tensor:
        return x


register_reader(Transformer2017, "lmzoo.neural.one_token.transformer_2017:read")


def transformer_2017(
    vocab_size: int,
    *,
    d_model: int = 128,
    n_layers: int = 4,
    n_heads: int = 4,
    window: int = 64,
    dropout: float = 0.1,
    training: TrainConfig | Mapping[str, Any] | None = None,
    device: Device = "cpu",
) -> NeuralLM:
    """Creates a transformer decoder of 2017 with `window` positions, for a vocabulary of `vocab_size` tokens.

    It is trained in chunks of `window` tokens unless `training` sets a smaller chunk_size. The base model of the paper
    has d_model=512, n_layers=6 and n_heads=8.
    """
    check_whole(1, d_model=d_model, n_layers=n_layers, n_heads=n_heads)
    check_whole(2, window=window)
    check_share(dropout=dropout)
    config = replace(_TRAINING, chunk_size=window).changed(training)
    check_decoder(window, d_model, n_heads, config)
    architecture = {
        "d_model": d_model, "n_layers": n_layers, "n_heads": n_heads, "window": window, "dropout": dropout
    }  # fmt: skip
    # The start of a window depends on the length of the whole context, so a context must not be truncated.
    return NeuralLM(vocab_size, Transformer2017, architecture, config, context_size=None, reach=window, device=device)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "transformer_2017": {
        "quick": {
            "n_layers": 2, "dropout": 0.0,
            "training": {
                "tokens": 700_000, "batch_size": 16, "learning_rate": 8e-3, "optimizer": "muon", "sampled_softmax": 512
            },
        },
        "standard": {
            "d_model": 256, "n_layers": 4, "dropout": 0.2, "training": {"tokens": 2_500_000, "batch_size": 16}
        },
        "thorough": {
            "d_model": 384, "n_layers": 6, "n_heads": 6, "dropout": 0.3, "training": {"tokens": 9_000_000}
        },
        "ladder": {
            "d_model": 64, "n_layers": 2, "n_heads": 4, "window": 128, "dropout": 0.0, "training": {"batch_size": 16}
        },
        "tiny": {
            "d_model": 16, "n_layers": 2, "n_heads": 2, "window": 6,
            "training": {"tokens": 2000, "batch_size": 4, "chunk_size": 6, "learning_rate": 1e-2},
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
