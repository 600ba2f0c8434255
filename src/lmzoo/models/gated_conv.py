"""Gated convolutional network (Dauphin, Fan, Auli, Grangier 2017): a language model of convolutions alone.

Each layer sees the last k tokens of the layer below, and gates decide which of its outputs pass. So a stack of layers
sees farther than an n-gram, all positions of a text are computed in parallel, and gradients pass a few layers instead
of a hundred time steps.

    a layer    h = x + (X W + b) * sigmoid(X V + c),   X = the last k vectors of norm(x)        eq. 1, section 2
    output     softmax(E P norm(h) + d), where E is the table of token vectors

L layers see L (k - 1) + 1 tokens. Reading one more token takes the last k - 1 inputs of each layer.

Changed: vectors are normalized (Zhang & Sennrich 2019) instead of weights; residual connections around every layer;
trained by Muon and AdamW instead of Nesterov's momentum; a full softmax instead of an adaptive one. What it cannot do:
see beyond its window, or choose by content what to look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.checks import check_share, check_whole
from lmzoo.neural.layers.causal_convolution import CausalConvolution
from lmzoo.neural.layers.normalization import rms_norm
from lmzoo.neural.layers.windows import lags_in_document, positions_in_document
from lmzoo.neural.network import Network, State
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.one_token.reader import register_reader
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.system.placement import Device

_TRAINING = TrainConfig(tokens=1_000_000)


@final
class Block(nn.Module):
    """A gated convolution of k tokens of width D with a residual connection: x + (X W + b) * sigmoid(X V + c)."""

    def __init__(self, d_model: int, size: int, dropout: float) -> None:
        super().__init__()
        self.convolution = CausalConvolution(size, d_model, 2 * d_model)  # W and V as one matrix
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, previous: Tensor, in_document: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the output of the layer (B, T, D) for T new tokens in each of B sequences.

        Also returns its inputs (B, k - 1, D) for the last k - 1 tokens, which the next call takes as `previous`. The
        arguments are explained in `lmzoo.neural.layers.windows.earlier_vectors`.
        """
        y, previous = self.convolution(rms_norm(x), previous, in_document)
        return x + self.dropout(F.glu(y, dim=2)), previous


@final
class GatedConvolutions(Network):
    """A stack of gated convolutions of k tokens with a tied output layer.

    The state of the network contains, for B sequences:

    - (B,): the number of tokens of the current document that were read;
    - (B, k - 1, D) for each layer: its inputs for the last k - 1 tokens.
    """

    def __init__(self, vocab_size: int, *, d_model: int, n_layers: int, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.blocks = nn.ModuleList(Block(d_model, width, dropout) for _ in range(n_layers))
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(d_model, d_model, bias=False)
        self.head = nn.Linear(d_model, vocab_size)
        self.head.weight = self.embedding.weight  # tied
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.embedding.weight, std=0.02)
        # Without a projection, a new network would predict that every token is repeated, as the output layer is tied.
        nn.init.normal_(self.projection.weight, std=d_model**-0.5)
        for name, parameter in self.blocks.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=(width * d_model) ** -0.5)
                nn.init.zeros_(parameter[:d_model])  # W = 0: every layer starts as the identity

    def initial_state(self, batch_size: int) -> State:
        n_read = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        d_model = self.embedding.embedding_dim
        previous = torch.zeros(batch_size, self.width - 1, d_model, device=self.device)
        return n_read, *[previous] * len(self.blocks)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        n_read, *inputs = state
        positions = positions_in_document(ids, n_read)  # (B, T)
        x = self.dropout(rms_norm(self.embedding(ids)))  # (B, T, D)
        in_document = lags_in_document(positions, self.width).to(x.dtype)  # (B, T, k - 1)
        new_inputs: list[Tensor] = []
        for block, previous in zip(self.blocks, inputs, strict=True):
            x, previous = block(x, previous, in_document)
            new_inputs.append(previous)
        return self.projection(rms_norm(x)), (positions[:, -1] + 1, *new_inputs)


register_reader(GatedConvolutions, "lmzoo.neural.one_token.gated_conv:read")


def gated_conv(
    vocab_size: int,
    *,
    d_model: int = 128,
    n_layers: int = 6,
    width: int = 4,
    dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
    device: Device = "cpu",
) -> NeuralLM:
    """Creates a gated convolutional network in which each layer sees `width` tokens of the layer below.

    All layers together see n_layers x (width - 1) + 1 tokens.
    """
    check_whole(1, d_model=d_model, n_layers=n_layers, width=width)
    check_share(dropout=dropout)
    architecture = {"d_model": d_model, "n_layers": n_layers, "width": width, "dropout": dropout}
    context_size = n_layers * (width - 1) + 1
    config = _TRAINING.changed(training)
    return NeuralLM(vocab_size, GatedConvolutions, architecture, config, context_size=context_size, device=device)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "gated_conv": {
        "quick": {
            "n_layers": 4,
            "training": {
                "tokens": 650_000, "batch_size": 16, "learning_rate": 1e-2, "weight_decay": 0.01,
                "optimizer": "muon", "sampled_softmax": 512,
            },
        },
        "ladder": {
            "d_model": 64, "n_layers": 6, "width": 5, "dropout": 0.0, "training": {"batch_size": 16},
        },
        "tiny": {
            "d_model": 16, "n_layers": 2, "width": 3, "dropout": 0.1,
            "training": {
                "tokens": 2000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2, "optimizer": "muon"
            },
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
