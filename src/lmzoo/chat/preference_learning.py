"""Learning to write the replies that rankings prefer, by PPO or by DPO.

Proximal policy optimization (PPO) is reinforcement learning. It samples replies, computes their rewards with the reward
model, and makes the tokens of replies with a high reward more likely. A penalty keeps the model from diverging too far
from the model with which the training started (Ziegler et al. 2019; Ouyang et al. 2022).

Direct preference optimization (DPO) needs no reward model. It raises the probability of the better reply of each
comparison relative to that of the worse one (Rafailov et al. 2023).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from lmzoo.chat.conversation import Conversation
from lmzoo.chat.preferences import Ranking, rankings_fingerprint
from lmzoo.chat.ranked_sequences import ranked_sequences
from lmzoo.chat.reward_model import RewardModel
from lmzoo.chat.template import decode_message, end_id, render_prompt
from lmzoo.chat.tuning import neural_model, tuned_predictor
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import CorpusError
from lmzoo.neural.objectives.comparisons import ComparisonBatches
from lmzoo.neural.objectives.dpo import dpo_objective, reply_log_probs
from lmzoo.neural.objectives.ppo import ActorCritic, Ppo, PpoSettings
from lmzoo.neural.objectives.rollouts import RewardFunction, RolloutBatches, RolloutMeasures, network_rewards
from lmzoo.neural.training.batches import StreamBatches
from lmzoo.neural.training.loop import Training
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.predictor import Predictor
from lmzoo.stream import TokenStream
from lmzoo.system.progress import OnProgress

DPO_TRAINING = TrainConfig(tokens=600_000, batch_size=16, learning_rate=1e-4, schedule="wsd")
"""Default settings of DPO; `batch_size` is the number of rankings in a batch."""
PPO_TRAINING = TrainConfig(tokens=1_500_000, batch_size=16, chunk_size=64, learning_rate=2e-4, warmup=0.02)
"""Default settings of PPO; `batch_size` and `chunk_size` are those of the ordinary text, which PPO-ptx learns too."""


def dpo(
    start: Predictor,
    rankings: Sequence[Ranking],
    *,
    beta: float = 0.1,
    species: str = "chat",
    training: TrainConfig | Mapping[str, Any] | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Predictor:
    """Trains a copy of the chat model `start` on rankings by DPO, and returns the trained copy.

    The larger `beta` is, the less the copy diverges from `start`. `species` is the species of the trained copy, and
    `training` changes some of the default settings DPO_TRAINING. Raises CorpusError if all rankings are ties.
    """
    model, config = neural_model(start), DPO_TRAINING.changed(training)
    rankings = [ranking for ranking in rankings if ranking.pairs]
    if not rankings:
        raise CorpusError("DPO needs rankings that are not ties, got none: rank more replies")
    sequences, levels = ranked_sequences(rankings, start.tokenizer)
    network = copy.deepcopy(model.network)
    references = reply_log_probs(model.network, sequences, bf16=config.bf16)
    run = Training(
        network,
        ComparisonBatches(sequences, levels, n_rankings=config.batch_size, seed=seed, reference_log_probs=references),
        config,
        objective=dpo_objective(beta),
        evaluate=None,  # the weights of the last step are kept
        seed=seed,
        unit="nats/comparison",
    )
    facts = [seed, beta, repr(config), network.weights_fingerprint(), rankings_fingerprint(rankings)]
    return tuned_predictor(
        start, network, species, run,
        fingerprint=repr(facts), seed=seed, checkpoint=checkpoint, on_progress=on_progress,
    )  # fmt: skip


def ppo(
    start: Predictor,
    reward_model: RewardModel,
    prompts: Sequence[Conversation],
    *,
    judge: Callable[[Conversation, str], float] | None = None,
    settings: PpoSettings | None = None,
    text: TokenStream | None = None,
    species: str = "chat",
    training: TrainConfig | Mapping[str, Any] | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Predictor, Sequence[RolloutMeasures]]:
    """Trains a copy of a chat model by PPO, and returns the trained copy and the measures of each rollout.

    `start` is a chat model with its tokenizer, and is not changed. In each rollout, the copy samples replies to some of
    the `prompts`, `reward_model` computes their rewards, and the copy learns from the rewards. The measures of a
    rollout are the mean reward of the replies, their divergence from `start`, and others (see `RolloutMeasures`).
    `judge` returns the grade of a reply to a prompt; the mean grade is one of the measures, and nothing is learned from
    it. `text` is a token stream of the ordinary text on which the language model was trained before it became a chat
    model. If the setting `text_weight` is above 0, the copy goes on learning to predict this text (PPO-ptx, PPO mixed
    with pretraining). `species` is the species of the trained copy, and `training` changes some of the default settings
    PPO_TRAINING.
    """
    settings, config = settings or PpoSettings(), PPO_TRAINING.changed(training)
    model = neural_model(start)
    network = ActorCritic(copy.deepcopy(model.network), copy.deepcopy(reward_model.network))
    rendered = [render_prompt(prompt, start.tokenizer) for prompt in prompts]
    by_ids = dict(zip(map(tuple, rendered), prompts, strict=True))
    batches = RolloutBatches(
        rendered,
        partial(network_rewards, reward_model.network),
        model.network,
        settings,
        judge=None if judge is None else _judge_of_ids(judge, by_ids, start),
        like=model,
        end_id=end_id(start.tokenizer),
        seed=seed,
        bf16=config.bf16,
        text=StreamBatches(text, config, seed) if text is not None and settings.text_weight else None,
    )
    run = Training(
        network,
        batches,
        config,
        objective=Ppo(settings),
        evaluate=None,  # the weights of the last step are kept
        seed=seed,
        unit="loss",
    )
    facts = [
        seed, repr(config), repr(settings), network.weights_fingerprint(), len(prompts),
        0 if text is None else int(np.asarray(text.ids, np.int64).sum()),
    ]  # fmt: skip
    tuned = tuned_predictor(
        start, network.policy, species, run,
        fingerprint=repr(facts), seed=seed, checkpoint=checkpoint, on_progress=on_progress,
    )  # fmt: skip
    return tuned, batches.history


def _judge_of_ids(
    judge: Callable[[Conversation, str], float], prompts: Mapping[tuple[int, ...], Conversation], start: Predictor
) -> RewardFunction:
    """Returns a function that grades replies given as token ids, as `judge` grades their texts.

    `prompts` holds all prompts by their token ids, and `start` has the tokenizer.
    """
    return lambda ids, replies: [
        judge(prompts[tuple(prompt)], decode_message(reply, start.tokenizer))
        for prompt, reply in zip(ids, replies, strict=True)
    ]
