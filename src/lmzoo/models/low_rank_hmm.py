"""Low-rank hidden Markov model (Chiu, Deng & Rush 2021): a hidden Markov model trained by gradient descent.

A transition between the K hidden states passes through one of R < K intermediate choices, so it costs 2 K R products
instead of K^2. All probabilities are computed from learned vectors, so similar states share what they learn.

    P(j | i) = sum_r P(r | i) P(j | r)                       J. T. Chiu, Y. Deng, A. M. Rush, Low-Rank Constraints for
    P(r | i) = softmax_r(x_i . u_r / sqrt(d))                Fast Inference in Structured Models, NeurIPS 2021
    P(j | r) = softmax_j(v_r . y_j / sqrt(d))
    P(w | j) = softmax_w(f(z_j) . e_w / sqrt(d) + b_w)       f: one residual layer (Chiu & Rush 2020)

The state of the model is the posterior over r: R numbers (S. Yang, W. Liu, K. Tu, Dynamic Programming in Rank Space,
NAACL 2022). State dropout (Chiu & Rush 2020): each training step uses a random part of the hidden states, as if there
were no others. The loss is the exact negative log-likelihood, differentiated through the forward algorithm; its
gradient is also the one that expectation-maximisation follows (Salakhutdinov, Roweis & Ghahramani 2003).

Cost: 4 K R floating-point operations for each token read, 3 times that in training, and in each training step 2 K V d
for the emissions of V tokens. Changed: the softmaxes replace the random features of 2021, which need no normalizing.
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
from lmzoo.neural.devices import product_dtype
from lmzoo.neural.layers.cross_entropy import weighted_sum
from lmzoo.neural.network import Network, ParameterGroups, State
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import EOT
from lmzoo.system.placement import Device

_TRAINING = TrainConfig(tokens=1_500_000, batch_size=32, chunk_size=32, learning_rate=3e-2)

_MIN_PROB = 1e-30
"""Lower bound on probabilities. A probability this small has no useful gradient, but its logarithm must be finite."""
_SLICE_ELEMENTS = 1 << 19
"""Token logits that are held at a time: 2 MB, about the size of a CPU's cache."""
_NEW_TOKEN_LOGIT = -20.0
"""Bias of a new token below the smallest bias, so that the new token hardly changes the probabilities of the others."""


class _TokenProbs(torch.autograd.Function):
    """An autograd function that computes the emission probabilities P(w | j) of V tokens w in K hidden states j.

    P(w | j) = softmax_w(z_j . e_w + b_w) is computed from token vectors e (V, D), biases b (V,) and state vectors z (K,
    D), and returned as a matrix (V, K). A training step observes few of the V tokens, so the gradient g of the loss
    with respect to P has few rows that are not 0, and must be a sparse tensor. In

        d loss / d logit(w, j) = P(w | j) (g(w, j) - s(j)),   s(j) = sum_w P(w | j) g(w, j)

    only the first term needs these rows. The second term is never written out: s scales the rows of z instead.
    """

    @staticmethod
    def forward(ctx: Any, e: Tensor, b: Tensor, z: Tensor) -> Tensor:
        ctx.dtype = product_dtype(e)
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
    """Returns a context without autocast, for the forward algorithm.

    With the 8 significant bits of bfloat16, rounding errors would add up over the time steps.
    """
    return torch.autocast(device.type, enabled=False)


def _emissions_of(emissions: Tensor, ids: Tensor) -> Tensor:
    """Returns the emission probabilities P(id | j) (.., K) of the ids (..) in K hidden states.

    `emissions` (V, K) holds the probabilities of all V tokens; its gradient is sparse, as `_TokenProbs` requires.
    """
    return F.embedding(ids, emissions, sparse=True)


class Probabilities(NamedTuple):
    """The probabilities of a low-rank hidden Markov model with K hidden states, R choices and V tokens.

    A transition goes from a hidden state to one of R intermediate *choices*, and from this choice to the next hidden
    state.
    """

    start: Tensor
    """(R,): P(r) at the start of a document."""
    choices: Tensor
    """(K, R): P(r | i), the choice r made in state i."""
    states: Tensor
    """(R, K): P(j | r), the next state j after choice r."""
    emissions: Tensor
    """(V, K): P(w | j), the token w emitted in state j."""


