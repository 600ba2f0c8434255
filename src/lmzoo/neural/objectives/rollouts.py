"""Rollouts: the policy of PPO answers prompts, and the answers are scored and turned into batches to learn from."""

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
    shaped_rewards,
    whiten,
)
from lmzoo.neural.objectives.reward import rewards
from lmzoo.neural.objectives.sequences import Rows, fixed_log_probs
from lmzoo.neural.training.batches import Batches, StreamBatches
from lmzoo.stream import EOT

Answer = list[int]
RewardFunction = Callable[[Sequence[NDArray[np.int32]], Sequence[Answer]], ArrayLike]
"""(R prompts, R answers to them) -> the reward of each answer (R,).

Prompts and answers are token ids. An answer includes the id with which it ended.
"""


class RolloutFigures(NamedTuple):
    """Statistics of the sampled answers of one rollout, as means over all answers or over all tokens."""

    reward: float
    """Reward of an answer, without any penalty."""
    kl: float
    """Divergence of the policy from the reference, in nats per answer."""
    entropy: float
    """Entropy of the next token, in nats, estimated from the sampled tokens."""
    ended: float
    """Share of answers that ended with the end id."""
    tokens: float
    """Number of tokens of an answer."""
    distinct: float
    """Number of different answers, as a share of all answers."""
    penalty: float
    """The KL coefficient with which the answers were rewarded."""
    judge: float = math.nan
    """Grade of an answer by a judge, from which nothing is learned; NaN without a judge."""


def network_rewards(
    network: Network, prompts: Sequence[ArrayLike], answers: Sequence[ArrayLike]
) -> NDArray[np.float64]:
    """Computes the rewards (R,) of R answers to R prompts with a reward network, without gradient or dropout.

    Prompts and answers are arrays of token ids. With the first argument bound, this is a `RewardFunction`.
    """
    texts = [
        np.concatenate([np.asarray(part, np.int32) for part in pair]) for pair in zip(prompts, answers, strict=True)
    ]
    rows = Rows.of([(ids, np.zeros(len(ids))) for ids in texts], network.device)
    with torch.no_grad():
        return rewards(network.eval(), rows).cpu().double().numpy()


class _Sampled(NamedTuple):
    """The last rollout, and the numbers on which later rollouts depend.

    They are replaced together, as one object, so that an interrupt cannot leave some of them new and others old.
    """

    answers: Rollout
    """All answers, without text."""
    history: tuple[RolloutFigures, ...]
    """The figures of all rollouts so far."""
    kl: AdaptiveKl
    """The KL penalty of the next rollout."""


