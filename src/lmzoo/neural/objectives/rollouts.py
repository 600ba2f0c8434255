"""Rollouts: the policy of PPO (proximal policy optimization) samples replies, which become the batches to learn from.

A rollout is the set of all replies that are sampled before the policy learns from them. Each reply gets a reward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lmzoo.arrays import Arrays
from lmzoo.errors import ConfigurationError
from lmzoo.generation import generate_batch
from lmzoo.neural.devices import autocast
from lmzoo.neural.network import Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.ppo import (
    ActorCritic,
    AdaptiveKl,
    PpoSettings,
    Rollout,
    advantages,
    normalised,
    shaped_rewards,
)
from lmzoo.neural.objectives.reward import rewards
from lmzoo.neural.objectives.sequences import Rows, fixed_log_probs
from lmzoo.neural.training.batches import Batches, StreamBatches
from lmzoo.stream import EOT

ReplyIds = list[int]
"""The token ids of a reply, including the id with which it ended."""
RewardFunction = Callable[[Sequence[NDArray[np.int32]], Sequence[ReplyIds]], ArrayLike]
"""A function (token ids of R prompts, token ids of R replies to them) -> the reward of each reply (R,)."""


class RolloutMeasures(NamedTuple):
    """Measures of the sampled replies of one rollout."""

    reward: float
    """Mean reward of a reply, before any penalty is subtracted."""
    kl: float
    """Kullback-Leibler (KL) divergence of the policy from the reference, in nats per reply."""
    entropy: float
    """Mean entropy of the next token, in nats, estimated from the sampled tokens."""
    ended: float
    """Share of the replies that ended with the end id."""
    tokens: float
    """Mean number of tokens of a reply."""
    distinct: float
    """Number of different replies, as a share of all replies."""
    kl_coefficient: float
    """The penalty for divergence in this rollout, in units of the reward per nat."""
    grade: float = math.nan
    """Mean grade of a reply by a judge, from which nothing is learned; NaN without a judge."""


def network_rewards(
    network: Network, prompts: Sequence[ArrayLike], replies: Sequence[ArrayLike]
) -> NDArray[np.float64]:
    """Computes the rewards (R,) of R replies to R prompts with a reward network, without gradient or dropout.

    Prompts and replies are arrays of token ids. `functools.partial(network_rewards, network)` is a `RewardFunction`.
    """
    sequences = [
        np.concatenate([np.asarray(part, np.int32) for part in pair]) for pair in zip(prompts, replies, strict=True)
    ]
    rows = Rows.of([(ids, np.zeros(len(ids))) for ids in sequences], network.device)
    with torch.no_grad():
        return rewards(network.eval(), rows).cpu().double().numpy()


class _Sampled(NamedTuple):
    """The last rollout, and the numbers on which later rollouts depend.

    They are replaced together, as one object, so that an interrupt cannot leave some of them new and others old.
    """

    replies: Rollout
    """All replies of the last rollout, without ordinary text."""
    history: tuple[RolloutMeasures, ...]
    """The measures of all rollouts so far."""
    kl_penalty: AdaptiveKl
    """The penalty for divergence in the next rollout."""


@final
class RolloutBatches(Batches[Rollout]):
    """The batches of PPO: replies that the policy itself samples.

    A rollout has `settings.n_replies` replies, from which `n_epochs` x `n_minibatches` batches are made. When the
    policy has learned from all of them, it samples the next rollout. Rollout number n has the seed [`seed`, n].

    - `prompts`: token ids of the prompts, from which those of a rollout are drawn.
    - `reward`: a function that gives each reply a reward.
    - `reference`: the network from which the policy started; it is not changed.
    - `judge`: a function that grades each reply. The grades are reported beside the rewards, and nothing is learned
      from them.
    - `like`: a language model with the same settings as the policy, such as the model from which the policy started.
    - `end_id`: the id that ends a reply. EOT (end of text) ends it too, but such a reply counts as not ended.
    - `bf16`: True to multiply matrices in bfloat16; None means True if the device has instructions for it. It must
      agree with the training settings.
    - `text`: batches of ordinary text, which the policy goes on learning to predict (PPO-ptx, PPO mixed with
      pretraining); None for PPO alone.

    Log-probabilities and values of the old policy are computed with the operations of training, not with those of
    sampling, so the ratio of new to old probability is exactly 1 before the first update. A rollout depends on the
    weights, so a checkpoint stores it.
    """

    def __init__(
        self,
        prompts: Sequence[ArrayLike],
        reward: RewardFunction,
        reference: Network,
        settings: PpoSettings,
        *,
        judge: RewardFunction | None = None,
        like: NeuralLM,
        end_id: int,
        seed: int,
        bf16: bool | None = None,
        text: StreamBatches | None = None,
    ) -> None:
        if not len(prompts):
            raise ConfigurationError("PPO needs at least one prompt to reply to, got none")
        if bool(settings.text_weight) != (text is not None):
            raise ConfigurationError(
                f"PPO learns from ordinary text if it is given text and a text_weight above 0, got "
                f"{'no text' if text is None else 'text'} and text_weight {settings.text_weight}: give both or neither"
            )
        self._prompts = [np.asarray(prompt, np.int32) for prompt in prompts]
        self._reward, self._reference, self._settings, self._like = reward, reference, settings, like
        self._judge = judge
        self._end_id, self._seed, self._bf16, self._text = end_id, seed, bf16, text
        self._sampled: _Sampled | None = None

    @property
    def history(self) -> Sequence[RolloutMeasures]:
        """The measures of all rollouts so far, including those before an interruption."""
        return self._sampled.history if self._sampled else ()

    def batch(self, step: int, network: Network) -> Rollout:
        assert isinstance(network, ActorCritic)
        n_minibatches = self._settings.n_minibatches
        number, index = divmod(step, self._settings.n_epochs * n_minibatches)
        if self._sampled is None or number == len(self._sampled.history):
            self._sampled = self._roll_out(number, network)
        chosen = torch.arange(index % n_minibatches, self._settings.n_replies, n_minibatches)
        measures = self._sampled.history[-1]
        return self._sampled.replies.selected(chosen.to(network.device))._replace(
            text=self._text.batch(step, network) if self._text else None,
            measures={"reward": measures.reward, "kl": measures.kl, "entropy": measures.entropy},
        )

    def n_tokens(self, batch: Rollout) -> int:
        return batch.rows.n_tokens + (self._text.n_tokens(batch.text) if self._text and batch.text else 0)

    def _roll_out(self, number: int, network: ActorCritic) -> _Sampled:
        """Samples the replies of the rollout with the given number, and computes their rewards and advantages."""
        settings = self._settings
        kl_penalty = AdaptiveKl(settings.kl_coefficient, settings.kl_target, settings.kl_horizon)
        if self._sampled:
            kl_penalty = self._sampled.kl_penalty
        rng = np.random.default_rng([self._seed, number])
        drawn = rng.choice(len(self._prompts), settings.n_replies, replace=len(self._prompts) < settings.n_replies)
        prompts = [self._prompts[index] for index in drawn]
        model = NeuralLM.of(network.policy, self._like)
        sampled = generate_batch(
            model, prompts, rng=rng, max_tokens=settings.max_tokens, end_ids={self._end_id, EOT}
        )  # fmt: skip
        replies = [[token.token_id for token in tokens] for tokens in sampled]
        earned = self._rewards(prompts, replies)
        has_ended = np.array([reply[-1] == self._end_id for reply in replies])
        rows = Rows.of(
            [([*p, *r], [0.0] * len(p) + [1.0] * len(r)) for p, r in zip(prompts, replies, strict=True)],
            network.device,
        )
        old_log_probs = self._by_minibatch(rows, lambda part: fixed_log_probs(network.policy, part, self._bf16))
        references = self._by_minibatch(rows, lambda part: fixed_log_probs(self._reference, part, self._bf16))
        old_values = self._by_minibatch(rows, lambda part: self._values(network, part))
        mask = rows.weights > 0
        log_ratios = old_log_probs - references
        penalised = earned - settings.unended_penalty * ~has_ended
        shaped = shaped_rewards(
            torch.from_numpy(penalised).float().to(network.device), log_ratios, mask, kl_penalty.coefficient
        )
        gains = advantages(shaped, old_values, mask, gamma=settings.gamma, lam=settings.lam)
        kl = float(log_ratios.sum()) / len(replies)
        measures = RolloutMeasures(
            reward=float(earned.mean()),
            kl=kl,
            entropy=float(-old_log_probs.sum() / mask.sum()),
            ended=float(has_ended.mean()),
            tokens=float(mask.sum()) / len(replies),
            distinct=len(set(map(tuple, replies))) / len(replies),
            kl_coefficient=kl_penalty.coefficient,
            grade=float(np.asarray(self._judge(prompts, replies)).mean()) if self._judge else math.nan,
        )
        batch = Rollout(rows, old_log_probs, old_values, normalised(gains, mask), gains + old_values)
        return _Sampled(batch, (*self.history, measures), kl_penalty.updated(kl, len(replies)))

    def _rewards(self, prompts: Sequence[NDArray[np.int32]], replies: Sequence[ReplyIds]) -> NDArray[np.float64]:
        """Returns the rewards (R,) of R replies; raises ConfigurationError unless these are R finite numbers."""
        rewards = np.asarray(self._reward(prompts, replies), np.float64)
        if rewards.shape != (len(replies),) or not np.isfinite(rewards).all():
            raise ConfigurationError(
                f"the reward function must return one finite number for each of {len(replies)} replies, got "
                f"{rewards.ravel()[:5].tolist()}{'..' if rewards.size > 5 else ''} of shape {rewards.shape}"
            )
        return rewards

    def _by_minibatch(self, rows: Rows, compute: Callable[[Rows], Tensor]) -> Tensor:
        """Applies a function of rows to each minibatch of the R rows, and returns the results in one tensor (R, ..).

        The results equal those of the training step bit for bit, because the training step reads the same minibatches.
        """
        n_minibatches = self._settings.n_minibatches
        parts = [compute(rows.selected(slice(first, None, n_minibatches))) for first in range(n_minibatches)]
        return torch.stack(parts, 1).flatten(0, 1)

    def _values(self, network: ActorCritic, rows: Rows) -> Tensor:
        """Computes the values of the targets in R rows (R, T), in the precision and with the kernels of training.

        The result has no gradient.
        """
        network.eval()
        with torch.enable_grad(), autocast(self._bf16, network.device):
            return network.values(rows).detach()

    # ---- Checkpoints ----------------------------------------------------------------------------

    def arrays(self) -> Arrays:
        if self._sampled is None:
            return {}
        replies = self._sampled.replies
        return {
            **{name: getattr(replies.rows, name).cpu().numpy() for name in Rows._fields},
            "old_log_probs": replies.old_log_probs.cpu().numpy(),
            "old_values": replies.old_values.cpu().numpy(),
            "advantages": replies.advantages.cpu().numpy(),
            "returns": replies.returns.cpu().numpy(),
            "history": np.array(self._sampled.history, np.float64),
            "kl_coefficient": np.array([self._sampled.kl_penalty.coefficient]),
        }

    def load_arrays(self, arrays: Arrays) -> None:
        if not arrays:
            return
        device, settings = self._like.device, self._settings
        tensors = {name: torch.from_numpy(np.array(array)).to(device) for name, array in arrays.items()}
        rows = Rows(*(tensors[name] for name in Rows._fields))
        self._sampled = _Sampled(
            Rollout(rows, tensors["old_log_probs"], tensors["old_values"], tensors["advantages"], tensors["returns"]),
            tuple(RolloutMeasures(*row) for row in arrays["history"].tolist()),
            AdaptiveKl(float(arrays["kl_coefficient"][0]), settings.kl_target, settings.kl_horizon),
        )
