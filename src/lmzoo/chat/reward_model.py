"""The reward model: learned from rankings of replies, it grades replies that nobody has ranked.

It starts as a copy of a chat model, reads a prompt with a reply, and returns one number, the reward (Ouyang et al.
2022, section 3.5). The rewards of two reward models cannot be compared with each other: training on rankings determines
only differences of rewards, and `normalised` sets their mean and scale for each reward model alone.
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
from lmzoo.chat.ranked_texts import ranked_texts
from lmzoo.chat.template import render_reply
from lmzoo.chat.tuning import neural_model
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import CorpusError, SavedModelError
from lmzoo.neural.network import Network
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.comparisons import ComparisonBatches
from lmzoo.neural.objectives.reward import normalize_rewards, reward_network, reward_objective
from lmzoo.neural.objectives.rollouts import network_rewards
from lmzoo.neural.training.loop import Training
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.predictor import Predictor
from lmzoo.system.files import atomic_folder
from lmzoo.system.progress import OnProgress
from lmzoo.tokenizers import Tokenizer

REWARD_TRAINING = TrainConfig(tokens=600_000, batch_size=16, learning_rate=3e-4, schedule="wsd", patience=3)
"""Default settings of the training of a reward model; `batch_size` is the number of rankings in a batch."""
_AT_A_TIME = 256


@final
@dataclass(frozen=True, eq=False)
class RewardModel:
    """A network that computes one number, the reward, from a prompt and a reply, with the tokenizer of a chat model."""

    tokenizer: Tokenizer
    network: Network
    settings: Mapping[str, Any]
    """Settings of the chat model that it started from: the species of the base, and the settings of the base."""

    def rewards(self, prompts: Sequence[Conversation], replies: Sequence[str]) -> NDArray[np.float64]:
        """Returns the rewards (N,) of N replies, each to the prompt at the same index."""
        texts = [render_reply(*pair, self.tokenizer) for pair in zip(prompts, replies, strict=True)]
        parts = [
            network_rewards(self.network, [text.ids[: text.start] for text in part], [text.answer for text in part])
            for part in (texts[start : start + _AT_A_TIME] for start in range(0, len(texts), _AT_A_TIME))
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def accuracy(self, rankings: Sequence[Ranking]) -> float | None:
        """Returns the share of pairs of replies that the rewards order as the rankings do; None if there is no pair.

        Each ranking counts the same, whatever its number of replies. Ties are left out.
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

        What the folder held before is replaced. After an error, the folder is as it was before.
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
            raise SavedModelError(f"{folder} holds no reward model, or its files do not belong together")
        model = zoo.create("chat", tokenizer.vocab_size, **facts["settings"])
        assert isinstance(model, NeuralLM)
        network = reward_network(model.fresh_network(0))
        for name, weights in network.named_parameters():
            if name not in arrays or arrays[name].shape != tuple(weights.shape):
                raise SavedModelError(f"{folder}: the array '{name}' is missing or has another shape: it is damaged")
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

    `valid` holds rankings of other prompts: training stops early if the share of their pairs of replies that the
    rewards order wrongly no longer falls. `training` changes some of the default settings REWARD_TRAINING. Raises
    CorpusError if `rankings` or `valid` has only ties.
    """
    config = REWARD_TRAINING.changed(training)
    network = reward_network(neural_model(start).network)
    model = RewardModel(start.tokenizer, network, start.settings)
    rankings, valid = ([ranking for ranking in some if ranking.pairs] for some in (rankings, valid))
    if not rankings or not valid:
        raise CorpusError("a reward model needs rankings that are not ties, both to learn from and to be tested on")
    texts, levels = ranked_texts(rankings, start.tokenizer)
    training_run = Training(
        network,
        ComparisonBatches(texts, levels, n_rankings=config.batch_size, seed=seed),
        config,
        objective=reward_objective,
        evaluate=lambda: 1 - (model.accuracy(valid) or 0.0),
        evaluation_tokens=sum(len(ids) for ids, _ in ranked_texts(valid, start.tokenizer)[0]),
        seed=seed,
        unit="nats/comparison",
    )
    facts = [seed, repr(config), network.weights_fingerprint(), rankings_fingerprint([*rankings, *valid])]
    training_run.run(fingerprint=repr(facts), checkpoint=checkpoint, on_progress=on_progress)
    return model


def normalised(model: RewardModel, prompts: Sequence[Conversation], replies: Sequence[str]) -> RewardModel:
    """Shifts and scales the rewards of `model` so that N given replies have mean 0 and standard deviation 1.

    Each reply is to the prompt at the same index. The model is changed in place and returned. Raises ConfigurationError
    if N is below 2, or if all N rewards are equal.
    """
    normalize_rewards(model.network, torch.from_numpy(model.rewards(prompts, replies)).float())
    return model
