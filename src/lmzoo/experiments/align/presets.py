"""Presets of `lmzoo align`: how much each stage learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmzoo.errors import UnknownNameError
from lmzoo.neural.objectives.ppo import PpoSettings


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The settings of all stages of a run. Training settings list only what differs from the defaults of the stage."""

    base: str = "chat"
    """Name of the preset of the base's species that changes the settings of its budget "quick"."""
    n_instructions: int
    """Number of generated instructions with demonstrations, for fine-tuning."""
    fine_tuning: Mapping[str, Any]
    """Training settings of the fine-tuning."""
    replay_share: float
    """Share of the tokens of the fine-tuning that come from the text of the base."""
    replay_weight: float = 0.2
    """Weight of these tokens in the loss."""
    n_ranked_prompts: int
    """Number of prompts whose replies are ranked."""
    n_replies: int
    """Number of replies that are sampled for each of these prompts."""
    reward: Mapping[str, Any]
    """Training settings of the reward model."""
    dpo: Mapping[str, Any]
    """Training settings of DPO."""
    beta: float
    """Strength with which DPO keeps the model near the fine-tuned one."""
    ppo: Mapping[str, Any]
    """Training settings of PPO."""
    ppo_settings: PpoSettings = field(default_factory=PpoSettings)
    unpenalised: Mapping[str, Any]
    """Training settings of PPO without a penalty for divergence; the others are those of PPO."""
    max_tokens: int = 32
    """Largest number of tokens of a reply."""
    n_test: int = 640
    """Number of held-out instructions on which accuracy and wins are measured."""
    n_best_of: int = 16
    """Number of replies of the fine-tuned model from which the reward model chooses, as a baseline of PPO and DPO."""


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
        ppo_settings=PpoSettings(n_answers=128, n_epochs=2, kl_coefficient=0.2, text_weight=0.05),
    ),
    "tiny": Preset(
        base="tiny",
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
        ppo_settings=PpoSettings(n_answers=8, max_tokens=16, n_epochs=1, n_minibatches=2, text_weight=0.05),
        max_tokens=16,
        n_test=30,
        n_best_of=2,
    ),
}
"""The presets by name. "tiny" is for tests: its models learn next to nothing."""


def preset(name: str) -> Preset:
    """Returns a preset by its name; raises UnknownNameError, with the nearest name, if there is none."""
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name]