@final
class RolloutBatches(Batches[Rollout]):
    """The batches of PPO: answers that the policy itself samples.

    A rollout is a set of `settings.n_answers` answers, from which `n_epochs` x `n_minibatches` batches are made. When
    the policy has learned from all of them, it samples the next rollout. Rollout number n has the seed [`seed`, n].

    - `prompts`: token ids of the prompts, from which those of a rollout are drawn.
    - `reward`: a function that gives each answer a reward.
    - `reference`: the network from which the policy started; it is not changed.
    - `judge`: a function that grades each answer, to compare its grades with the rewards; nothing is learned from them.
    - `like`: a language model with the same settings as the policy; it may be the model that the policy started from.
    - `end_id`: the id that ends an answer. EOT (end of text) ends it too, but counts as not ended.
    - `bf16`: True to multiply matrices in bfloat16; None means True if the device has instructions for it. It must
      agree with the training settings.
    - `text`: batches of text for PPO-ptx.
    - `rows`: the part of each minibatch that this process learns from. Each process samples all answers.

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
        rows: slice = slice(None),
    ) -> None:
        if not len(prompts):
            raise ConfigurationError("PPO needs at least one prompt, got none")
        if bool(settings.text_weight) != (text is not None):
            raise ConfigurationError("PPO learns from text if it is given text and a text_weight above 0: give both")
        self._prompts = [np.asarray(prompt, np.int32) for prompt in prompts]
        self._reward, self._reference, self._settings, self._like = reward, reference, settings, like
        self._judge = judge
        self._end_id, self._seed, self._bf16, self._text, self._rows = end_id, seed, bf16, text, rows
        self._sampled: _Sampled | None = None

    @property
    def history(self) -> Sequence[RolloutFigures]:
        """The figures of all rollouts so far, including those before an interruption."""
        return self._sampled.history if self._sampled else ()

    def batch(self, step: int, network: Network) -> Rollout:
        assert isinstance(network, ActorCritic)
        n_minibatches = self._settings.n_minibatches
        rollout, index = divmod(step, self._settings.n_epochs * n_minibatches)
        if self._sampled is None or rollout == len(self._sampled.history):
            self._sampled = self._roll_out(rollout, network)
        chosen = torch.arange(index % n_minibatches, self._settings.n_answers, n_minibatches)[self._rows]
        figures = self._sampled.history[-1]
        return self._sampled.answers.selected(chosen.to(network.device))._replace(
            text=self._text.batch(step, network) if self._text else None,
            figures={"reward": figures.reward, "kl": figures.kl, "entropy": figures.entropy},
        )

    def n_tokens(self, batch: Rollout) -> int:
        return batch.rows.n_tokens + (self._text.n_tokens(batch.text) if self._text and batch.text else 0)

    def _roll_out(self, rollout: int, network: ActorCritic) -> _Sampled:
        """Samples and scores the answers of a rollout."""
        settings = self._settings
        penalty = AdaptiveKl(settings.kl_coefficient, settings.kl_target, settings.kl_horizon)
        if self._sampled:
            penalty = self._sampled.kl
        rng = np.random.default_rng([self._seed, rollout])
        drawn = rng.choice(len(self._prompts), settings.n_answers, replace=len(self._prompts) < settings.n_answers)
        prompts = [self._prompts[index] for index in drawn]
        model = NeuralLM.of(network.policy, self._like)
        sampled = generate_batch(
            model, prompts, rng=rng, max_tokens=settings.max_tokens, end_ids={self._end_id, EOT}
        )  # fmt: skip
        answers = [[token.token_id for token in tokens] for tokens in sampled]
        scores = self._scores(prompts, answers)
        has_ended = np.array([answer[-1] == self._end_id for answer in answers])
        rows = Rows.of(
            [([*p, *a], [0.0] * len(p) + [1.0] * len(a)) for p, a in zip(prompts, answers, strict=True)],
            network.device,
        )
        old_log_probs = self._by_minibatch(rows, lambda part: fixed_log_probs(network.policy, part, self._bf16))
        references = self._by_minibatch(rows, lambda part: fixed_log_probs(self._reference, part, self._bf16))
        old_values = self._by_minibatch(rows, lambda part: self._values(network, part))
        mask = rows.weights > 0
        log_ratios = old_log_probs - references
        penalised = scores - settings.unended_penalty * ~has_ended
        shaped = shaped_rewards(
            torch.from_numpy(penalised).float().to(network.device), log_ratios, mask, penalty.coefficient
        )
        gains = advantages(shaped, old_values, mask, gamma=settings.gamma, lam=settings.lam)
        kl = float(log_ratios.sum()) / len(answers)
        figures = RolloutFigures(
            reward=float(scores.mean()),
            kl=kl,
            entropy=float(-old_log_probs.sum() / mask.sum()),
            ended=float(has_ended.mean()),
            tokens=float(mask.sum()) / len(answers),
            distinct=len(set(map(tuple, answers))) / len(answers),
            penalty=penalty.coefficient,
            judge=float(np.asarray(self._judge(prompts, answers)).mean()) if self._judge else math.nan,
        )
        batch = Rollout(rows, old_log_probs, old_values, whiten(gains, mask), gains + old_values)
        return _Sampled(batch, (*self.history, figures), penalty.updated(kl, len(answers)))

    def _scores(self, prompts: Sequence[NDArray[np.int32]], answers: Sequence[Answer]) -> NDArray[np.float64]:
        """Returns the rewards (R,) of R answers; raises ConfigurationError unless these are R finite numbers."""
        scores = np.asarray(self._reward(prompts, answers), np.float64)
        if scores.shape != (len(answers),) or not np.isfinite(scores).all():
            raise ConfigurationError(
                f"the reward function must return one finite number for each of {len(answers)} answers, got "
                f"{scores.ravel()[:5].tolist()}{'..' if scores.size > 5 else ''} of shape {scores.shape}"
            )
        return scores

    def _by_minibatch(self, rows: Rows, compute: Callable[[Rows], Tensor]) -> Tensor:
        """Applies a function of rows to each minibatch of the R rows, and returns the results in one tensor (R, ..).

        The results equal those of the training step bit for bit, as both see the same minibatch.
        """
        n_minibatches = self._settings.n_minibatches
        parts = [compute(rows.selected(slice(first, None, n_minibatches))) for first in range(n_minibatches)]
        return torch.stack(parts, 1).flatten(0, 1)

    def _values(self, network: ActorCritic, rows: Rows) -> Tensor:
        """Computes the values of the targets of R rows (R, T), in the precision and with the kernels of training.

        The result has no gradient.
        """
        network.eval()
        with torch.enable_grad(), autocast(self._bf16, network.device):
            return network.values(rows).detach()

    # ---- Checkpoints ----------------------------------------------------------------------------

    def arrays(self) -> Arrays:
        if self._sampled is None:
            return {}
        answers = self._sampled.answers
        return {
            **{name: getattr(answers.rows, name).cpu().numpy() for name in Rows._fields},
            "old_log_probs": answers.old_log_probs.cpu().numpy(),
            "old_values": answers.old_values.cpu().numpy(),
            "advantages": answers.advantages.cpu().numpy(),
            "returns": answers.returns.cpu().numpy(),
            "history": np.array(self._sampled.history, np.float64),
            "kl_coefficient": np.array([self._sampled.kl.coefficient]),
        }

    def load_arrays(self, arrays: Arrays) -> None:
        if not arrays:
            return
        device, settings = self._like.device, self._settings
        tensors = {name: torch.from_numpy(np.array(array)).to(device) for name, array in arrays.items()}
        rows = Rows(*(tensors[name] for name in Rows._fields))
        self._sampled = _Sampled(
            Rollout(rows, tensors["old_log_probs"], tensors["old_values"], tensors["advantages"], tensors["returns"]),
            tuple(RolloutFigures(*row) for row in arrays["history"].tolist()),
            AdaptiveKl(float(arrays["kl_coefficient"][0]), settings.kl_target, settings.kl_horizon),
        )
