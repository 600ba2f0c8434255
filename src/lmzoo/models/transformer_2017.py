"""The transformer of 2017 (Vaswani et al.), its decoder alone (Liu et al. 2018): attention is all it needs.

    input      x_p = sqrt(D) E[id] + s(p),   s(p)_{2i} = sin(p / 10000^(2i / D)),   s(p)_{2i + 1} = cos(same)
    a block    x = norm(x + Attention(x)),   x = norm(x + MLP(x))
    MLP        relu(x A + a) B + b,   4 D wide
    output     logits = x E' + c,   tied to the input (Press & Wolf 2017)

Dropout stands on the input and on what each layer adds (section 5.4). Norms stand *behind* the sums (post-norm): every
gradient passes all of them, and without the warm-up of section 5.3 deep stacks do not learn (Xiong et al. 2020). Label
smoothing is left out: "this hurts perplexity". The bias c is ours: it starts as the frequencies of the tokens. Beyond
C inputs, windows are anchored: see `lmzoo.neural.anchored`.
What it cannot do: carry anything beyond its window, or learn much from little text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from lmzoo.checks import check_share, check_whole
from lmzoo.neural.anchored import AnchoredNetwork, Attention, check_decoder
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.single import RELU, Array, Weights, affine, layer_norm

_TRAINING = TrainConfig(tokens=1_000_000, learning_rate=1e-3, warmup=0.1, schedule="inverse-sqrt", weight_decay=0.0)


def sinusoids(n_positions: int, d_model: int) -> Tensor:
    """(n_positions, d_model) of section 3.5: sines in the even columns, cosines in the odd ones."""
    wavelengths = 10_000.0 ** (torch.arange(0, d_model, 2) / d_model)  # (ceil(D / 2),), in units of 2 pi
    angles = torch.arange(n_positions)[:, None] / wavelengths
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :d_model]


@final
class Block(nn.Module):
    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(d_model, n_heads)
        self.norm_1 = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)
        self.norm_2 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, cached: Tensor | None, slots: Tensor | None, seen: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        y, cached = self.attention(x, cached, slots, seen)
        x = self.norm_1(x + self.dropout(y))
        return self.norm_2(x + self.dropout(self.down(self.up(x).relu()))), cached

    @staticmethod
    def read_one(weights: Weights, x: Array, cached: Array) -> tuple[Array, Array]:
        y, cached = Attention.read_one(weights.attention, x, cached)
        x = layer_norm(x + y, weights.norm_1)
        return layer_norm(x + affine(affine(x, weights.up, RELU), weights.down), weights.norm_2), cached


@final
class Transformer2017(AnchoredNetwork):
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

    def embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        scale = self.embedding.embedding_dim**0.5
        return self.dropout(scale * self.embedding(ids) + self.sinusoids[positions])

    def embedded_one(self, weights: Weights, token_id: int, position: int) -> Array:
        scale = np.float32(self.embedding.embedding_dim**0.5)
        return scale * weights.embedding.weight[token_id] + weights.sinusoids[position]

    def output(self, x: Tensor) -> Tensor:
        return x

    def output_one(self, weights: Weights, x: Array) -> Array:
        return x


def transformer_2017(
    vocab_size: int,
    *,
    d_model: int = 128,
    n_layers: int = 4,
    n_heads: int = 4,
    window: int = 64,
    dropout: float = 0.1,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """A decoder with `window` positions. It is trained in chunks of this size, unless `training` says less.

    The base model of the paper is d_model=512, n_layers=6, n_heads=8.
    """
    check_whole(1, d_model=d_model, n_layers=n_layers, n_heads=n_heads)
    check_whole(2, window=window)
    check_share(dropout=dropout)
    config = replace(_TRAINING, chunk_size=window).changed(training)
    check_decoder(window, d_model, n_heads, config)
    architecture = {
        "d_model": d_model, "n_layers": n_layers, "n_heads": n_heads, "window": window, "dropout": dropout
    }  # fmt: skip
    # Where windows begin depends on the whole length of a context: no cut to its last ids leaves them where they are.
    return NeuralLM(vocab_size, Transformer2017, architecture, config, context_size=None, reach=window)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "transformer_2017": {
        "quick": {"training": {"tokens": 500_000, "batch_size": 16}},
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
            "training": {"tokens": 4000, "batch_size": 4, "chunk_size": 6, "learning_rate": 1e-2},
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
