"""Low-rank hidden Markov model (Chiu, Deng & Rush 2021): a hidden Markov model trained as a network is.

A step from state to state passes through one of R < K intermediate choices, so that it costs 2 K R products instead of
K^2, and all probabilities come from vectors that are learned, so that states that are alike share what they learn.

    P(j | i) = sum_r P(r | i) P(j | r)                       J. T. Chiu, Y. Deng, A. M. Rush, Low-Rank Constraints for
    P(r | i) = softmax_r(x_i . u_r / sqrt(d))                Fast Inference in Structured Models, NeurIPS 2021
    P(j | r) = softmax_j(v_r . y_j / sqrt(d))
    P(w | j) = softmax_w(f(z_j) . e_w / sqrt(d) + b_w)       f: one residual layer (Chiu & Rush 2020)

What it remembers is the belief over r: R numbers (S. Yang, W. Liu, K. Tu, Dynamic Programming in Rank Space, NAACL
2022). State dropout (Chiu & Rush 2020): each step of training uses a random part of the states, as if there were no
others. The loss is the exact log-likelihood, by back-propagation through the filter; that is the gradient which
expectation-maximisation climbs too (Salakhutdinov, Roweis & Ghahramani 2003).

Cost: 4 K R floating-point operations for a token that is read, 3 times that in training, and in each step of training
2 K V d for the emissions. Changed: the softmaxes replace the random features of 2021, which need no normalising.
What it cannot do: remember more than a distribution over R choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo.checks import check_share, check_whole
from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.single import Array, Weights
from lmzoo.stream import EOT

_TRAINING = TrainConfig(tokens=1_500_000, batch_size=32, chunk_size=32, learning_rate=3e-2)

_LEAST = 1e-30
"""A probability as small as this has lost its gradient, and must not become 0."""
_SLICE_ELEMENTS = 1 << 19
"""Logits of tokens that are held at a time: 2 MB, about what stays in a processor's cache."""


