"""Proximal policy optimization (PPO): learning to write replies that earn a high reward (Schulman et al. 2017).

    reward of a token    r_t = -beta (log p(y_t) - log ref(y_t)), plus the reward of the reply at its last token
    advantage            A_t = d_t + gamma lam A_{t+1},  where d_t = r_t + gamma V_{t+1} - V_t
    policy loss          -min(q A, clip(q, 1 - eps, 1 + eps) A),  where q = p(y_t) / p_old(y_t)
    value loss           max((V - G)^2, (V_clipped - G)^2) / 2,  where G = A + V_old

The policy p is the language model that learns. It samples replies to prompts; y_t is token t of a reply. The reference
ref is the model from which the policy started. The first equation subtracts beta from the reward for each nat by which
the policy makes a token more likely than the reference does. The mean over replies of the sum of these nats is the
Kullback-Leibler (KL) divergence of the policy from the reference, so this penalty keeps the two similar (Ziegler et al.
2019). It is needed because the reward model learned from replies of the reference, and its rewards are reliable for
similar replies only.

The value V_t is computed by a second network. It estimates the sum of all rewards from token t on. The advantage A_t
says by how much the rewards from token t on exceed this estimate. Its equation is generalized advantage estimation
(GAE, Schulman et al. 2016), and d_t is the error of temporal-difference (TD) learning. The setting gamma discounts
later rewards, and lam sets how much A_t depends on sampled rewards rather than on values. The return G is what the
value should have been.

The index old marks what was computed when the replies were sampled. eps is the setting `clip`, and V_clipped is V
limited to V_old +- `value_clip`. Both limits keep the networks similar to what they were at that time.

As in InstructGPT (Ouyang et al. 2022), the value network starts as a copy of the reward network and shares no weights
with the policy. The policy may also go on learning to predict ordinary text (PPO-ptx, PPO mixed with pretraining),
which keeps it a good language model.

This module has the equations and the objective. `lmzoo.neural.objectives.rollouts` samples the replies.
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
from lmzoo.neural.objectives.sampled import SampledLayer
from lmzoo.neural.objectives.sequences import Rows, target_log_probs


@dataclass(frozen=True)
class PpoSettings:
    """The settings of PPO. Replies are always sampled from the policy's own distribution, at temperature 1."""

    n_replies: int = 64
    """Number of replies that the policy samples before it learns from them (a rollout). Each is a reply to a different
    prompt, if there are enough prompts."""
    max_tokens: int = 24
    """Largest number of tokens of a reply; a longer one is cut off."""
    n_epochs: int = 4
    """Number of times that the policy learns from each sampled reply."""
    n_minibatches: int = 4
    """Number of parts into which the replies are divided, one for each training step; a divisor of `n_replies`."""
    clip: float = 0.2
    """Limit of the change of a token's probability since it was sampled, as a fraction of its old probability. A larger
    change does not lower the loss further."""
    value_clip: float = 0.2
    """Limit of the change of a value since the replies were sampled. A larger one does not lower the loss further."""
    value_weight: float = 0.1
    """Weight of the value loss, where the policy loss has weight 1."""
    gamma: float = 1.0
    """Discount of later rewards, per token."""
    lam: float = 0.95
    """Trade-off between variance and bias of the advantages: with 1 they depend on sampled rewards, with 0 mostly on
    values."""
    kl_coefficient: float = 0.05
    """Penalty for divergence: what is subtracted from the reward for each nat of log p - log ref. It is called beta in
    the docstring of this module."""
    kl_target: float | None = None
    """KL divergence from the reference, in nats per reply, towards which the penalty is adapted; None: the penalty is
    fixed."""
    kl_horizon: float = 10_000
    """Number of replies within which an adapted penalty can change by a factor of about 1.2; used with `kl_target`."""
    unended_penalty: float = 1.0
    """What is subtracted from the reward of a reply that was cut off, or that did not end with its end id."""
    text_weight: float = 0.0
    """Weight of the loss on ordinary text (PPO-ptx), in nats per token, where the policy loss has weight 1; 0: no text
    is learned."""

    def __post_init__(self) -> None:
        check_whole(1, n_replies=self.n_replies, max_tokens=self.max_tokens, n_epochs=self.n_epochs)
        check_whole(1, n_minibatches=self.n_minibatches)
        check_positive(clip=self.clip, value_clip=self.value_clip, kl_horizon=self.kl_horizon)
        check_share(gamma=self.gamma, lam=self.lam)
        check_at_least(0, value_weight=self.value_weight, kl_coefficient=self.kl_coefficient)
        check_at_least(0, unended_penalty=self.unended_penalty, text_weight=self.text_weight)
        check_positive(none_means="for a fixed penalty", kl_target=self.kl_target)
        if self.n_replies % self.n_minibatches:
            raise ConfigurationError(
                f"n_replies must be a multiple of n_minibatches = {self.n_minibatches}, got {self.n_replies}"
            )


