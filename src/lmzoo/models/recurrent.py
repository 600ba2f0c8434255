"""Recurrent networks: a hidden state is updated at every token and carries what the network learns to keep.

    rnn    h_t = tanh(W x_t + U h_{t-1} + b)                                    Elman 1990; Mikolov et al. 2010
    lstm   i, f, o = sigmoid(W x_t + U h_{t-1} + b),  g = tanh(the same form)   Hochreiter & Schmidhuber 1997,
           c_t = f * c_{t-1} + i * g,  h_t = o * tanh(c_t)                      forget gate: Gers et al. 2000
    gru    r, z = sigmoid(W x_t + U h_{t-1} + b)                                Cho et al. 2014, in the form that
           n = tanh(W x_t + b + r * (U h_{t-1} + b'))                           cuDNN and torch compute
           h_t = z * h_{t-1} + (1 - z) * n

With `mogrifier` = r, the input x_t and the previous output h_{t-1} gate each other in r rounds before each time step
(Melis et al. 2020; `lmzoo.neural.layers.mogrifier`), so that a token is a different input in a different context.

With `maxent_order` = n, the weights of a maximum-entropy model on n-grams are added to the logits, and learned together
with the network (RNNME, Mikolov et al. 2011; `lmzoo.neural.layers.direct_connections`). As these weights can memorise
frequent phrases, the network learns mainly what n-grams cannot predict.

The functions `rnn_step`, `lstm_step` and `gru_step` below are these equations. Training runs the same steps as one
fused operation, `lmzoo.neural.layers.recurrence`, which the tests compare with them.

The tanh network overwrites its whole state at every step, so its gradients vanish or explode with distance; the gates
of the other two can keep a value. Against overfitting there is dropout on the input and output of each layer, with the
same mask at all steps of a chunk if `variational` (Gal & Ghahramani 2016), and on U (`weight_dropout`; Merity et al.
2018). What none of them can do: read a text in parallel, or keep more than fits in one vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.checks import check_flag, check_share, check_whole
from lmzoo.neural.layers.cross_entropy import weighted_sum
from lmzoo.neural.layers.direct_connections import DirectConnections
from lmzoo.neural.layers.mogrifier import mogrified_recurrence, mogrify
from lmzoo.neural.layers.recurrence import Cell, GRUCell, LSTMCell, RNNCell, recurrence
from lmzoo.neural.layers.windows import context_windows, shift_in
from lmzoo.neural.network import Network, State
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.sampled import SampledLayer
from lmzoo.neural.one_token.reader import register_reader
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import EOT
from lmzoo.system.placement import Device

_TRAINING = TrainConfig(tokens=1_000_000)
_BLOCK_ELEMENTS = 1 << 21
"""Number of logits that are computed at a time if there are weights of n-grams.

