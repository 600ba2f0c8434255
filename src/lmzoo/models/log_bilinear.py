"""Log-bilinear model (Mnih & Hinton 2007): the vector of the next token is a linear function of those before it.

    q = C_1 r(w_{t-1}) + ... + C_{n-1} r(w_{t-n+1})       section 4; r(w) is the vector of token w

    combination   "full": a matrix C_i for each position (2007); "diagonal": a vector of weights (Mnih & Teh 2012);
                  "mean": C_i = I / (n - 1), which forgets the order, as in CBOW (Mikolov et al. 2013)
    output        "softmax": P(w) = softmax(R q + b), where R is the table of the vectors r(w)
                  "tree": P(w) is a product of sigmoids along a path in a binary tree (Mnih & Hinton 2008)

This is the model of Bengio et al. (2003) without its hidden layer; word2vec simplified it further. The tree is learned
from the training text before training: classes of tokens by exchange (`lmzoo.models.class_ngram.tree`), merged to a
tree over all tokens. It makes training on large vocabularies fast, and its distribution is exact.

Changed: trained by AdamW; the tree is learned from classes instead of random vectors. What it cannot do: see beyond its
window, or let one token of the context change what another means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from lmzoo.checks import check_choice, check_share, check_whole
from lmzoo.errors import ConfigurationError
from lmzoo.neural.layers.cross_entropy import weighted_sum
from lmzoo.neural.layers.tree_softmax import TreeSoftmax
from lmzoo.neural.layers.windows import context_windows, shift_in
from lmzoo.neural.network import Network, ParameterGroups, State
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.placement import Device

_TRAINING = TrainConfig(tokens=1_500_000)

_N_CLASSES = 50
"""Number of classes from which the tree is made."""


@final
class Combination(nn.Module):
    """The sum C_1 x_1 + ... + C_m x_m of m vectors of width D; `kind` is the form of C: full, diagonal or mean."""

    def __init__(self, kind: str, n_vectors: int, width: int) -> None:
        super().__init__()
        self.matrices = nn.Linear(n_vectors * width, width, bias=False) if kind == "full" else None
        self.weights = nn.Parameter(torch.empty(n_vectors, width)) if kind == "diagonal" else None
        if self.matrices is not None:
            nn.init.normal_(self.matrices.weight, std=(n_vectors * width) ** -0.5)
        if self.weights is not None:
            nn.init.constant_(self.weights, 1 / n_vectors)

    def forward(self, vectors: Tensor) -> Tensor:
        """Returns the sums (B, T, D) for the vectors (B, T, m, D)."""
        if self.matrices is not None:
            return self.matrices(vectors.flatten(2))
        return vectors.mean(2) if self.weights is None else (vectors * self.weights).sum(2)


@final
class LogBilinear(Network):
    """The log-bilinear network: the vectors of the last n - 1 tokens, a linear combination and an output layer.

    The state of the network is the last n - 2 token ids of each sequence.
    """

    def __init__(
        self, vocab_size: int, *, order: int, d_embed: int, combination: str, output: str, dropout: float
    ) -> None:
        super().__init__()
        self.order = order
        self.embedding = nn.Embedding(vocab_size, d_embed)
        self.combination = Combination(combination, order - 1, d_embed)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.tree = TreeSoftmax(d_embed, vocab_size) if output == "tree" else None
        if self.tree is None:
            self.head = nn.Linear(d_embed, vocab_size)
            self.head.weight = self.embedding.weight  # one table R for both, as in the paper
            nn.init.zeros_(self.head.bias)

    @property
    def vocab_size(self) -> int:
        return self.embedding.num_embeddings

    def initial_state(self, batch_size: int) -> State:
        return (torch.full((batch_size, self.order - 2), EOT, device=self.device),)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        (previous_ids,) = state
        vectors = self.dropout(self.embedding(context_windows(ids, previous_ids)))  # (B, T, n - 1, D)
        return self.combination(vectors), (shift_in(previous_ids, ids),)

    def logits(self, hidden: Tensor) -> Tensor:
        return super().logits(hidden) if self.tree is None else self.tree.log_probs(hidden)

    def cross_entropy(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        if self.tree is None:
            return super().cross_entropy(hidden, targets, weights)
        return weighted_sum(self.tree.surprisals(hidden, targets), weights)

    def surprisals(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return super().surprisals(hidden, targets) if self.tree is None else self.tree.surprisals(hidden, targets)

    def parameter_groups(self) -> ParameterGroups:
        matrices = self.combination.matrices
        return self._grouped([] if matrices is None else [matrices.weight])

    def prepare(self, train: TokenStream) -> None:
        if self.tree is not None:
            from lmzoo.models.class_ngram.tree import class_tree  # numba is slow to import

            self.tree.set_tree(torch.from_numpy(class_tree(train, self.vocab_size, _N_CLASSES)))

    def initialize_output_bias(self, log_frequencies: Tensor) -> None:
        if self.tree is None:
            super().initialize_output_bias(log_frequencies)
        else:
            self.tree.set_frequencies(log_frequencies.exp())

    def widened(self, n_new: int) -> Self:
        if self.tree is not None:
            raise ConfigurationError('a network with output="tree" cannot get new tokens: choose output="softmax"')
        return super().widened(n_new)


def log_bilinear(
    vocab_size: int,
    *,
    order: int = 5,
    d_embed: int = 128,
    combination: str = "full",
    output: str = "softmax",
    dropout: float = 0.0,
    training: TrainConfig | Mapping[str, Any] | None = None,
    device: Device = "cpu",
) -> NeuralLM:
    """Creates a log-bilinear model that predicts each token from the `order` - 1 tokens before it.

    `combination` is the form of the matrices C_i: "full", "diagonal", or "mean" as in CBOW. `output` is "softmax" or
    "tree". Raises ConfigurationError for any other value, and for `sampled_softmax` with a tree.
    """
    check_whole(2, order=order)
    check_whole(1, d_embed=d_embed)
    check_choice(("full", "diagonal", "mean"), combination=combination)
    check_choice(("softmax", "tree"), output=output)
    check_share(dropout=dropout)
    architecture = {
        "order": order, "d_embed": d_embed, "combination": combination, "output": output, "dropout": dropout
    }  # fmt: skip
    config = _TRAINING.changed(training)
    if output == "tree" and config.sampled_softmax is not None:
        raise ConfigurationError(
            f'sampled_softmax must be null with output="tree", which has no softmax; got {config.sampled_softmax}'
        )
    return NeuralLM(vocab_size, LogBilinear, architecture, config, context_size=order - 1, device=device)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "log_bilinear": {
        "quick": {"training": {"tokens": 1_000_000, "chunk_size": 32, "learning_rate": 1e-2, "weight_decay": 0.01}},
        "standard": {
            "d_embed": 256, "dropout": 0.1,
            "training": {"tokens": 4_000_000, "chunk_size": 32, "learning_rate": 6e-3},
        },
        "ladder": {"d_embed": 64, "dropout": 0.0, "training": {"learning_rate": 1e-2}},
        "tiny": {
            "order": 4, "d_embed": 8, "dropout": 0.1,
            "training": {"tokens": 2000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2},
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
