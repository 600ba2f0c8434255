"""GPT-2 (Radford et al. 2019): a decoder of the transformer that is trained on text, and on nothing else.

    input      x_p = E[id] + P[p],   E (V, D) tokens, P (C, D) positions, both learned
    a block    x = x + Attention(norm(x)),   x = x + MLP(norm(x))
    MLP        gelu(x A + a) B + b,   4 D wide; gelu in its tanh form (Hendrycks & Gimpel 2016)
    output     logits = norm(x) E',   tied to the input and without a bias

Changed against GPT (2018): norms stand before the layers and one more behind the last (pre-norm: the way from output
to input is free of norms, so deep stacks learn without a long warm-up), and what writes to x begins smaller by
1 / sqrt(2 x layers). Beyond C inputs, windows are anchored: see `lmzoo.neural.anchored`.
What it cannot do: know a position that it was not trained on, or learn much from little text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

from torch import Tensor, nn

from lmzoo.checks import check_share, check_whole
from lmzoo.neural.activations import gelu
from lmzoo.neural.anchored import AnchoredNetwork, Attention, check_decoder
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.single import GELU, Array, Weights, affine, layer_norm

_TRAINING = TrainConfig(tokens=1_000_000, learning_rate=1e-3, weight_decay=0.1)


@final
class Block(nn.Module):
    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, n_heads)
        self.norm_2 = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, cached: Tensor | None, slots: Tensor | None, seen: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        y, cached = self.attention(self.norm_1(x), cached, slots, seen)
        x = x + self.dropout(y)
        return x + self.dropout(self.down(gelu(self.up(self.norm_2(x))))), cached

    @staticmethod
    def read_one(weights: Weights, x: Array, cached: Array) -> tuple[Array, Array]:
        y, cached = Attention.read_one(weights.attention, layer_norm(x, weights.norm_1), cached)
        x = x + y
        return x + affine(affine(layer_norm(x, weights.norm_2), weights.up, GELU), weights.down), cached


@final
class GPT2(AnchoredNetwork):
    def __init__(
        self, vocab_size: int, *, d_model: int, n_layers: int, n_heads: int, window: int, dropout: float
    ) -> None:
        super().__init__(d_model=d_model, n_heads=n_heads, window=window)
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(window, d_model)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(d_model, n_heads, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        self.head.weight = self.embedding.weight  # tied
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                writes = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 * (2 * n_layers) ** -0.5 if writes else 0.02)

    def embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        return self.dropout(self.embedding(ids) + self.positions(positions))

    def embedded_one(self, weights: Weights, token_id: int, position: int) -> Array:
        return weights.embedding.weight[token_id] + weights.positions.weight[position]

    def output(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def output_one(self, weights: Weights, x: Array) -> Array:
        return layer_norm(x, weights.norm)

    def start_from(self, log_frequencies: Tensor) -> None:
        """Nothing: GPT-2 has no bias per token that could hold frequencies."""


def gpt2(
    vocab_size: int,
    *,
    d_model: int = 128,
    n_layers: int = 4,
    n_heads: int = 4,
    window: int = 64,
    dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """A decoder with `window` learned positions. It is trained in chunks of this size, unless `training` says less.

    GPT-2 small is d_model=768, n_layers=12, n_heads=12, window=1024.
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
    return NeuralLM(vocab_size, GPT2, architecture, config, context_size=None, reach=window)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "gpt2": {
        "quick": {"training": {"tokens": 500_000, "batch_size": 16, "learning_rate": 3e-3}},
        "standard": {
            "d_model": 256, "n_layers": 4, "dropout": 0.2,
            "training": {"tokens": 2_500_000, "batch_size": 16, "learning_rate": 2e-3},
        },
        "thorough": {
            "d_model": 384, "n_layers": 6, "n_heads": 6, "dropout": 0.3, "training": {"tokens": 9_000_000}
        },
        "ladder": {
            "d_model": 64, "n_layers": 2, "n_heads": 4, "window": 128, "dropout": 0.0, "training": {"batch_size": 16}
        },
        "ladder/standard": {"training": {"learning_rate": 1e-3}},
        "ladder/thorough": {"training": {"learning_rate": 1e-3}},
        "tiny": {
            "d_model": 16, "n_layers": 2, "n_heads": 2, "window": 6,
            "training": {"tokens": 4000, "batch_size": 4, "chunk_size": 6, "learning_rate": 1e-2},
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