class _TokenProbs(torch.autograd.Function):
    """P(w | j) (V, K) = softmax_w(z_j . e_w + b_w), from e (V, D), b (V,) and z (K, D).

    A step observes few of the V tokens, so that the gradient g comes as few rows (it must be sparse). Then

        d loss / d logit(w, j) = P(w | j) (g(w, j) - s(j)),   s(j) = sum_w P(w | j) g(w, j)

    is those rows less a product that need not be written down: s scales the rows of z instead.
    """

    @staticmethod
    def forward(ctx: Any, e: Tensor, b: Tensor, z: Tensor) -> Tensor:
        device = e.device.type
        ctx.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else e.dtype
        matrix = e.to(ctx.dtype)
        probs = e.new_empty(len(e), len(z))
        n_states = max(1, _SLICE_ELEMENTS // len(e))
        for part, states in zip(probs.split(n_states, dim=1), z.to(ctx.dtype).split(n_states), strict=True):
            part.copy_(((matrix @ states.t()).to(e.dtype) + b[:, None]).softmax(0))
        ctx.save_for_backward(e, z, probs)
        return probs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        e, z, probs = ctx.saved_tensors
        gradient = gradients[0].coalesce()
        (observed,) = gradient.indices()  # (U,)
        rows = probs[observed] * gradient.values()  # (U, K)
        s = rows.sum(0)[:, None]  # (K, 1)
        rounded = probs.to(ctx.dtype)
        d_e = (rounded @ (s * z).to(ctx.dtype)).to(e.dtype).neg_().index_add_(0, observed, rows @ z)
        d_b = (probs @ s).squeeze(1).neg_().index_add_(0, observed, rows.sum(1))
        d_z = rows.t() @ e[observed] - s * (rounded.t() @ e.to(ctx.dtype)).to(e.dtype)
        return d_e, d_b, d_z


def _full_precision(device: torch.device) -> torch.autocast:
    """For the filter: with 8 bits for a probability the errors of all steps would add up."""
    return torch.autocast(device.type, enabled=False)


def _rows(emissions: Tensor, ids: Tensor) -> Tensor:
    """P(id | j) (.., K) of the ids (..), with the sparse gradient that `_TokenProbs` takes."""
    return F.embedding(ids, emissions, sparse=True)


class Probabilities(NamedTuple):
    """What the vectors amount to, for the states that take part."""

    start: Tensor  # (R,)
    choices: Tensor  # (K, R) P(r | i)
    states: Tensor  # (R, K) P(j | r)
    emissions: Tensor  # (V, K): a token picks a row


@final
class LowRankHMM(Network):
    """Its memory and its hidden vector are P(r | tokens so far), the belief over R choices."""

    def __init__(self, vocab_size: int, *, n_states: int, rank: int, d_embed: int, state_dropout: float) -> None:
        super().__init__()
        self.n_states, self.state_dropout = n_states, state_dropout
        self.start = nn.Parameter(torch.zeros(rank))
        # All vectors have entries of size 1, and their products are scaled: so the optimiser, whose steps have one size
        # for all numbers, moves all of them as fast.
        self.scale = d_embed**-0.5
        self.leaving, self.entering, self.emitting = (
            nn.Parameter(torch.randn(n_states, d_embed)) for _ in range(3)
        )  # x, y, z
        self.into, self.out_of = (nn.Parameter(torch.randn(rank, d_embed)) for _ in range(2))  # u, v
        self.residual = nn.Linear(d_embed, d_embed)
        self.tokens = nn.Linear(d_embed, vocab_size)  # e, b
        nn.init.normal_(self.tokens.weight)
        self._used: Probabilities | None = None

    def train(self, mode: bool = True) -> LowRankHMM:
        self._used = None  # the weights are about to change, or have changed
        return super().train(mode)

    def probabilities(self) -> Probabilities:
        """In training, with a new random part of the states; else of all of them, and kept while nothing changes."""
        if self._used is None or self.training:
            leaving, entering, emitting = self.leaving, self.entering, self.emitting
            if self.training and self.state_dropout:
                n_kept = max(1, round(self.n_states * (1 - self.state_dropout)))
                kept = torch.randperm(self.n_states, device=self.device)[:n_kept]
                leaving, entering, emitting = leaving[kept], entering[kept], emitting[kept]
            emitting = (emitting + self.residual(emitting).relu()) * self.scale
            emissions = _TokenProbs.apply(self.tokens.weight, self.tokens.bias, emitting)
            with _full_precision(self.device):
                choices = (leaving @ self.into.T * self.scale).softmax(1)
                states = (self.out_of @ entering.T * self.scale).softmax(1)
            self._used = Probabilities(self.start.softmax(0), choices, states, emissions)
        return self._used

    def initial_memory(self, batch_size: int) -> Memory:
        return (self.start.detach().softmax(0).expand(batch_size, -1),)

    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        start, choices, states, emissions = self.probabilities()
        (belief,) = memory  # (B, R)
        at_start = (ids == EOT)[:, :, None]
        beliefs = []
        with _full_precision(self.device):
            # `unbind` rather than indexing, because the gradient of each index would be a tensor of the whole size.
            for emitted, starts in zip(_rows(emissions, ids).unbind(1), at_start.unbind(1), strict=True):
                joint = (belief @ states) * emitted  # (B, K)
                filtered = joint / joint.sum(1, keepdim=True).clamp_min(_LEAST)
                belief = torch.where(starts, start, filtered @ choices)
                beliefs.append(belief)
        return torch.stack(beliefs, 1), (belief,)

    def logits(self, hidden: Tensor) -> Tensor:
        _, _, states, emissions = self.probabilities()
        return (hidden @ states @ emissions.T).clamp_min(_LEAST).log()

    def logits_one(self, weights: Weights, hidden: Array) -> None:
        """Left to `logits`, whose matrices are no weights, but made of them."""

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        assert self._used is not None  # of the forward pass
        return self._nats(hidden, targets, self._used).mean()

    def surprisals(self, hidden: Tensor, observed: Tensor) -> Tensor:
        return self._nats(hidden, observed, self.probabilities())

    @staticmethod
    def _nats(hidden: Tensor, targets: Tensor, used: Probabilities) -> Tensor:
        with _full_precision(hidden.device):
            likelihoods = ((hidden @ used.states) * _rows(used.emissions, targets)).sum(1)
        return -likelihoods.clamp_min(_LEAST).log()

    def hidden_matrices(self) -> list[Tensor]:
        return [self.residual.weight]

    def start_from(self, log_frequencies: Tensor) -> None:
        self.tokens.bias.data = log_frequencies


def low_rank_hmm(
    vocab_size: int,
    *,
    n_states: int = 1024,
    rank: int = 128,
    d_embed: int = 128,
    state_dropout: float = 0.2,
    training: TrainConfig | Mapping[str, Any] | None = None,
) -> NeuralLM:
    """Hidden Markov model of `n_states` states and transitions of rank `rank`, trained by gradient descent.

    `state_dropout` is the part of the states that a step of training goes without.
    """
    check_whole(1, n_states=n_states, rank=rank, d_embed=d_embed)
    check_share(state_dropout=state_dropout)
    architecture = {"n_states": n_states, "rank": rank, "d_embed": d_embed, "state_dropout": state_dropout}
    config = _TRAINING.changed(training)
    if config.sampled is not None:
        raise ConfigurationError(
            f"sampled must be null: the tokens of a low-rank HMM have probabilities and no logits; got {config.sampled}"
        )
    return NeuralLM(vocab_size, LowRankHMM, architecture, config, context_size=None)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "low_rank_hmm": {
        "quick": {"n_states": 512, "rank": 64, "training": {"tokens": 1_100_000}},
        "standard": {"n_states": 1024, "rank": 128, "training": {"tokens": 4_000_000}},
        "thorough": {"n_states": 2048, "rank": 256, "training": {"tokens": 20_000_000}},
        "tiny": {
            "n_states": 12, "rank": 4, "d_embed": 8,
            "training": {"tokens": 4000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2},
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