The number is large because the backward pass computes a gradient of all these weights for each block of logits.
"""

_CELLS: dict[str, type[Cell]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}


def rnn_step(layer: Layer, x: Tensor, state: State) -> State:
    """Computes one time step of a tanh recurrent layer for B inputs `x` (B, D) of width D.

    Returns the new state (h,).
    """
    (h,) = state
    h = torch.tanh(layer.W(x) + layer.U(h))
    return (h,)


def lstm_step(layer: Layer, x: Tensor, state: State) -> State:
    """Computes one time step of an LSTM layer for B inputs `x` (B, D) of width D.

    Returns the new state: the output h and the cell state c.
    """
    h, c = state
    i, f, o, g = (layer.W(x) + layer.U(h)).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return h, c


def gru_step(layer: Layer, x: Tensor, state: State) -> State:
    """Computes one time step of a GRU layer for B inputs `x` (B, D) of width D.

    Returns the new state (h,).
    """
    (h,) = state
    (W_r, W_z, W_n), (U_r, U_z, U_n) = layer.W(x).chunk(3, dim=1), layer.U(h).chunk(3, dim=1)
    r, z = torch.sigmoid(W_r + U_r), torch.sigmoid(W_z + U_z)
    n = torch.tanh(W_n + r * (U_n + layer.b))
    h = z * h + (1 - z) * n
    return (h,)


@final
class Layer(nn.Module):
    """A recurrent layer of H hidden units on inputs of width D.

    The weights of its G gates are stacked: W (G H, D) for the input and U (G H, H) for the previous output. With
    `n_rounds` above 0, Mogrifier rounds change the input and the previous output before each time step.
    """

    def __init__(self, cell: str, d_input: int, d_hidden: int, n_rounds: int = 0) -> None:
        super().__init__()
        self.cell = _CELLS[cell]
        self.W = nn.Linear(d_input, self.cell.n_gates * d_hidden)
        self.U = nn.Linear(d_hidden, self.cell.n_gates * d_hidden, bias=False)
        # b' of the GRU, the only bias that cannot be part of W's bias, as it is multiplied by r
        self.b = nn.Parameter(torch.zeros(d_hidden)) if cell == "gru" else None
        self.rounds = nn.ModuleList(
            nn.Linear(d_input, d_hidden, bias=False) if index % 2 else nn.Linear(d_hidden, d_input, bias=False)
            for index in range(n_rounds)
        )
        for matrix in self._round_matrices():
            nn.init.zeros_(matrix)  # at first, the rounds change nothing
        bound = d_hidden**-0.5
        nn.init.uniform_(self.W.weight, -bound, bound)
        for gate in self.U.weight.data.split(d_hidden):
            nn.init.orthogonal_(gate)
        nn.init.zeros_(self.W.bias)
        if cell == "lstm":  # the forget gate starts open (Gers et al.)
            nn.init.ones_(self.W.bias[d_hidden : 2 * d_hidden])

    def forward(self, x: Tensor, starts: Tensor, state: State, weight_dropout: float) -> tuple[Tensor, State]:
        """Runs the layer over T time steps of B sequences: returns its outputs (T, B, H) and its last state.

        `x` (T, B, D) is the input. Where `starts` (T, B) is True a document starts, and the state is reset.
        `weight_dropout` is the dropout rate of U in training.
        """
        U = F.dropout(self.U.weight, weight_dropout, self.training)
        bias = None if self.b is None else F.pad(self.b, (2 * len(self.b), 0))
        if not self.rounds:
            return recurrence(self.cell, self.W(x), U, bias, starts, state)
        matrices = self._round_matrices()
        return mogrified_recurrence(self.cell, x, self.W.weight, self.W.bias, U, bias, matrices, starts, state)

    def mogrified(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Applies the Mogrifier rounds of the layer, if any, to inputs `x` (.., D) and previous outputs `h` (.., H)."""
        return mogrify(x, h, self._round_matrices())

    def _round_matrices(self) -> list[Tensor]:
        return [layer.weight for layer in cast("list[nn.Linear]", list(self.rounds))]


