"""Recurrent networks: a hidden vector is updated at every token and carries what the network learns to keep.

    rnn    h_t = tanh(W x_t + U h_{t-1} + b)                                    Elman 1990; Mikolov et al. 2010
    lstm   i, f, o = sigmoid(W x_t + U h_{t-1} + b),  g = tanh(the same form)   Hochreiter & Schmidhuber 1997,
           c_t = f * c_{t-1} + i * g,  h_t = o * tanh(c_t)                      forget gate: Gers et al. 2000
    gru    r, z = sigmoid(W x_t + U h_{t-1} + b)                                Cho et al. 2014, in the form that
           n = tanh(W x_t + b + r * (U h_{t-1} + b'))                           cuDNN and torch compute
           h_t = z * h_{t-1} + (1 - z) * n

The RNN overwrites its memory at every step, so its gradients vanish or explode with distance; the gates of the other
two let a value stay. Against learning by heart there is dropout on what enters and leaves each layer, of the same
values at all steps of a chunk if `variational` (Gal & Ghahramani 2016), and on U (`weight_dropout`; Merity et al.
2018). What none of them can do: read a text in parallel, or keep more than fits in one vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.checks import check_flag, check_share, check_whole
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.recurrence import Cell, GRUCell, LSTMCell, RNNCell, recurrence
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.single import Array, RowMemory, Weights, affine
from lmzoo.stream import EOT

_TRAINING = TrainConfig(tokens=1_000_000)

_CELLS: dict[str, type[Cell]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}


@final
class Layer(nn.Module):
    """One recurrent layer. Its weights are stacked over G gates, as in torch: W (G H, D), U (G H, H)."""

    def __init__(self, cell: str, d_input: int, d_hidden: int) -> None:
        super().__init__()
        self.cell = _CELLS[cell]
        self.W = nn.Linear(d_input, self.cell.n_gates * d_hidden)
        self.U = nn.Linear(d_hidden, self.cell.n_gates * d_hidden, bias=False)
        # b' of the GRU: the only bias that does not join W's, as r comes between
        self.b = nn.Parameter(torch.zeros(d_hidden)) if cell == "gru" else None
        bound = d_hidden**-0.5
        nn.init.uniform_(self.W.weight, -bound, bound)
        for gate in self.U.weight.data.split(d_hidden):
            nn.init.orthogonal_(gate)
        nn.init.zeros_(self.W.bias)
        if cell == "lstm":  # remember, until there is a reason not to (Gers et al.)
            nn.init.ones_(self.W.bias[d_hidden : 2 * d_hidden])

    def forward(self, x: Tensor, starts: Tensor, memory: Memory, weight_dropout: float) -> tuple[Tensor, Memory]:
        """x (T, B, D) -> (T, B, H) and the memory after it; where `starts` (T, B), the memory is forgotten."""
        U = F.dropout(self.U.weight, weight_dropout, self.training)
        bias = None if self.b is None else F.pad(self.b, (2 * len(self.b), 0))
        return recurrence(self.cell, self.W(x), U, bias, starts, memory)

    def read_one(self, weights: Weights, x: Array, memory: Sequence[Array]) -> list[Array]:
        """x (D,), going on in a document -> the memory after it, which begins with the output (1, H)."""
        u = affine(memory[0][0], weights.U)
        if self.b is not None:
            u[-len(weights.b) :] += weights.b
        x, u = affine(x, weights.W)[None], u[None]
        after, _ = self.cell.step(torch.from_numpy(x), torch.from_numpy(u), tuple(map(torch.from_numpy, memory)))
        return [part.numpy() for part in after]


@final
class Recurrent(Network):
    """Vectors of the tokens -> recurrent layers -> a vector of the same width, held against those of all tokens."""

    def __init__(
        self, vocab_size: int, *, cell: str, d_embed: int, d_hidden: int, n_layers: int, dropout: float,
        variational: bool, weight_dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.d_hidden, self.n_memories = d_hidden, _CELLS[cell].n_memories
        self.dropout, self.variational, self.weight_dropout = dropout, variational, weight_dropout
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.layers = nn.ModuleList(Layer(cell, d_hidden if layer else d_embed, d_hidden) for layer in range(n_layers))
        self.projection = nn.Linear(d_hidden, d_embed)
        self.head = nn.Linear(d_embed, vocab_size)
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.zeros_(self.head.bias)
        self.head.weight = self.embedding.weight  # tied (Press & Wolf 2017)

    def initial_memory(self, batch_size: int) -> Memory:
        n_parts = len(self.layers) * self.n_memories
        return tuple(torch.zeros(batch_size, self.d_hidden, device=self.device) for _ in range(n_parts))

    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        starts = (ids == EOT).t()  # (T, B)
        x = self._dropped(self.embedding(ids.t()))  # (T, B, d_embed)
        after: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            own = memory[number * self.n_memories : (number + 1) * self.n_memories]
            x, new = layer(x, starts, own, self.weight_dropout)  # (T, B, d_hidden)
            x = self._dropped(x)
            after += new
        return self.projection(x).transpose(0, 1), tuple(after)

    def read_one(self, weights: Weights, token_id: int, memory: RowMemory) -> tuple[Array, RowMemory] | None:
        if token_id == EOT:
            return None
        x = weights.embedding.weight[token_id]
        after: list[Array] = []
        for number, layer in enumerate(cast(Iterable[Layer], self.layers)):
            own = memory[number * self.n_memories : (number + 1) * self.n_memories]
            new = layer.read_one(weights.layers[number], x, own)
            x = new[0][0]
            after += new
        return affine(x, weights.projection), after

    def _dropped(self, x: Tensor) -> Tensor:
        """Dropout on x (T, B, D): of single values, or of the same ones at all times (Gal & Ghahramani 2016)."""
        if not self.variational:
            return F.dropout(x, self.dropout, self.training)
        return x * F.dropout(torch.ones_like(x[:1]), self.dropout, self.training)


def _recurrent(
    cell: str, vocab_size: int, d_embed: int, d_hidden: int, n_layers: int, dropout: float,
    variational: bool, weight_dropout: float, training: TrainConfig | Mapping[str, Any] | None,
) -> NeuralLM:  # fmt: skip
    check_whole(1, d_embed=d_embed, d_hidden=d_hidden, n_layers=n_layers)
    check_share(dropout=dropout, weight_dropout=weight_dropout)
    check_flag(variational=variational)
    architecture = {
        "cell": cell, "d_embed": d_embed, "d_hidden": d_hidden, "n_layers": n_layers, "dropout": dropout,
        "variational": variational, "weight_dropout": weight_dropout,
    }  # fmt: skip
    return NeuralLM(vocab_size, Recurrent, architecture, _TRAINING.changed(training), context_size=None)


def rnn(
    vocab_size: int,
    *,
    d_embed: int = 128,
    d_hidden: int = 256,
    n_layers: int = 1,
    dropout: float = 0.0,
    variational: bool = False,
    weight_dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """Elman's network, trained by truncated back-propagation through time."""
    return _recurrent("rnn", vocab_size, d_embed, d_hidden, n_layers, dropout, variational, weight_dropout, training)


