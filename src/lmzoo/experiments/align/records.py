"""The record of one stage of a run of `lmzoo align`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lmzoo.evaluation.records import Record


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """The share of prompts to which the judge grades a model's reply higher than the reply of a different model."""

    rate: float
    """Share of the prompts on which the model wins; a tie counts as half a win."""
    low: float
    """Lower end of the 95 % interval of the rate, from resampling the prompts."""
    high: float
    """Upper end of this interval."""
    n_prompts: int
    """Number of prompts."""


@dataclass(frozen=True, kw_only=True)
class StageRecord(Record):
    """The results of one stage: the cost of its training, and measures of its model.

    Most measures are of replies to held-out instructions. Sampled replies are those whose tokens are sampled from the
    unchanged distribution of the model. A measure that does not apply to the stage is None.
    """

    stage: str
    """Name of the stage: "base", "sft", "rankings", "reward", "dpo", "ppo" or "ppo-unpenalised"."""
    base: str
    """Name of the base: its species, or the name of its folder."""
    seed: int
    """Random seed of the run."""
    seconds: float
    """Time for training in this stage, without measuring the model; in the stage "rankings", the time for sampling and
    ranking."""
    n_tokens_read: int | None
    """Number of tokens that the network read in training; None if they are not counted."""
    n_parameters: int
    """Number of parameters of the network; 0 in the stage "rankings", which trains none."""
    accuracy: dict[str, float] = field(default_factory=dict)
    """Share of correct replies by task, where the reply consists of the most likely tokens."""
    mean_accuracy: float | None = None
    """Mean of `accuracy` over the tasks."""
    grade: float | None = None
    """Mean grade of the sampled replies by the judge."""
    against_sft: WinRate | None = None
    """Wins of the sampled replies against those of the fine-tuned model, the model of the stage "sft"."""
    best_of_n: WinRate | None = None
    """Wins of the best of several sampled replies of the fine-tuned model, as the reward model chooses it, against the
    first of these replies."""
    n_best_of: int | None = None
    """Number of replies of which the reward model chooses the best."""
    against_earlier: WinRate | None = None
    """Wins of the sampled replies against those of the same stage in an earlier run."""
    reward_accuracy: float | None = None
    """Share of pairs of replies that the reward model orders as the judge does, for replies of the fine-tuned model to
    held-out instructions. If the run has no judge: share of pairs that it orders as the rankings do, for the rankings
    that are kept for validation."""
    kl: float | None = None
    """Kullback-Leibler (KL) divergence from the fine-tuned model, in nats per reply."""
    ended: float | None = None
    """Share of the sampled replies that the model ended itself."""
    distinct: float | None = None
    """Number of different sampled replies, as a share of all."""
    bits_per_byte: float | None = None
    """Loss on the test split of the corpus of the run, in bits per byte."""
    n_rankings: int | None = None
    """Number of rankings that the stage made or used. The stage "reward" also uses those kept for validation."""
    rankings: str = ""
    """Hash of all rankings of the run, if the stage depends on them; else empty."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the stage that differ from the defaults."""

    @property
    def name(self) -> str:
        """Name of the record in tables: its stage."""
        return self.stage
