"""GPT-2 (Radford et al. 2019): a transformer decoder that is trained only to predict the next token.

    input      x_p = E[id] + P[p],   E (V, D) tokens, P (C, D) positions, both learned
    a block    x = x + Attention(norm(x)),   x = x + MLP(norm(x))
    MLP        gelu(x A + a) B + b,   4 D wide; gelu in its tanh form (Hendrycks & Gimpel 2016)
    output     logits = norm(x) E',   tied to the input and without a bias

Changed against GPT (2018): normalization comes before each layer, and once more after the last one (pre-norm). The path
from output to input is then free of normalization, so deep stacks learn without a long warm-up. The output matrices of
attention and MLP start smaller, by the factor 1 / sqrt(2 n) for n layers. Beyond C inputs, windows are anchored
(`lmzoo.neural.anchored`).
What it cannot do: use a position that it was not trained on, or learn much from little text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

from torch import Tensor, nn

from lmzoo.checks import check_share, check_whole
from lmzoo.neural.anchored import AnchoredNetwork, Attention, check_decoder
from lmzoo.neural.layers.activations import gelu
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.one_token.reader import register_reader
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.system.placement import Device

_TRAINING = TrainConfig(tokens=1_000_000, learning_rate=1e-3, weight_decay=0.1)


@final
class Block(nn.Module):
    """A pre-norm transformer block: self-attention and an MLP, each added to its input.

    Shape letters: N windows, W tokens in each, D width, H heads of d numbers, M tokens in the KV cache.
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, n_heads)
        self.norm_2 = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Computes the output of the block in training, for N windows of W tokens of width D.

        `x` (N, W, D) is the input; the output has the same shape. `mask` (W, W) or (N, 1, W, W) is True where a query
        may attend to a key.
        """
        x = x + self.dropout(self.attention(self.norm_1(x), mask))  # (N, W, D)
        return x + self.dropout(self._mlp(self.norm_2(x)))  # (N, W, D)

    def extend(
        self, x: Tensor, cache: Tensor, cache_positions: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Computes the output of the block for W new tokens in each of N windows, after the tokens of a KV cache.

        `x` (N, W, D) holds the new tokens as vectors of width D. Returns the output (N, W, D) and the extended cache
        (N, 2, H, M + W, d); see `Attention.extend`.
        """
        y, cache = self.attention.extend(self.norm_1(x), cache, cache_positions, mask)
        x = x + y  # (N, W, D)
        return x + self._mlp(self.norm_2(x)), cache

    def _mlp(self, x: Tensor) -> Tensor:
        return self.down(gelu(self.up(x)))  # (N, W, D) -> (N, W, 4 D) -> (N, W, D)


@final
class GPT2(AnchoredNetwork):
    """The network of GPT-2: a pre-norm transformer decoder with learned absolute positions and a tied output layer."""

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

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        return self.dropout(self.embedding(ids) + self.positions(positions))

    def finish(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def initialize_output_bias(self, log_frequencies: Tensor) -> None:
        """Does nothing, as the output layer of GPT-2 has no bias."""


register_reader(GPT2, "lmzoo.neural.one_token.gpt2:read")


def gpt2(
    vocab_size: int,
    *,
    d_model: int = 128,
    n_layers: int = 4,
    n_heads: int = 4,
    window: int = 64,
    dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
    device: Device = "cpu",
) -> NeuralLM:
    """Creates a GPT-2 with `window` learned positions, for a vocabulary of `vocab_size` tokens.

    It is trained in chunks of `window` tokens unless `training` sets a smaller chunk_size. GPT-2 small has d_model=768,
    n_layers=12, n_heads=12 and window=1024.
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
    return NeuralLM(vocab_size, GPT2, architecture, config, context_size=None, reach=window, device=device)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "gpt2": {
        "quick": {
            "n_layers": 2,
            "training": {
                "tokens": 950_000, "batch_size": 16, "learning_rate": 8e-3, "optimizer": "muon",
                "sampled_softmax": 512,
            },
        },
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
            "training": {"tokens": 2000, "batch_size": 4, "chunk_size": 6, "learning_rate": 1e-2},
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
