"""The reward model learns from rankings of replies, and gives a reward to replies that nobody has ranked.

It starts as a copy of a chat model, reads a prompt with a reply, and computes one number, the reward (Ouyang et al.
2022, section 3.5). The rewards of different reward models cannot be compared: training on rankings determines only
differences of rewards, and `normalise` sets the mean and the scale of the rewards for each reward model alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.chat.conversation import Conversation
from lmzoo.chat.preferences import Ranking, rankings_fingerprint
from lmzoo.chat.ranked_sequences import ranked_sequences
from lmzoo.chat.template import render_reply
from lmzoo.chat.tuning import neural_model
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import CorpusError, SavedModelError
from lmzoo.neural.network import Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.comparisons import ComparisonBatches
from lmzoo.neural.objectives.reward import normalise_rewards, reward_network, reward_objective
from lmzoo.neural.objectives.rollouts import network_rewards
from lmzoo.neural.training.loop import Training
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.predictor import Predictor
from lmzoo.system.files import atomic_folder
from lmzoo.system.progress import OnProgress
from lmzoo.tokenizers import Tokenizer

REWARD_TRAINING = TrainConfig(tokens=600_000, batch_size=16, learning_rate=3e-4, schedule="wsd", patience=3)
"""Default settings for training a reward model; `batch_size` is the number of rankings in a batch."""
_AT_A_TIME = 256
"""Number of replies whose rewards are computed together."""


@final
@dataclass(frozen=True, eq=False)
class RewardModel:
    """A network that computes one number, the reward, from a prompt and a reply; with the tokenizer of a chat model."""

    tokenizer: Tokenizer
    network: Network
    settings: Mapping[str, Any]
    """Settings of the chat model of which the network was a copy before training: the species and the settings of the
    base of that model."""

    def rewards(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> NDArray[np.float64]:
        """Returns the rewards (N,) of N replies, each to the prompt at the same index."""
        rendered = [render_reply(*pair, self.tokenizer) for pair in zip(prompts, replies, strict=True)]
        parts = [
            network_rewards(self.network, [one.ids[: one.start] for one in part], [one.reply for one in part])
            for part in (rendered[start : start + _AT_A_TIME] for start in range(0, len(rendered), _AT_A_TIME))
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def accuracy(self, rankings: Sequence[Ranking]) -> float | None:
        """Returns the share of pairs of replies that the rewards order as the rankings do; None if there is no pair.

        All rankings have the same weight, whatever their numbers of replies. Ties are left out.
        """
        ranked = [ranking for ranking in rankings if ranking.pairs]
        prompts = [ranking.prompt for ranking in ranked for _ in ranking.replies]
        rewards = iter(self.rewards(prompts, [reply for ranking in ranked for reply in ranking.replies]))
        shares: list[float] = []
        for ranking in ranked:
            of_reply = {reply: next(rewards) for reply in ranking.replies}
            shares.append(float(np.mean([of_reply[better] > of_reply[worse] for better, worse in ranking.pairs])))
        return float(np.mean(shares)) if shares else None

    def save(self, folder: str | Path) -> None:
        """Saves the reward model in a folder, as the files `tokenizer.json` and `arrays.safetensors`.

        The earlier content of the folder is replaced. After an error, the folder is as it was before.
        """
        arrays = {name: weights.detach().cpu().numpy() for name, weights in self.network.named_parameters()}
        facts = {"settings": dict(self.settings), "vocab_size": self.tokenizer.vocab_size}
        with atomic_folder(folder) as temporary:
            self.tokenizer.save(temporary / "tokenizer.json")
            save_arrays(temporary / "arrays.safetensors", arrays, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Loads a saved reward model from its folder; raises SavedModelError if a file is missing or damaged."""
        folder = Path(folder)
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        arrays, facts = load_arrays(folder / "arrays.safetensors")
        if facts.get("vocab_size") != tokenizer.vocab_size or not isinstance(facts.get("settings"), dict):
            raise SavedModelError(
                f"{folder} holds no reward model, or its files do not belong together: name the folder reward of a run "
                "of lmzoo align"
            )
        model = zoo.create("chat", tokenizer.vocab_size, **facts["settings"])
        assert isinstance(model, NeuralLM)
        network = reward_network(model.fresh_network(0))
        for name, weights in network.named_parameters():
            if name not in arrays or arrays[name].shape != tuple(weights.shape):
                raise SavedModelError(f"{folder} is damaged: the array '{name}' is missing or has a wrong shape")
            weights.data.copy_(torch.from_numpy(np.array(arrays[name])))
        return cls(tokenizer, network.eval(), facts["settings"])


def fit_reward_model(
    start: Predictor,
    rankings: Sequence[Ranking],
    valid: Sequence[Ranking],
    *,
    training: TrainConfig | Mapping[str, Any] | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    checkpoint: Checkpoint | None = None,
) -> RewardModel:
    """Trains a reward model on rankings of replies, and returns it. It starts as a copy of the chat model `start`.

    `valid` holds rankings of the replies to different prompts, for early stopping: training stops if the share of their
    pairs of replies that the rewards order wrongly no longer falls. `training` changes some of the default settings
    REWARD_TRAINING. Raises CorpusError if all `rankings` or all rankings in `valid` are ties.
    """
    config = REWARD_TRAINING.changed(training)
    network = reward_network(neural_model(start).network)
    model = RewardModel(start.tokenizer, network, start.settings)
    rankings, valid = ([ranking for ranking in some if ranking.pairs] for some in (rankings, valid))
    if not rankings or not valid:
        raise CorpusError(
            "a reward model needs rankings that are not ties, both to learn from and for early stopping, got "
            f"{len(rankings)} and {len(valid)}: rank more replies"
        )
    sequences, levels = ranked_sequences(rankings, start.tokenizer)
    training_run = Training(
        network,
        ComparisonBatches(sequences, levels, n_rankings=config.batch_size, seed=seed),
        config,
        objective=reward_objective,
        evaluate=lambda: 1 - (model.accuracy(valid) or 0.0),
        evaluation_tokens=sum(len(ids) for ids, _ in ranked_sequences(valid, start.tokenizer)[0]),
        seed=seed,
        unit="nats/comparison",
    )
    facts = [seed, repr(config), network.weights_fingerprint(), rankings_fingerprint([*rankings, *valid])]
    training_run.run(fingerprint=repr(facts), checkpoint=checkpoint, on_progress=on_progress)
    return model


def normalise(model: RewardModel, prompts: Sequence[Conversation], replies: Sequence[str]) -> None:
    """Shifts and scales the rewards of `model` so that those of N given replies have mean 0 and standard deviation 1.

    Each reply is to the prompt at the same index. The model is changed in place. Raises ConfigurationError if N is
    below 2, or if all N rewards are equal.
    """
    normalise_rewards(model.network, torch.from_numpy(model.rewards(prompts, replies)).float())
