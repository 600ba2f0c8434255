"""Proximal policy optimization: learning to give answers that earn a high reward (Schulman et al. 2017).

    reward of a token    r_t = -beta (log p(y_t) - log ref(y_t)), plus the reward of the answer at its last token
    advantage            A_t = d_t + gamma lam A_{t+1},  d_t = r_t + gamma V_{t+1} - V_t     GAE, Schulman et al. 2016
    policy loss          -min(q A, clip(q, 1 - eps, 1 + eps) A),  q = p(y_t) / p_old(y_t)
    value loss           max((V - G)^2, (V_clipped - G)^2) / 2,  G = A + V_old

The policy p is a language model that samples answers, and ref is the model from which it started. The penalty beta
keeps p near ref (Ziegler et al. 2019), because the reward model learned from answers of ref and can be trusted only on
similar ones. V_t, from a second network, estimates the sum of the rewards from token t on. The return G is what the
value should have been.

gamma is the discount of later rewards, and lam weighs sampled rewards against values (the settings `gamma` and `lam`).
The index old means: when the answers were sampled. eps is the setting `clip`, and V_clipped is V limited to V_old +-
`value_clip`; both limits keep the networks near those that sampled the answers.

As in InstructGPT (Ouyang et al. 2022), the value network starts as the reward network and shares no weights with the
policy, and the policy may go on learning from text (PPO-ptx), which keeps it a good language model.

This module has the equations and the objective. `lmzoo.neural.objectives.rollouts` samples the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple, Self, final

import torch
from torch import Tensor, nn

from lmzoo.checks import check_at_least, check_positive, check_share, check_whole
from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Network, ParameterGroups, State
from lmzoo.neural.objectives.next_token import Chunk, next_token
from lmzoo.neural.objectives.objective import Step
from lmzoo.neural.objectives.sequences import Rows, target_log_probs


@dataclass(frozen=True)
class PpoSettings:
    """The settings of PPO. Answers are always sampled from the policy's own distribution, at temperature 1."""

    n_answers: int = 64
    """Number of answers that are sampled before the policy learns from them, each to another prompt."""
    max_tokens: int = 24
    """Largest number of tokens of an answer; a longer one is cut off."""
    n_epochs: int = 4
    """Number of times that the policy learns from each sampled answer."""
    n_minibatches: int = 4
    """Number of parts into which the answers are divided, one for each training step; a divisor of `n_answers`."""
    clip: float = 0.2
    """Largest change of the probability of a token that still pays, as a fraction of its probability when sampled."""
    value_clip: float = 0.2
    """Largest change of a value since the answers were sampled that still pays."""
    value_weight: float = 0.1
    """Weight of the value loss beside the policy loss."""
    gamma: float = 1.0
    """Discount of rewards per token."""
    lam: float = 0.95
    """Trade-off of the advantages between variance and bias: 1 uses the sampled rewards only, 0 mostly the values."""
    kl_coefficient: float = 0.05
    """Penalty for each nat by which the policy raises the probability of its answers over the reference, beta above."""
    kl_target: float | None = None
    """KL divergence from the reference to aim at, in nats per answer, by changing the penalty; None = fixed penalty."""
    kl_horizon: float = 10_000
    """Number of answers in which the penalty may change by a factor of about 1.2; used with `kl_target` only."""
    unended_penalty: float = 1.0
    """Penalty, subtracted from the reward, for an answer that was cut off or did not end with its end id."""
    text_weight: float = 0.0
    """Weight of the next-token loss on text, in nats per token, beside the policy loss (PPO-ptx)."""

    def __post_init__(self) -> None:
        check_whole(1, n_answers=self.n_answers, max_tokens=self.max_tokens, n_epochs=self.n_epochs)
        check_whole(1, n_minibatches=self.n_minibatches)
        check_positive(clip=self.clip, value_clip=self.value_clip, kl_horizon=self.kl_horizon)
        check_share(gamma=self.gamma, lam=self.lam)
        check_at_least(0, value_weight=self.value_weight, kl_coefficient=self.kl_coefficient)
        check_at_least(0, unended_penalty=self.unended_penalty, text_weight=self.text_weight)
        check_positive(none_means="for a fixed penalty", kl_target=self.kl_target)
        if self.n_answers % self.n_minibatches:
            raise ConfigurationError(
                f"n_answers must be a multiple of n_minibatches = {self.n_minibatches}, got {self.n_answers}"
            )


# ---- Rewards and advantages --------------------------------------------------------------------------


