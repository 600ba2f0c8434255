"""Neural probabilistic language model (Bengio, Ducharme, Vincent, Jauvin 2003, JMLR 3, section 2).

Each token w has a learned vector C(w), and a small network reads the vectors of the last n - 1 tokens. Tokens that are
used alike get similar vectors, so what the model learns from one sentence carries over to similar sentences.

    x = (C(w_{t-1}), C(w_{t-2}), ..., C(w_{t-n+1}))
    y = b + W x + U tanh(d + H x)                      eq. 1; W = 0 without direct connections
    P(w_t | w_{t-1}, ..., w_{t-n+1}) = softmax(y)

Changed: trained by AdamW in batches instead of plain stochastic gradient descent; dropout (Srivastava et al. 2014).
What it cannot do: see beyond its window, or use what it learned at one position of the window at another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from lmzoo.checks import check_flag, check_share, check_whole
from lmzoo.neural.layers.windows import context_windows, shift_in
from lmzoo.neural.network import Network, State
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.one_token.reader import register_reader
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import EOT
from lmzoo.system.placement import Device

_TRAINING = TrainConfig(tokens=1_500_000)


@final
class NPLM(Network):
    """Bengio's network: the vectors of the last n - 1 tokens, a tanh layer and a softmax layer.

    The state of the network is the last n - 2 token ids of each sequence. With the next input token, they are the n - 1
    tokens from which a token is predicted.
    """

    def __init__(
        self, vocab_size: int, *, order: int, d_embed: int, d_hidden: int, direct: bool, dropout: float
    ) -> None:
        super().__init__()
        self.order, self.direct = order, direct
        n_inputs = (order - 1) * d_embed
        self.C = nn.Embedding(vocab_size, d_embed)
        self.H = nn.Linear(n_inputs, d_hidden)  # its bias is d
        self.dropout = nn.Dropout(dropout)
        # y = b + [U W] (tanh(d + H x), x): one matrix instead of two
        self.head = nn.Linear(d_hidden + (n_inputs if direct else 0), vocab_size)
        nn.init.normal_(self.C.weight, std=0.1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def initial_state(self, batch_size: int) -> State:
        return (torch.full((batch_size, self.order - 2), EOT, device=self.device),)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        (previous_ids,) = state
        x = self.C(context_windows(ids, previous_ids)).flatten(2)  # (B, T, (n - 1) d_embed)
        hidden = self.dropout(self.H(x).tanh())  # (B, T, d_hidden)
        if self.direct:
            hidden = torch.cat([hidden, x], dim=2)
        return hidden, (shift_in(previous_ids, ids),)

    def _token_layers(self) -> list[nn.Module]:
        return [self.C, self.head]


register_reader(NPLM, "lmzoo.neural.one_token.nplm:read")


def nplm(
    vocab_size: int,
    *,
    order: int = 5,
    d_embed: int = 64,
    d_hidden: int = 128,
    direct: bool = False,
    dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
    device: Device = "cpu",
) -> NeuralLM:
    """Creates Bengio's neural probabilistic language model, for a vocabulary of `vocab_size` tokens.

    The model predicts each token from the `order` - 1 tokens before it. If `direct` is True, the vectors of these
    tokens are also connected to the output layer directly.
    """
    check_whole(2, order=order)
    check_whole(1, d_embed=d_embed, d_hidden=d_hidden)
    check_share(dropout=dropout)
    check_flag(direct=direct)
    architecture = {
        "order": order, "d_embed": d_embed, "d_hidden": d_hidden, "direct": direct, "dropout": dropout
    }  # fmt: skip
    config = _TRAINING.changed(training)
    return NeuralLM(vocab_size, NPLM, architecture, config, context_size=order - 1, device=device)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "nplm": {
        "quick": {
            "training": {
                "tokens": 900_000, "chunk_size": 32, "learning_rate": 1.5e-2, "weight_decay": 0.01,
                "optimizer": "muon", "sampled_softmax": 512,
            },
        },
        "standard": {
            "d_embed": 128, "d_hidden": 256, "dropout": 0.2,
            "training": {"tokens": 4_000_000, "chunk_size": 32, "learning_rate": 6e-3},
        },
        "thorough": {"d_embed": 128, "d_hidden": 512, "dropout": 0.3, "training": {"tokens": 20_000_000}},
        "ladder": {"d_embed": 32, "d_hidden": 64, "dropout": 0.0, "training": {"learning_rate": 1e-2}},
        "ladder/standard": {"training": {"chunk_size": 64}},
        "ladder/thorough": {"training": {"chunk_size": 64}},
        "tiny": {
            "order": 4, "d_embed": 8, "d_hidden": 16, "dropout": 0.1,
            "training": {"tokens": 2000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2},
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
