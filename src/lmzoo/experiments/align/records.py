"""The record of one stage of learning from conversations and rankings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lmzoo.evaluation.records import Record


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """The share of prompts on which the reply of one model gets a higher grade than the reply of another model."""

    rate: float
    """Share of the prompts on which the model wins, with ties counted as half."""
    low: float
    """Lower end of the 95 % interval, over prompts."""
    high: float
    """Upper end of the 95 % interval."""
    n_prompts: int


@dataclass(frozen=True, kw_only=True)
class StageRecord(Record):
    """The results of one stage: the quality of its model, the cost of training, and its distance from earlier models.

    The distance is the KL divergence from the fine-tuned model. Measures that do not apply to a stage are None.
    """

    stage: str
    """"base", "sft", "reward", "dpo" or "ppo"."""
    base: str
    """Name of the base: its species, or the name of its folder."""
    seed: int
    seconds: float
    """Duration of the training of this stage, without measurements."""
    n_tokens_read: int | None
    """Number of tokens that the network read in this stage."""
    n_parameters: int
    accuracy: dict[str, float] = field(default_factory=dict)
    """Share of correct replies to held-out instructions by task, when the most likely token is always taken."""
    mean_accuracy: float | None = None
    """Mean of `accuracy` over the tasks."""
    score: float | None = None
    """Mean grade of sampled replies under the judge."""
    against_sft: WinRate | None = None
    """Wins of sampled replies against those of the fine-tuned model, under the judge."""
    best_of_n: WinRate | None = None
    """Wins of the best of several replies of the fine-tuned model, chosen by the reward model, against its first."""
    n_best_of: int | None = None
    """Number of replies from which the best is chosen."""
    against_earlier: WinRate | None = None
    """Wins against the chat model of an earlier run, under the judge."""
    reward_accuracy: float | None = None
    """Share of held-out pairs of replies that the reward model orders as the judge does."""
    kl: float | None = None
    """KL divergence of the replies from the fine-tuned model, in nats per reply."""
    ended: float | None = None
    """Share of sampled replies that the model ended itself."""
    distinct: float | None = None
    """Number of different sampled replies as a share of all."""
    bits_per_byte: float | None = None
    """Loss on the test split of the base's corpus, in bits per byte."""
    n_rankings: int | None = None
    """Number of rankings from which the stage learned."""
    rankings: str = ""
    """Hash of these rankings; empty if the stage learned from none."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the stage."""

    @property
    def name(self) -> str:
        return self.stage