# ---- Rewards and advantages --------------------------------------------------------------------------


def shaped_rewards(rewards: Tensor, log_ratios: Tensor, mask: Tensor, kl_coefficient: float) -> Tensor:
    """Computes the reward of each token of R replies in rows of T columns (R, T), less the penalty for divergence.

    `rewards` (R,) are the rewards of the replies; the last token of a reply gets its reward. `log_ratios` (R, T) are
    log p - log ref of each token in nats, for the policy p and the reference ref. `mask` (R, T) is True for the tokens
    of the replies. `kl_coefficient` is the penalty for each nat of a log-ratio; it is called beta in the docstring of
    this module.
    """
    column = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, column, -1).amax(1, keepdim=True)  # (R, 1)
    return torch.where(mask, -kl_coefficient * log_ratios, 0.0) + torch.where(column == last, rewards[:, None], 0.0)


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """Computes the advantages of the tokens of R replies in rows of T columns (R, T), by GAE (Schulman et al. 2016).

    `rewards` (R, T) and `values` (R, T) belong to the tokens: a value is the estimate of all rewards from its token on.
    `mask` (R, T) is True for the tokens of a reply, which are contiguous; the value after the last of them is taken as
    0. `gamma` is the discount of later rewards, per token. With `lam` 1, the advantage of a token depends on its value
    and on all later rewards; with `lam` 0, on its value, its reward and the next value. The advantage is 0 where the
    mask is False. Advantages plus values are the returns, which the values should predict.
    """
    values = torch.where(mask, values, 0.0)
    next_advantage, next_value = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    result = torch.zeros_like(values)
    for column in reversed(range(values.shape[1])):
        td_error = rewards[:, column] + gamma * next_value - values[:, column]
        next_advantage = torch.where(mask[:, column], td_error + gamma * lam * next_advantage, 0.0)
        next_value = values[:, column]
        result[:, column] = next_advantage
    return result


def normalised(x: Tensor, mask: Tensor) -> Tensor:
    """Shifts and scales the elements of `x` where `mask` is True to mean 0 and standard deviation 1; others become 0.

    The standard deviation is the unbiased estimate, with N - 1 in the denominator for N elements. A single element
    becomes 0.
    """
    kept = x[mask]
    deviation = kept.std() if len(kept) > 1 else kept.new_ones(())
    return torch.where(mask, (x - kept.mean()) / (deviation + 1e-8), 0.0)


def kl_estimates(log_ratios: Tensor, kind: str) -> Tensor:
    """Computes an estimate of the KL divergence KL(p || q), in nats, from each sample of p.

    `log_ratios` are log p - log q of the samples, of any shape, and the estimates have the same shape. `kind` names the
    estimate (Schulman 2020): "k1" is the log-ratio itself, which is unbiased and may be negative; "k2" is half its
    square, which is biased and has a low variance; "k3" is q/p - 1 - log(q/p), which is unbiased and never negative.
    The mean over many samples converges to the divergence for "k1" and "k3"; for "k2", it is near the divergence if p
    and q are similar. Raises ConfigurationError for any other kind.
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
    """A KL penalty that changes until the divergence is near a target (Ziegler et al. 2019, section 2.2)."""

    coefficient: float
    """The penalty per nat."""
    target: float | None
    """KL divergence to aim at, in nats per reply; None: the penalty never changes."""
    horizon: float
    """Number of replies within which the penalty can change by a factor of about 1.2."""

    def updated(self, kl: float, n_replies: int) -> AdaptiveKl:
        """Returns an AdaptiveKl with the penalty for the next replies, after `n_replies` replies were sampled.

        `kl` is the KL divergence from the reference that was measured on these replies, in nats per reply. The penalty
        rises if `kl` is above the target, and falls if it is below.
        """
        if self.target is None:
            return self
        error = min(0.2, max(-0.2, kl / self.target - 1))
        return replace(self, coefficient=self.coefficient * (1 + error * n_replies / self.horizon))


# ---- Losses ------------------------------------------------------------------------------------------


def policy_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """Computes the clipped policy loss of each token, in the shape of the arguments.

    `log_probs` are the log-probabilities of sampled tokens under the policy as it is now, and `old_log_probs` those
    under the policy as it was when it sampled them. The gradient is 0 if the ratio of the new to the old probability is
    above 1 + `clip` and the advantage is positive, or below 1 - `clip` and the advantage is negative.
    """
    ratios = (log_probs - old_log_probs).exp()
    return torch.maximum(-ratios * advantages, -ratios.clamp(1 - clip, 1 + clip) * advantages)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Computes the clipped value loss of each token, half a squared error, in the shape of the arguments.

    `old_values` are the values when the replies were sampled, and `returns` are what the values should have been.
    Changing a value by more than `clip` does not reduce its loss further.
    """
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns).square(), (clipped - returns).square()) / 2