def lstm(
    vocab_size: int,
    *,
    d_embed: int = 128,
    d_hidden: int = 256,
    n_layers: int = 1,
    dropout: float = 0.0,
    variational: bool = False,
    weight_dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """Long short-term memory with forget gates, as Sundermeyer et al. (2012) used it for language models."""
    return _recurrent("lstm", vocab_size, d_embed, d_hidden, n_layers, dropout, variational, weight_dropout, training)


def gru(
    vocab_size: int,
    *,
    d_embed: int = 128,
    d_hidden: int = 256,
    n_layers: int = 1,
    dropout: float = 0.0,
    variational: bool = False,
    weight_dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """The gated recurrent unit."""
    return _recurrent("gru", vocab_size, d_embed, d_hidden, n_layers, dropout, variational, weight_dropout, training)


# Some tasks of the ladder need gradients from 25 words back: with chunks of 32 tokens, no cell learned agreement-25.
_LADDER: dict[str, dict[str, Any]] = {
    "ladder": {"d_embed": 32, "d_hidden": 64, "dropout": 0.0, "training": {"learning_rate": 1e-2}},
    "ladder/standard": {"training": {"chunk_size": 64}},
    "ladder/thorough": {"training": {"chunk_size": 64}},
}
_TINY: dict[str, Any] = {
    "d_embed": 8, "d_hidden": 16, "dropout": 0.1,
    "training": {"tokens": 4000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2},
}  # fmt: skip

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "rnn": {
        "quick": {"training": {"tokens": 700_000, "chunk_size": 32, "learning_rate": 1e-2, "weight_decay": 0.01}},
        "standard": {
            "d_embed": 256, "d_hidden": 512, "dropout": 0.2, "training": {"tokens": 3_000_000, "chunk_size": 32}
        },
        "thorough": {"d_embed": 512, "d_hidden": 1024, "dropout": 0.3, "training": {"tokens": 12_000_000}},
        "tiny": _TINY,
        **_LADDER,
    },
    "lstm": {
        "quick": {"training": {"tokens": 700_000, "chunk_size": 32, "learning_rate": 1.5e-2, "weight_decay": 0.01}},
        "standard": {
            "d_embed": 256, "d_hidden": 512, "dropout": 0.3,
            "training": {"tokens": 2_500_000, "chunk_size": 32, "learning_rate": 6e-3},
        },
        "thorough": {"d_embed": 512, "d_hidden": 1024, "dropout": 0.5, "training": {"tokens": 8_000_000}},
        "tiny": _TINY | {"n_layers": 2},
        **_LADDER,
    },
    "gru": {
        "quick": {"training": {"tokens": 700_000, "chunk_size": 32, "learning_rate": 1.5e-2, "weight_decay": 0.01}},
        "standard": {
            "d_embed": 256, "d_hidden": 512, "dropout": 0.3,
            "training": {"tokens": 2_500_000, "chunk_size": 32, "learning_rate": 6e-3},
        },
        "thorough": {"d_embed": 512, "d_hidden": 1024, "dropout": 0.5, "training": {"tokens": 8_000_000}},
        "tiny": _TINY,
        **_LADDER,
    },
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