class Recurrent(Network):
    """A recurrent network: token embeddings, recurrent layers, a projection and an output layer tied to the embeddings.

    Its state is the state of each layer in turn: h (B, H) for B sequences and H hidden units, and for an LSTM also c.
    If n = `maxent_order` is at least 2, the network has direct connections from n-grams. Its state then ends with the
    last n - 2 token ids, and each hidden vector with the last n - 1 token ids.
    """

    def __init__(
        self, vocab_size: int, *, cell: str, d_embed: int, d_hidden: int, n_layers: int, dropout: float,
        variational: bool, weight_dropout: float, mogrifier: int, maxent_order: int = 0, maxent_size: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.d_hidden, self.cell = d_hidden, _CELLS[cell]
        self.dropout, self.variational, self.weight_dropout = dropout, variational, weight_dropout
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.layers = nn.ModuleList(
            Layer(cell, d_hidden if layer else d_embed, d_hidden, mogrifier) for layer in range(n_layers)
        )
        self.projection = nn.Linear(d_hidden, d_embed)
        self.head = nn.Linear(d_embed, vocab_size)
        self.maxent = DirectConnections(maxent_order, maxent_size, vocab_size) if maxent_order > 1 else None
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.zeros_(self.head.bias)
        self.head.weight = self.embedding.weight  # tied (Press & Wolf 2017)

    def initial_state(self, batch_size: int) -> State:
        n_parts = len(self.layers) * self.cell.state_size
        state = tuple(torch.zeros(batch_size, self.d_hidden, device=self.device) for _ in range(n_parts))
        if self.maxent is None:
            return state
        return *state, torch.full((batch_size, self.maxent.n_lengths - 1), EOT, device=self.device)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        starts = (ids == EOT).t()  # (T, B)
        x = self._dropped(self.embedding(ids.t()))  # (T, B, d_embed)
        new_state: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            start = index * self.cell.state_size
            x, layer_state = layer(x, starts, state[start : start + self.cell.state_size], self.weight_dropout)
            x = self._dropped(x)  # (T, B, d_hidden)
            new_state += layer_state
        hidden = self.projection(x).transpose(0, 1)  # (B, T, d_embed)
        if self.maxent is None:
            return hidden, tuple(new_state)
        windows = context_windows(ids, state[-1])  # (B, T, n - 1)
        hidden = torch.cat([hidden, windows.to(torch.float32)], dim=2)  # ids below 2^24 are exact
        return hidden, (*new_state, shift_in(state[-1], ids))

    def logits(self, hidden: Tensor) -> Tensor:
        if self.maxent is None:
            return super().logits(hidden)
        vectors, windows = self._split(hidden)
        return super().logits(vectors) + self.maxent(windows)

    def cross_entropy(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        if self.maxent is None:
            return super().cross_entropy(hidden, targets, weights)
        return weighted_sum(self.surprisals(hidden, targets), weights)

    def surprisals(self, hidden: Tensor, targets: Tensor) -> Tensor:
        if self.maxent is None:
            return super().surprisals(hidden, targets)
        size = max(1, _BLOCK_ELEMENTS // self.vocab_size)
        blocks = zip(hidden.split(size), targets.split(size), strict=True)
        return torch.cat([F.cross_entropy(self.logits(part), ids, reduction="none") for part, ids in blocks])

    def sampled_cross_entropy(self, hidden: Tensor, layer: SampledLayer, weights: Tensor | None) -> Tensor:
        if self.maxent is None:
            return super().sampled_cross_entropy(hidden, layer, weights)
        vectors, windows = self._split(hidden)
        logits = F.linear(vectors, layer.weight) + layer.bias + self.maxent(windows, layer.token_ids)
        return weighted_sum(F.cross_entropy(logits, layer.rows, reduction="none"), weights)

    def _split(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Splits hidden vectors (.., D + n - 1) into those of the network (.., D) and token ids (.., n - 1)."""
        d_embed = self.head.in_features
        return hidden[..., :d_embed], hidden[..., d_embed:].long()

    def _token_layers(self) -> list[nn.Module]:
        layers = super()._token_layers()
        return layers if self.maxent is None else [*layers, self.maxent]  # the size of its table depends on V, too

    def _dropped(self, x: Tensor) -> Tensor:
        """Applies dropout to `x` (T, B, D), for T time steps of B sequences of width D.

        With `variational` the mask is the same at all time steps (Gal & Ghahramani 2016).
        """
        if not self.variational:
            return F.dropout(x, self.dropout, self.training)
        return x * F.dropout(torch.ones_like(x[:1]), self.dropout, self.training)


_READER = "lmzoo.neural.one_token.recurrent"
register_reader(Recurrent, f"{_READER}:read", f"{_READER}:add_to_logits")


def _factory(cell: str, description: str):
    """Returns the function that creates a recurrent language model with the given type of cell.

    `cell` is "rnn", "lstm" or "gru". The docstring of the returned function begins with `description`.
    """

    def create(
        vocab_size: int,
        *,
        d_embed: int = 128,
        d_hidden: int = 256,
        n_layers: int = 1,
        dropout: float = 0.0,
        variational: bool = False,
        weight_dropout: float = 0.0,
        mogrifier: int = 0,
        maxent_order: int = 0,
        maxent_size: int = 1 << 22,
        training: TrainConfig | Mapping[str, Any] | None = None,
        device: Device = "cpu",
    ) -> NeuralLM:
        check_whole(1, d_embed=d_embed, d_hidden=d_hidden, n_layers=n_layers)
        check_share(dropout=dropout, weight_dropout=weight_dropout)
        check_flag(variational=variational)
        check_whole(0, mogrifier=mogrifier, maxent_order=maxent_order)
        check_whole(1, maxent_size=maxent_size)
        architecture = {
            "cell": cell, "d_embed": d_embed, "d_hidden": d_hidden, "n_layers": n_layers, "dropout": dropout,
            "variational": variational, "weight_dropout": weight_dropout, "mogrifier": mogrifier,
        }  # fmt: skip
        if maxent_order > 1:
            architecture |= {"maxent_order": maxent_order, "maxent_size": maxent_size}
        config = _TRAINING.changed(training)
        return NeuralLM(vocab_size, Recurrent, architecture, config, context_size=None, device=device)

    create.__name__ = create.__qualname__ = cell
    create.__doc__ = f"""{description}

    `mogrifier` is the number of rounds in which the input of a time step and the previous output gate each other (Melis
    et al. 2020); 0 = none. `maxent_order` is the length of the longest n-grams whose weights are added to the logits
    (RNNME, Mikolov et al. 2011); 0 or 1 = none. The weights are stored in a hash table of about `maxent_size` elements.
    """
    return create


rnn = _factory("rnn", "Creates a language model with Elman's tanh recurrent network (Elman 1990; Mikolov et al. 2010).")
lstm = _factory("lstm", "Creates a language model with long short-term memory cells (Sundermeyer et al. 2012).")
gru = _factory("gru", "Creates a language model with gated recurrent units (Cho et al. 2014).")


# Some tasks of the ladder need gradients from 25 words back: with chunks of 32 tokens, no cell learned agreement-25.
_LADDER: dict[str, dict[str, Any]] = {
    "ladder": {"d_embed": 32, "d_hidden": 64, "dropout": 0.0, "training": {"learning_rate": 1e-2}},
    "ladder/standard": {"training": {"chunk_size": 64}},
    "ladder/thorough": {"training": {"chunk_size": 64}},
}
_QUICK: dict[str, Any] = {
    "chunk_size": 32, "learning_rate": 1.5e-2, "weight_decay": 0.01, "optimizer": "muon", "sampled_softmax": 512
}  # fmt: skip
_TINY: dict[str, Any] = {
    "d_embed": 8, "d_hidden": 16, "dropout": 0.1,
    "training": {"tokens": 2000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2},
}  # fmt: skip

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "rnn": {
        "quick": {"training": {"tokens": 500_000, **_QUICK}},
        "standard": {
            "d_embed": 256, "d_hidden": 512, "dropout": 0.2, "training": {"tokens": 3_000_000, "chunk_size": 32}
        },
        "thorough": {"d_embed": 512, "d_hidden": 1024, "dropout": 0.3, "training": {"tokens": 12_000_000}},
        "tiny": _TINY,
        **_LADDER,
    },
    "lstm": {
        "quick": {"training": {"tokens": 600_000, **_QUICK}},
        "standard": {
            "d_embed": 256, "d_hidden": 512, "dropout": 0.3,
            "training": {"tokens": 2_500_000, "chunk_size": 32, "learning_rate": 6e-3},
        },
        "thorough": {"d_embed": 512, "d_hidden": 1024, "dropout": 0.5, "training": {"tokens": 8_000_000}},
        "tiny": _TINY | {"n_layers": 2},
        **_LADDER,
    },
    "gru": {
        "quick": {"training": {"tokens": 1_100_000, **_QUICK}},
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