def shaped_rewards(rewards: Tensor, log_ratios: Tensor, mask: Tensor, kl_coefficient: float) -> Tensor:
    """Computes the reward of each token of R answers in rows of T columns (R, T), the KL penalty included.

    `rewards` (R,) are the rewards of the answers, which their last tokens get. `log_ratios` (R, T) are log p - log ref
    of each token, for the policy p and the reference ref, in nats. `mask` (R, T) is True for the tokens of the answers.
    `kl_coefficient` is the penalty for each nat of a log-ratio, called beta in the docstring of this module.
    """
    column = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, column, -1).amax(1, keepdim=True)  # (R, 1)
    return torch.where(mask, -kl_coefficient * log_ratios, 0.0) + torch.where(column == last, rewards[:, None], 0.0)


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """Computes the advantages of the tokens of R answers in rows of T columns (R, T), by GAE (Schulman et al. 2016).

    `rewards` (R, T) and `values` (R, T) belong to the tokens: a value is the estimate of all rewards from its token on.
    `mask` (R, T) is True for the tokens of an answer, which are contiguous; the value after the last of them is taken
    as 0. `gamma` is the discount of later rewards per token. `lam` is a trade-off: with 1, advantages depend on all
    later rewards; with 0, only on the reward of the token and the next value. The advantage is 0 where the mask is
    False. Advantages plus values are the returns, which the values should predict.
    """
    values = torch.where(mask, values, 0.0)
    next_advantage, next_value = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    result = torch.zeros_like(values)
    for column in reversed(range(values.shape[1])):
        surprise = rewards[:, column] + gamma * next_value - values[:, column]
        next_advantage = torch.where(mask[:, column], surprise + gamma * lam * next_advantage, 0.0)
        next_value = values[:, column]
        result[:, column] = next_advantage
    return result


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Shifts and scales the elements of `x` where `mask` is True to mean 0 and deviation 1; the others become 0.

    The deviation is the unbiased estimate, with N - 1 in the denominator for N elements. A single element becomes 0.
    """
    kept = x[mask]
    deviation = kept.std() if len(kept) > 1 else kept.new_ones(())
    return torch.where(mask, (x - kept.mean()) / (deviation + 1e-8), 0.0)


def kl_estimates(log_ratios: Tensor, kind: str) -> Tensor:
    """Computes an estimate of KL(p || q), in nats, from each sample of p, in the shape of `log_ratios`.

    `log_ratios` are log p - log q of the samples, of any shape. The values of `kind` (Schulman 2020): "k1", the
    log-ratio itself, unbiased, may be negative; "k2", half its square, biased, with a low variance; "k3",
    q/p - 1 - log(q/p), unbiased, never negative. The mean over many samples converges to the divergence for "k1" and
    "k3"; for "k2", it is near the divergence if p and q are similar. Raises ConfigurationError for any other kind.
    """
    if kind == "k1":
        return log_ratios
    if kind == "k2":
        return log_ratios.square() / 2
    if kind == "k3":
        return torch.expm1(-log_ratios) + log_ratios
    raise ConfigurationError(f"the kind of a KL estimate must be k1, k2 or k3, got '{kind}'")


@dataclass(frozen=True)
class AdaptiveKl:
    """A KL penalty that changes until the divergence is near a target (Ziegler et al. 2019, section 2.2).

    `coefficient` is the penalty and `target` the divergence in nats per answer; None = the penalty never changes.
    """

    coefficient: float
    target: float | None
    horizon: float

    def updated(self, kl: float, n_answers: int) -> AdaptiveKl:
        """Returns an AdaptiveKl with the penalty for the next answers, after `n_answers` answers were sampled.

        `kl` is the mean divergence of these answers from the reference, in nats per answer. The penalty rises if it is
        above the target, and falls if it is below.
        """
        if self.target is None:
            return self
        error = min(0.2, max(-0.2, kl / self.target - 1))
        return replace(self, coefficient=self.coefficient * (1 + error * n_answers / self.horizon))


# ---- Losses ------------------------------------------------------------------------------------------


def policy_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """Computes the clipped policy loss of each token, in the shape of the arguments.

    `log_probs` are the log-probabilities of sampled tokens under the policy that learns, and `old_log_probs` those
    under the policy that sampled them. The gradient is 0 where the ratio of the new to the old probability is already
    beyond 1 +- `clip`, in the direction that the advantage favours.
    """
    ratios = (log_probs - old_log_probs).exp()
    return torch.maximum(-ratios * advantages, -ratios.clamp(1 - clip, 1 + clip) * advantages)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Computes the clipped value loss of each token, half a squared error, in the shape of the arguments.

    `old_values` are the values when the answers were sampled, and `returns` those that the values should have had.
    Moving a value further than `clip` from its old value does not reduce the loss.
    """
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns).square(), (clipped - returns).square()) / 2


# ---- Policy and value in one network -----------------------------------------------------------------


