"""Presets of `lmzoo align`: named settings of all stages, such as the amount of data and the length of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmzoo.errors import UnknownNameError
from lmzoo.neural.objectives.ppo import PpoSettings


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The settings of all stages of a run. Training settings list only what differs from the defaults of the stage."""

    base_preset: str = "chat"
    """Name of a preset of the base's species (see `lmzoo.zoo.presets`). The base is trained with the settings of its
    preset "quick", changed by those of this one."""
    n_instructions: int
    """Number of generated instructions in the demonstrations, from which the base is fine-tuned."""
    fine_tuning: Mapping[str, Any]
    """Training settings of the supervised fine-tuning (SFT)."""
    replay_share: float
    """Share of the tokens in fine-tuning that are taken from the training text of the base."""
    replay_weight: float = 0.2
    """Weight of these tokens in the loss, where the tokens of the assistant have weight 1."""
    n_ranked_prompts: int
    """Number of prompts, the replies to which are ranked."""
    n_replies: int
    """Number of replies that are sampled to each of these prompts."""
    reward: Mapping[str, Any]
    """Training settings of the reward model."""
    dpo: Mapping[str, Any]
    """Training settings of direct preference optimization (DPO)."""
    beta: float
    """Setting of DPO: the larger it is, the less the model diverges from the fine-tuned one."""
    ppo: Mapping[str, Any]
    """Training settings of proximal policy optimization (PPO)."""
    ppo_settings: PpoSettings = field(default_factory=PpoSettings)
    """Settings of PPO itself, such as the penalty for divergence from the fine-tuned model."""
    unpenalised: Mapping[str, Any]
    """Training settings of PPO without this penalty, whose `ppo_settings` are otherwise those of PPO."""
    max_tokens: int = 32
    """Largest number of tokens of a reply, when replies are ranked and when models are measured."""
    n_test: int = 640
    """Number of held-out instructions on which models are measured."""
    n_best_of: int = 16
    """Number of replies of the fine-tuned model, of which the reward model chooses the best. These replies are a
    baseline for DPO and PPO."""


PRESETS: dict[str, Preset] = {
    "quick": Preset(
        n_instructions=200_000,
        fine_tuning={"tokens": 8_000_000, "chunk_size": 64, "learning_rate": 1e-2, "optimizer": "muon"},
        replay_share=0.3,
        replay_weight=0.5,
        n_ranked_prompts=4_000,
        n_replies=4,
        reward={"tokens": 450_000, "learning_rate": 1e-3},
        dpo={"tokens": 300_000, "learning_rate": 1e-4},
        beta=0.5,
        ppo={"tokens": 500_000, "learning_rate": 3e-4},
        unpenalised={"tokens": 1_000_000, "learning_rate": 1e-3},
        ppo_settings=PpoSettings(n_replies=128, n_epochs=2, kl_coefficient=0.2, text_weight=0.05),
    ),
    "tiny": Preset(
        base_preset="tiny",
        n_instructions=200,
        fine_tuning={"tokens": 4000, "batch_size": 4, "chunk_size": 16, "learning_rate": 0.03},
        replay_share=0.2,
        n_ranked_prompts=100,
        n_replies=4,
        reward={"tokens": 2000, "batch_size": 4},
        dpo={"tokens": 2000, "batch_size": 4, "learning_rate": 0.01},
        beta=0.1,
        unpenalised={"tokens": 500, "batch_size": 4, "chunk_size": 16, "learning_rate": 0.01},
        ppo={"tokens": 500, "batch_size": 4, "chunk_size": 16, "learning_rate": 0.01},
        ppo_settings=PpoSettings(n_replies=8, max_tokens=16, n_epochs=1, n_minibatches=2, text_weight=0.05),
        max_tokens=16,
        n_test=30,
        n_best_of=2,
    ),
}
"""The presets by name. "tiny" is for tests: it is fast, and its models learn almost nothing."""


def preset(name: str) -> Preset:
    """Returns a preset by its name; raises UnknownNameError, with the nearest name, if there is none."""
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name]