# ---- Policy and value in one network -----------------------------------------------------------------


@final
class ActorCritic(Network):
    """A policy and a value network that are trained together and share no weights.

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
        """The blocks of both networks; a block is a group of layers that compiled training compiles on its own.

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

    def sampled_cross_entropy(self, hidden: Tensor, layer: SampledLayer, weights: Tensor | None) -> Tensor:
        return self.policy.sampled_cross_entropy(hidden, layer, weights)

    def surprisals(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return self.policy.surprisals(hidden, targets)

    def values(self, rows: Rows) -> Tensor:
        """Computes the values (R, T) of R rows of T columns: estimates of the sum of rewards from each target on.

        The network computes a value before it reads the target.
        """
        return self.value.logits(self.value.read_rows(rows.inputs))[:, :, 0].float()

    def parameter_groups(self) -> ParameterGroups:
        pairs = zip(self.policy.parameter_groups(), self.value.parameter_groups(), strict=True)
        return ParameterGroups(*([*of_policy, *of_value] for of_policy, of_value in pairs))

    def initialize_output_bias(self, log_frequencies: Tensor) -> None:
        self.policy.initialize_output_bias(log_frequencies)

    def widened(self, n_new: int) -> Self:
        raise ConfigurationError(
            "the vocabulary of a policy that is joined with a value network cannot grow: widen the policy before"
        )


# ---- The objective -----------------------------------------------------------------------------------


class Rollout(NamedTuple):
    """R prompts with sampled replies, in rows of T columns, and optionally a chunk of ordinary text.

    A rollout is the set of all replies that are sampled before the policy learns from them. Objects of this class hold
    a rollout, or a minibatch of one.
    """

    rows: Rows
    """The R prompts with their replies; targets of weight 1 are the sampled tokens."""
    old_log_probs: Tensor
    """(R, T): log-probabilities of the targets under the policy that sampled the replies."""
    old_values: Tensor
    """(R, T): values of the targets when the replies were sampled."""
    advantages: Tensor
    """(R, T): advantages of the targets, normalised over all replies of the rollout."""
    returns: Tensor
    """(R, T): returns, which are what the values should have been."""
    text: Chunk | None = None
    """Ordinary text to predict (PPO-ptx); None: no text is learned."""
    measures: Mapping[str, float] = MappingProxyType({})
    """Measures of the whole rollout, to be reported."""

    def selected(self, index: Tensor) -> Rollout:
        """Returns the replies with the given indices (N,), each with its prompt."""
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

    The loss is a mean over the sampled tokens. Both networks read the replies without dropout, because the
    probabilities of a token under the old and the new policy would otherwise differ by chance. Besides the loss, the
    `measures` of the batch are reported, and two more: "clipped" is the share of tokens whose ratio of new to old
    probability is outside 1 +- `clip`; "kl_of_update" is the KL divergence between the policy that sampled the replies
    and the policy as it is now, in nats per token.
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
        measures = {
            **batch.measures,
            "clipped": float(((-log_ratios).expm1().abs() > settings.clip).float().mean()),
            "kl_of_update": float(kl_estimates(log_ratios, "k3").mean()),
        }
        return Step(total, n_tokens, state, measures)
