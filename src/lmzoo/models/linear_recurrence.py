"""Gated linear recurrence: a recurrent network whose state changes linearly, so that it can be trained in parallel.

A recurrent network of the 1990s passes its state through a non-linear function at every token, and so has to read
token by token. Here the update of the state is linear in the state, and its gates depend on the input only. All tokens
of a chunk are then computed at once by matrix products, as in a transformer, while reading one more token takes the
same time however long the document is.

    a block       x = x + Mix(norm(x)),   x = x + MLP(norm(x)),   MLP(x) = relu(x A)^2 B
    Mix(x)        (silu(G y) * norm(o)) O,  where y is a short causal convolution of x, and o the recurrence over y
    "delta"       S_t = a S_{t-1} (I - b k k') + b v k',  o = S_t q     gated delta rule, Yang et al. 2024, eq. 10
    "attention"   S_t = a S_{t-1} + b v k',               o = S_t q     Mamba-2 (Dao & Gu 2024) with two gates
    "min-gru"     h_t = (1 - z) h_{t-1} + z c,            o = h_t       minGRU, Feng et al. 2024, section 3.1

In the first two, each head has a matrix S as its state, in which values v are stored under keys k and looked up by
queries q; a = exp(-A softplus(w y + e)) and b = sigmoid(w' y) are gates. The delta rule erases what was stored under a
key before it stores something new there. In a minGRU the state is a vector, z = sigmoid(W y + e) its gate and c = U y.

With `ngrams` above 1 the input of a token also has a vector for each n-gram that ends in the token, from a table
addressed by hashing (Huang et al. 2025).

Changed: queries, keys and values share the convolution, which comes before them and has no activation. What it cannot
do: recall everything it has read, because its state has a fixed size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.checks import check_choice, check_share, check_whole
from lmzoo.errors import ConfigurationError
from lmzoo.neural.layers.delta_rule import delta_rule
from lmzoo.neural.layers.ngram_embedding import NgramEmbedding
from lmzoo.neural.layers.normalization import rms_norm
from lmzoo.neural.layers.scan import linear_scan
from lmzoo.neural.layers.short_convolution import ShortConvolution
from lmzoo.neural.layers.windows import context_windows, lags_in_document, positions_in_document, shift_in
from lmzoo.neural.network import Network, State
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.one_token.reader import register_reader
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import EOT
from lmzoo.system.placement import Device

_TRAINING = TrainConfig(tokens=1_000_000)

_SHORTEST, _LONGEST = 4.0, 256.0
"""Time constants of the first and last head of a new network: the number of tokens in which a state decays to 1/e."""


class Recurrence(nn.Module, ABC):
    """A linear recurrence over vectors of width D in H heads, which reads T tokens of each of B sequences."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> Tensor:
        """Returns the state (`batch_size`, ..) at the start of a document: zeros."""

    @abstractmethod
    def forward(self, y: Tensor, starts: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the outputs (B, T, H, D / H) for the inputs `y` (B, T, D), and the new state.

        Where `starts` (B, T) is True a document starts, before which the state is set to zero.
        """


@final
class DeltaRule(Recurrence):
    """The gated delta rule in H heads; with `erase` False, gated linear attention."""

    def __init__(self, d_model: int, n_heads: int, *, erase: bool) -> None:
        super().__init__()
        self.n_heads, self.d_head, self.erase = n_heads, d_model // n_heads, erase
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.gates = nn.Linear(d_model, 2 * n_heads)  # w and e of a, then w' and the bias of b
        self.log_rate = nn.Parameter(torch.zeros(n_heads))  # log A
        nn.init.normal_(self.qkv.weight, std=d_model**-0.5)
        nn.init.zeros_(self.gates.weight)
        # softplus(e) = 1 / tau, as A = 1 at first
        keep = [math.log(math.expm1(1 / tau)) for tau in _time_constants(n_heads)]
        self.gates.bias = nn.Parameter(torch.tensor([*keep, *[0.0] * n_heads]))

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, self.n_heads, self.d_head, self.d_head, device=self.log_rate.device)

    def forward(self, y: Tensor, starts: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        qkv = self.qkv(y).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, H, T, d)
        q, k = F.normalize(qkv[:2].float(), dim=-1).to(state.dtype).unbind(0)  # (B, H, T, d) each
        keep, write = self.gates(y).to(state.dtype).mT.split(self.n_heads, dim=1)  # (B, H, T) each
        log_keep = -self.log_rate.exp()[:, None] * F.softplus(keep)
        o, state = delta_rule(q, k, qkv[2], log_keep, write.sigmoid(), starts, state, erase=self.erase)
        return o.transpose(1, 2), state


@final
class MinGRU(Recurrence):
    """A minimal gated recurrent unit with D hidden units, whose gate and candidate depend on the input only."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.gate = nn.Linear(d_model, d_model)
        self.candidate = nn.Linear(d_model, d_model, bias=False)
        nn.init.normal_(self.candidate.weight, std=d_model**-0.5)
        nn.init.zeros_(self.gate.weight)
        update = [-math.log(tau - 1) for tau in _time_constants(n_heads)]  # sigmoid(e) = 1 / tau
        self.gate.bias = nn.Parameter(torch.tensor(update).repeat_interleave(d_model // n_heads))

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, self.gate.out_features, device=self.gate.bias.device)

    def forward(self, y: Tensor, starts: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        z = self.gate(y).to(state.dtype).sigmoid()  # (B, T, D)
        h = linear_scan((1 - z) * ~starts[..., None], z * self.candidate(y), state)
        return h.unflatten(2, (self.n_heads, -1)), h[:, -1]


def _time_constants(n_heads: int) -> list[float]:
    """Returns the time constant of each head of a new network: the tokens in which its state decays to 1/e."""
    return [_SHORTEST * (_LONGEST / _SHORTEST) ** (head / max(1, n_heads - 1)) for head in range(n_heads)]


_RECURRENCES: dict[str, Callable[[int, int], Recurrence]] = {
    "delta": partial(DeltaRule, erase=True),
    "attention": partial(DeltaRule, erase=False),
    "min-gru": MinGRU,
}


@final
class Block(nn.Module):
    """A pre-norm block: a convolution with a recurrence, and an MLP, each added to its input."""

    epsilon: ClassVar[float] = 1e-5
    """Added to the mean square of what a recurrence returns when it is normalized, so that almost 0 stays almost 0."""

    def __init__(self, d_model: int, n_heads: int, recurrence: str, convolution: int, dropout: float) -> None:
        super().__init__()
        self.convolution = ShortConvolution(convolution, d_model)
        self.recurrence = _RECURRENCES[recurrence](d_model, n_heads)
        self.gate = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.gate, self.up):
            nn.init.normal_(layer.weight, std=d_model**-0.5)
        for layer in (self.out, self.down):
            nn.init.zeros_(layer.weight)  # every block starts as the identity

    def forward(
        self, x: Tensor, previous: Tensor, state: Tensor, starts: Tensor, in_document: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the output of the block (B, T, D) for T new tokens in each of B sequences.

        `x` (B, T, D) holds the new tokens as vectors of width D, and `previous` and `state` the memory of the block:
        the inputs (B, k - 1, D) of its convolution for the k - 1 tokens before, and the state of its recurrence. The
        new ones are returned too. `starts` is explained in `Recurrence.forward`, `in_document` in
        `lmzoo.neural.layers.windows.earlier_vectors`.
        """
        y, previous = self.convolution(rms_norm(x), previous, in_document)
        o, state = self.recurrence(y, starts, state)  # (B, T, H, D / H)
        x = x + self.dropout(self.out(F.silu(self.gate(y)) * rms_norm(o, self.epsilon).flatten(2)))
        return x + self.dropout(self.down(self.up(rms_norm(x)).relu().square())), previous, state


@final
class LinearRecurrence(Network):
    """A stack of blocks with gated linear recurrences and a tied output layer.

    The state of the network contains, for B sequences:

    - (B,): the number of tokens of the current document that were read;
    - (B, n - 1): the previous ids, which form n-grams with the next tokens;
    - (B, k - 1, D) for each block: the inputs of its convolution for the last k - 1 tokens;
    - (B, ..) for each block: the state of its recurrence.
    """

    def __init__(
        self, vocab_size: int, *, recurrence: str, d_model: int, n_layers: int, n_heads: int, convolution: int,
        dropout: float, ngrams: int, n_slots: int, d_slot: int, ngram_dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_convolved, self.n_orders = convolution - 1, ngrams
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.ngrams = NgramEmbedding(ngrams, n_slots, d_slot, d_model, ngram_dropout) if ngrams > 1 else None
        self.blocks = nn.ModuleList(Block(d_model, n_heads, recurrence, convolution, dropout) for _ in range(n_layers))
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(d_model, d_model, bias=False)
        self.head = nn.Linear(d_model, vocab_size)
        self.head.weight = self.embedding.weight  # tied
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.embedding.weight, std=0.02)
        # Without a projection, a new network would predict that every token is repeated, as the output layer is tied.
        nn.init.normal_(self.projection.weight, std=d_model**-0.5)

    def initial_state(self, batch_size: int) -> State:
        n_read = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        previous_ids = torch.full((batch_size, self.n_orders - 1), EOT, device=self.device)
        previous = torch.zeros(batch_size, self.n_convolved, self.embedding.embedding_dim, device=self.device)
        states = [block.recurrence.initial_state(batch_size) for block in cast("Iterable[Block]", self.blocks)]
        return n_read, previous_ids, *[previous] * len(states), *states

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        n_read, previous_ids, *memories = state
        n_blocks = len(self.blocks)
        positions = positions_in_document(ids, n_read)  # (B, T)
        x = self.embedding(ids)  # (B, T, D)
        if self.ngrams is not None:
            x = x + self.ngrams(context_windows(ids, previous_ids))
        x = self.dropout(rms_norm(x))
        in_document = lags_in_document(positions, self.n_convolved + 1).to(x.dtype)  # (B, T, k - 1)
        starts = positions == 0
        for index, block in enumerate(self.blocks):
            memory = memories[index], memories[n_blocks + index]
            x, memories[index], memories[n_blocks + index] = block(x, *memory, starts, in_document)
        return self.projection(rms_norm(x)), (positions[:, -1] + 1, shift_in(previous_ids, ids), *memories)


register_reader(LinearRecurrence, "lmzoo.neural.one_token.linear_recurrence:read")


def linear_recurrence(
    vocab_size: int,
    *,
    recurrence: str = "delta",
    d_model: int = 128,
    n_layers: int = 4,
    n_heads: int = 4,
    convolution: int = 4,
    dropout: float = 0.0,
    ngrams: int = 1,
    n_slots: int = 16_384,
    d_slot: int = 32,
    ngram_dropout: float = 0.1,
    training: TrainConfig | Mapping[str, Any] | None = None,
    device: Device = "cpu",
) -> NeuralLM:
    """Creates a network of gated linear recurrences.

    `recurrence` is "delta" for the gated delta rule, "attention" for gated linear attention, or "min-gru" for minimal
    gated recurrent units. The input of each recurrence is mixed with that of the `convolution` - 1 tokens before. With
    `ngrams` = n above 1 the model also has embeddings of n-grams up to this order: for each order a table of `n_slots`
    vectors of `d_slot` numbers, which are dropped in training with probability `ngram_dropout`. Raises
    ConfigurationError if the width is not a multiple of the number of heads.
    """
    check_choice(_RECURRENCES, recurrence=recurrence)
    check_whole(1, d_model=d_model, n_layers=n_layers, n_heads=n_heads, convolution=convolution)
    check_whole(1, ngrams=ngrams, n_slots=n_slots, d_slot=d_slot)
    check_share(dropout=dropout, ngram_dropout=ngram_dropout)
    if d_model % n_heads:
        raise ConfigurationError(f"d_model must be a multiple of n_heads = {n_heads}, got {d_model}")
    architecture = {
        "recurrence": recurrence, "d_model": d_model, "n_layers": n_layers, "n_heads": n_heads,
        "convolution": convolution, "dropout": dropout, "ngrams": ngrams, "n_slots": n_slots, "d_slot": d_slot,
        "ngram_dropout": ngram_dropout,
    }  # fmt: skip
    config = _TRAINING.changed(training)
    return NeuralLM(vocab_size, LinearRecurrence, architecture, config, context_size=None, device=device)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "linear_recurrence": {
        "quick": {
            "n_layers": 1, "n_heads": 2, "ngrams": 3, "ngram_dropout": 0.3,
            "training": {
                "tokens": 500_000, "batch_size": 16, "learning_rate": 1e-2, "weight_decay": 0.01,
                "optimizer": "muon", "sampled_softmax": 512,
            },
        },
        "ladder": {"d_model": 64, "n_layers": 2, "n_heads": 4, "dropout": 0.0, "training": {"batch_size": 16}},
        "tiny": {
            "d_model": 16, "n_layers": 2, "n_heads": 2, "convolution": 3, "dropout": 0.1, "ngrams": 3,
            "n_slots": 100, "training": {
                "tokens": 2000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2, "optimizer": "muon"
            },
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