@final
class ActorCritic(Network):
    """A policy and a value network that are trained together, and share no weights.

    The methods that predict tokens, such as `forward` and `logits`, use the policy. The method `values` uses the value
    network, which computes one number for each position, like a network made by `reward_network`.
    """

    def __init__(self, policy: Network, value: Network) -> None:
        super().__init__()
        self.policy, self.value = policy, value

    @property
    def vocab_size(self) -> int:
        return self.policy.vocab_size

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks (layers that are compiled one by one in compiled training) of both networks.

        Raises AttributeError if one of the networks is not made of blocks.
        """
        return nn.ModuleList([*self._blocks_of(self.policy), *self._blocks_of(self.value)])

    @staticmethod
    def _blocks_of(network: Network) -> nn.ModuleList:
        blocks = network.blocks
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def initial_state(self, batch_size: int) -> State:
        return self.policy.initial_state(batch_size)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        return self.policy(ids, state)

    def read_rows(self, ids: Tensor) -> Tensor:
        return self.policy.read_rows(ids)

    def stack_states(self, states: Sequence[State]) -> State:
        return self.policy.stack_states(states)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.policy.logits(hidden)

    def cross_entropy(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.policy.cross_entropy(hidden, targets, weights)

    def surprisals(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return self.policy.surprisals(hidden, targets)

    def values(self, rows: Rows) -> Tensor:
        """Computes the values (R, T) of R rows of T columns: estimates of the rewards from each target token on.

        A value is computed before its target token is read.
        """
        return self.value.logits(self.value.read_rows(rows.inputs))[:, :, 0].float()

    def parameter_groups(self) -> ParameterGroups:
        pairs = zip(self.policy.parameter_groups(), self.value.parameter_groups(), strict=True)
        return ParameterGroups(*([*of_policy, *of_value] for of_policy, of_value in pairs))

    def initialize_output_bias(self, log_frequencies: Tensor) -> None:
        self.policy.initialize_output_bias(log_frequencies)

    def widened(self, n_new: int) -> Self:
        raise ConfigurationError("widen the policy before it is joined with a value network")


# ---- The objective -----------------------------------------------------------------------------------


class Rollout(NamedTuple):
    """R sampled answers after their prompts, in rows of T columns, and optionally a chunk of text.

    These are all answers that were sampled before the policy learns from them (a rollout), or a minibatch of them.
    """

    rows: Rows
    """The R texts; targets of weight 1 are the sampled tokens."""
    old_log_probs: Tensor
    """(R, T): log-probabilities of the targets under the policy that sampled them."""
    old_values: Tensor
    """(R, T): values when the answers were sampled."""
    advantages: Tensor
    """(R, T): advantages of the targets, whitened over all answers of the rollout."""
    returns: Tensor
    """(R, T): what the values should be."""
    text: Chunk | None = None
    """Text for PPO-ptx."""
    figures: Mapping[str, float] = MappingProxyType({})
    """Figures of the whole rollout, to be reported."""

    def selected(self, index: Tensor) -> Rollout:
        """Returns the answers with the given indices (N,)."""
        return self._replace(
            rows=self.rows.selected(index),
            old_log_probs=self.old_log_probs[index],
            old_values=self.old_values[index],
            advantages=self.advantages[index],
            returns=self.returns[index],
        )


@final
class Ppo:
    """The objective of PPO, for an `ActorCritic` and batches of `Rollout`.

    The loss is a mean over the sampled tokens. Both networks read the answers without dropout, because the
    probabilities of a token under the old and the new policy would otherwise differ by chance. Besides the loss, the
    numbers in `figures` of the batch are reported, the share of tokens whose ratio of new to old probability is beyond
    1 +- `clip` ("clipped"), and the divergence of the policy from the one that sampled the answers, in nats per token
    ("step").
    """

    def __init__(self, settings: PpoSettings) -> None:
        self._settings = settings

    def __call__(self, network: Network, batch: Rollout, state: State) -> Step:
        assert isinstance(network, ActorCritic)
        settings, mask = self._settings, batch.rows.weights > 0
        network.eval()
        log_probs = target_log_probs(network.policy, batch.rows)  # (R, T)
        of_policy = policy_loss(log_probs, batch.old_log_probs, batch.advantages, clip=settings.clip)
        values = network.values(batch.rows)
        of_value = value_loss(values, batch.old_values, batch.returns, clip=settings.value_clip)
        total = (of_policy + settings.value_weight * of_value)[mask].sum()
        n_tokens = float(mask.sum())
        if batch.text is not None:
            network.train()
            step = next_token(network, batch.text, state)
            total = total + settings.text_weight * n_tokens * step.total / step.weight
            state = step.state
        log_ratios = (batch.old_log_probs - log_probs).detach()[mask]
        figures = {
            **batch.figures,
            "clipped": float((log_ratios.expm1().abs() > settings.clip).float().mean()),
            "step": float(kl_estimates(log_ratios, "k3").mean()),
        }
        return Step(total, n_tokens, state, figures)