@final
class LowRankHMM(Network):
    """The network of a low-rank hidden Markov model, whose transitions pass through one of R intermediate choices.

    A transition goes from a hidden state to a choice, and from the choice to the next hidden state. The state of the
    network is the posterior distribution (R,) over the choices, given the tokens read so far. The next token is
    predicted from this vector alone.
    """

    def __init__(self, vocab_size: int, *, n_states: int, rank: int, d_embed: int, state_dropout: float) -> None:
        super().__init__()
        self.n_states, self.state_dropout = n_states, state_dropout
        self.start = nn.Parameter(torch.zeros(rank))
        # All vectors have entries of size 1 and their products are scaled, so that the optimizer, whose steps have the
        # same size for all parameters, changes all of them at the same rate.
        self.scale = d_embed**-0.5
        self.leaving, self.entering, self.emitting = (
            nn.Parameter(torch.randn(n_states, d_embed)) for _ in range(3)
        )  # x, y, z
        self.into, self.out_of = (nn.Parameter(torch.randn(rank, d_embed)) for _ in range(2))  # u, v
        self.residual = nn.Linear(d_embed, d_embed)
        self.tokens = nn.Linear(d_embed, vocab_size)  # e, b
        nn.init.normal_(self.tokens.weight)
        self._probabilities: Probabilities | None = None

    def train(self, mode: bool = True) -> LowRankHMM:
        self._probabilities = None  # the weights change, or have changed
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the attributes to copy; the cached probabilities are left out, as they may have a gradient graph."""
        return {**self.__dict__, "_probabilities": None}

    @property
    def vocab_size(self) -> int:
        return self.tokens.out_features

    def probabilities(self) -> Probabilities:
        """Computes the transition and emission probabilities of the model from its learned vectors.

        In training mode, each call uses a new random part of the hidden states (state dropout). In evaluation mode, all
        states are used, and the result is cached until `train` or `eval` is called.
        """
        if self._probabilities is None or self.training:
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
            self._probabilities = Probabilities(self.start.softmax(0), choices, states, emissions)
        return self._probabilities

    def initial_state(self, batch_size: int) -> State:
        return (self.start.detach().softmax(0).expand(batch_size, -1),)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        start, choices, states, emissions = self.probabilities()
        (posterior,) = state  # (B, R)
        at_start = (ids == EOT)[:, :, None]
        posteriors = []
        with _full_precision(self.device):
            # `unbind` rather than indexing, because the gradient of each index would be a tensor of the full size.
            for emitted, starts in zip(_emissions_of(emissions, ids).unbind(1), at_start.unbind(1), strict=True):
                joint = (posterior @ states) * emitted  # (B, K)
                filtered = joint / joint.sum(1, keepdim=True).clamp_min(_MIN_PROB)
                posterior = torch.where(starts, start, filtered @ choices)
                posteriors.append(posterior)
        return torch.stack(posteriors, 1), (posterior,)

    def logits(self, hidden: Tensor) -> Tensor:
        _, _, states, emissions = self.probabilities()
        return (hidden @ states @ emissions.T).clamp_min(_MIN_PROB).log()

    def cross_entropy(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        assert self._probabilities is not None  # of the forward pass
        return weighted_sum(self._nats(hidden, targets, self._probabilities), weights)

    def surprisals(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return self._nats(hidden, targets, self.probabilities())

    @staticmethod
    def _nats(hidden: Tensor, targets: Tensor, probabilities: Probabilities) -> Tensor:
        """Returns -log P(target) in nats (N,) for N predictions of a low-rank hidden Markov model.

        `hidden` (N, R) holds the posterior over the R choices before each prediction, and `targets` (N,) the token ids
        to predict. `probabilities` holds P(next state | choice) and P(token | state) of the model.
        """
        with _full_precision(hidden.device):
            likelihoods = ((hidden @ probabilities.states) * _emissions_of(probabilities.emissions, targets)).sum(1)
        return -likelihoods.clamp_min(_MIN_PROB).log()

    def parameter_groups(self) -> ParameterGroups:
        return self._grouped([self.residual.weight])

    def initialize_output_bias(self, log_frequencies: Tensor) -> None:
        self.tokens.bias.data = log_frequencies

    def _token_layers(self) -> list[nn.Module]:
        return [self.tokens]

    @staticmethod
    def _with_new_rows(rows: Tensor, n_new: int) -> Tensor:
        """Appends rows for `n_new` new tokens to parameters, so that the new tokens have almost no probability.

        `rows` holds the vectors (V, D) or the biases (V,) of the V old tokens. The emission probabilities of a hidden
        state sum to 1, so the probabilities of the old tokens change only if the new tokens have a considerable
        probability.
        """
        if rows.ndim == 1:
            return torch.cat([rows, (rows.min() + _NEW_TOKEN_LOGIT).expand(n_new)])
        return torch.cat([rows, rows.new_zeros(n_new, rows.shape[1])])


def low_rank_hmm(
    vocab_size: int,
    *,
    n_states: int = 1024,
    rank: int = 128,
    d_embed: int = 128,
    state_dropout: float = 0.2,
    training: TrainConfig | Mapping[str, Any] | None = None,
    device: Device = "cpu",
) -> NeuralLM:
    """Creates a hidden Markov model with `n_states` hidden states and transitions of rank `rank`.

    It is trained by gradient descent. `d_embed` is the width of the vectors of tokens and states, and `state_dropout`
    the fraction of the hidden states that is left out of each training step. Raises ConfigurationError for a sampled
    softmax, since the output is not a softmax over all tokens.
    """
    check_whole(1, n_states=n_states, rank=rank, d_embed=d_embed)
    check_share(state_dropout=state_dropout)
    architecture = {"n_states": n_states, "rank": rank, "d_embed": d_embed, "state_dropout": state_dropout}
    config = _TRAINING.changed(training)
    if config.sampled_softmax is not None:
        raise ConfigurationError(
            "sampled_softmax must be null for a low-rank HMM, whose output is not a softmax over all tokens; "
            f"got {config.sampled_softmax}"
        )
    return NeuralLM(vocab_size, LowRankHMM, architecture, config, context_size=None, device=device)


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "low_rank_hmm": {
        "quick": {"n_states": 512, "rank": 64, "training": {"tokens": 1_100_000}},
        "standard": {"n_states": 1024, "rank": 128, "training": {"tokens": 4_000_000}},
        "thorough": {"n_states": 2048, "rank": 256, "training": {"tokens": 20_000_000}},
        "tiny": {
            "n_states": 12, "rank": 4, "d_embed": 8,
            "training": {"tokens": 2000, "batch_size": 4, "chunk_size": 8, "learning_rate": 1e-2},
        },
    }
}  # fmt: skip
"""Settings of each factory of this file under each preset; see `lmzoo.zoo.presets`."""
