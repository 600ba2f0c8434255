"""Recurrent networks: a hidden vector is updated at every token and carries what the network learns to keep.

    rnn    h_t = tanh(W x_t + U h_{t-1} + b)                                    Elman 1990; Mikolov et al. 2010
    lstm   i, f, o = sigmoid(W x_t + U h_{t-1} + b),  g = tanh(the same form)   Hochreiter & Schmidhuber 1997,
           c_t = f * c_{t-1} + i * g,  h_t = o * tanh(c_t)                      forget gate: Gers et al. 2000
    gru    r, z = sigmoid(W x_t + U h_{t-1} + b)                                Cho et al. 2014, in the form that
           n = tanh(W x_t + b + r * (U h_{t-1} + b'))                           cuDNN and torch compute
           h_t = z * h_{t-1} + (1 - z) * n

The RNN overwrites its memory at every step, so its gradients vanish or explode with distance; the gates of the other
two let a value stay. What none of them can do: read a text in parallel, or keep more than fits in one vector.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from lmzoo.checks import check_share, check_whole
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.settings import TrainConfig
from lmzoo.stream import EOT

_TRAINING = TrainConfig(tokens=1_000_000)


class _Cell(nn.Module):
    """One recurrent layer. Its weights are stacked over `n_gates`, as in torch: W (n_gates H, D), U (n_gates H, H)."""

    n_gates: int
    n_memories = 1

    def __init__(self, d_input: int, d_hidden: int) -> None:
        super().__init__()
        self.W = nn.Linear(d_input, self.n_gates * d_hidden)
        self.U = nn.Linear(d_hidden, self.n_gates * d_hidden, bias=False)
        bound = d_hidden**-0.5
        nn.init.uniform_(self.W.weight, -bound, bound)
        for gate in self.U.weight.data.split(d_hidden):
            nn.init.orthogonal_(gate)
        nn.init.zeros_(self.W.bias)

    def forward(self, x: Tensor, keep: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """x (B, T, D) -> (B, T, H) and the memory after it; where keep (B, T, 1) is 0, the memory is forgotten."""
        # All inputs in one product. In float32, so that under autocast the sums stay exact; `unbind` rather than
        # indexing, because the gradient of each index would be a tensor of the whole size.
        inputs = self.W(x).float().unbind(1)
        outputs = []
        for input_t, keep_t in zip(inputs, keep.unbind(1), strict=True):
            memory = self.step(input_t, tuple(part * keep_t for part in memory))
            outputs.append(memory[0])
        return torch.stack(outputs, dim=1), memory

    @abstractmethod
    def step(self, x: Tensor, memory: Memory) -> Memory:
        """W x + b (B, n_gates H) and the memory -> the new memory, whose first part is the output (B, H)."""


@final
class _RNNCell(_Cell):
    n_gates = 1

    def step(self, x: Tensor, memory: Memory) -> Memory:
        (h,) = memory
        return ((x + self.U(h)).tanh(),)


@final
class _LSTMCell(_Cell):
    n_gates = 4  # i, f, o, g
    n_memories = 2

    def __init__(self, d_input: int, d_hidden: int) -> None:
        super().__init__(d_input, d_hidden)
        nn.init.ones_(self.W.bias[d_hidden : 2 * d_hidden])  # remember, until there is a reason not to (Gers et al.)

    def step(self, x: Tensor, memory: Memory) -> Memory:
        h, c = memory
        gates, g = (x + self.U(h)).split([3 * h.shape[1], h.shape[1]], dim=1)
        i, f, o = gates.sigmoid().chunk(3, dim=1)
        c = f * c + i * g.tanh()
        return o * c.tanh(), c


@final
class _GRUCell(_Cell):
    n_gates = 3  # r, z, n

    def __init__(self, d_input: int, d_hidden: int) -> None:
        super().__init__(d_input, d_hidden)
        self.b = nn.Parameter(torch.zeros(d_hidden))  # b': the only bias that does not join W's, as r comes between

    def step(self, x: Tensor, memory: Memory) -> Memory:
        (h,) = memory
        sizes = [2 * h.shape[1], h.shape[1]]
        (x_gates, x_n), (h_gates, h_n) = x.split(sizes, dim=1), self.U(h).split(sizes, dim=1)
        r, z = (x_gates + h_gates).sigmoid().chunk(2, dim=1)
        n = (x_n + r * (h_n + self.b)).tanh()
        return (n + z * (h - n),)


_CELLS: dict[str, type[_Cell]] = {"rnn": _RNNCell, "lstm": _LSTMCell, "gru": _GRUCell}


@final
class Recurrent(Network):
    """Vectors of the tokens -> recurrent layers -> a vector of the same width, held against those of all tokens."""

    def __init__(
        self, vocab_size: int, *, cell: str, d_embed: int, d_hidden: int, n_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.d_hidden = d_hidden
        make = _CELLS[cell]
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.n_memories = make.n_memories
        self.cells = nn.ModuleList(make(d_hidden if layer else d_embed, d_hidden) for layer in range(n_layers))
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(d_hidden, d_embed)
        self.head = nn.Linear(d_embed, vocab_size)
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.zeros_(self.head.bias)
        self.head.weight = self.embedding.weight  # tied (Press & Wolf 2017)

    def initial_memory(self, batch_size: int) -> Memory:
        n_parts = len(self.cells) * self.n_memories
        return tuple(torch.zeros(batch_size, self.d_hidden, device=self.device) for _ in range(n_parts))

    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        keep = (ids != EOT).float()[:, :, None]  # (B, T, 1)
        x = self.dropout(self.embedding(ids))  # (B, T, d_embed)
        after: list[Tensor] = []
        for layer, cell in enumerate(self.cells):
            own = memory[layer * self.n_memories : (layer + 1) * self.n_memories]
            x, new = cell(x, keep, own)  # (B, T, d_hidden)
            x = self.dropout(x)
            after += new
        return self.projection(x), tuple(after)


def _recurrent(
    cell: str, vocab_size: int, d_embed: int, d_hidden: int, n_layers: int, dropout: float,
    training: TrainConfig | Mapping[str, Any] | None, own_training: TrainConfig,
) -> NeuralLM:  # fmt: skip
    check_whole(1, d_embed=d_embed, d_hidden=d_hidden, n_layers=n_layers)
    check_share(dropout=dropout)
    architecture = {
        "cell": cell, "d_embed": d_embed, "d_hidden": d_hidden, "n_layers": n_layers, "dropout": dropout
    }  # fmt: skip
    return NeuralLM(vocab_size, Recurrent, architecture, own_training.changed(training), context_size=None)


def rnn(
    vocab_size: int,
    *,
    d_embed: int = 128,
    d_hidden: int = 256,
    n_layers: int = 1,
    dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """Elman's network, trained by truncated back-propagation through time."""
    return _recurrent("rnn", vocab_size, d_embed, d_hidden, n_layers, dropout, training, _TRAINING)


def lstm(
    vocab_size: int,
    *,
    d_embed: int = 128,
    d_hidden: int = 256,
    n_layers: int = 1,
    dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """Long short-term memory with forget gates, as Sundermeyer et al. (2012) used it for language models."""
    return _recurrent("lstm", vocab_size, d_embed, d_hidden, n_layers, dropout, training, _TRAINING)


def gru(
    vocab_size: int,
    *,
    d_embed: int = 128,
    d_hidden: int = 256,
    n_layers: int = 1,
    dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """The gated recurrent unit."""
    return _recurrent("gru", vocab_size, d_embed, d_hidden, n_layers, dropout, training, _TRAINING)
