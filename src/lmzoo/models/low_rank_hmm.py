"""Low-rank hidden Markov model (Chiu, Deng & Rush 2021): a hidden Markov model trained as a network is.

A step from state to state passes through one of R < K intermediate choices, so that it costs 2 K R products instead of
K^2, and all probabilities come from vectors that are learned, so that states that are alike share what they learn.

    P(j | i) = sum_r P(r | i) P(j | r)                       J. T. Chiu, Y. Deng, A. M. Rush, Low-Rank Constraints for
    P(r | i) = softmax_r(x_i . u_r)                          Fast Inference in Structured Models, NeurIPS 2021
    P(j | r) = softmax_j(v_r . y_j)
    P(w | j) = softmax_w(f(z_j) . e_w + b_w)                 f: one residual layer (Chiu & Rush 2020)

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

from lmzoo.neural.network import Memory, Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.settings import TrainConfig, check_share, check_whole
from lmzoo.stream import EOT

_TRAINING = TrainConfig(tokens=1_500_000, batch_size=32, chunk_size=16, learning_rate=1e-2, bf16=False)


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
        self.leaving, self.entering, self.emitting = (
            nn.Parameter(torch.randn(n_states, d_embed)) for _ in range(3)
        )  # x, y, z
        self.into, self.out_of = (nn.Parameter(torch.randn(rank, d_embed) / d_embed**0.5) for _ in range(2))  # u, v
        self.residual = nn.Linear(d_embed, d_embed)
        self.tokens = nn.Linear(d_embed, vocab_size)  # e, b
        nn.init.normal_(self.tokens.weight, std=0.1)
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
                kept = torch.randperm(self.n_states)[:n_kept]
                leaving, entering, emitting = leaving[kept], entering[kept], emitting[kept]
            emitting = emitting + self.residual(emitting).relu()
            self._used = Probabilities(
                self.start.softmax(0),
                (leaving @ self.into.T).softmax(1),
                (self.out_of @ entering.T).softmax(1),
                (self.tokens.weight @ emitting.T + self.tokens.bias[:, None]).softmax(0),
            )
        return self._used

    def initial_memory(self, batch_size: int) -> Memory:
        return (self.start.detach().softmax(0).expand(batch_size, -1),)

    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        start, choices, states, emissions = self.probabilities()
        (belief,) = memory  # (B, R)
        emitted = emissions[ids]  # (B, T, K)
        at_start = (ids == EOT)[:, :, None]
        beliefs = []
        for t in range(ids.shape[1]):
            joint = (belief @ states) * emitted[:, t]  # (B, K)
            filtered = joint / joint.sum(1, keepdim=True).clamp_min(_LEAST)
            belief = torch.where(at_start[:, t], start, filtered @ choices)
            beliefs.append(belief)
        return torch.stack(beliefs, 1), (belief,)

    def logits(self, hidden: Tensor) -> Tensor:
        _, _, states, emissions = self.probabilities()
        return (hidden @ states @ emissions.T).clamp_min(_LEAST).log()

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        assert self._used is not None  # of the forward pass
        return self._nats(hidden, targets, self._used).mean()

    def surprisals(self, hidden: Tensor, observed: Tensor) -> Tensor:
        return self._nats(hidden, observed, self.probabilities())

    @staticmethod
    def _nats(hidden: Tensor, targets: Tensor, used: Probabilities) -> Tensor:
        return -((hidden @ used.states) * used.emissions[targets]).sum(1).clamp_min(_LEAST).log()

    def start_from(self, log_frequencies: Tensor) -> None:
        self.tokens.bias.data = log_frequencies


_LEAST = 1e-30
"""A probability as small as this has lost its gradient, and must not become 0."""


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
    return NeuralLM(vocab_size, LowRankHMM, architecture, _TRAINING.changed(training), context_size=None)
