"""How a network is trained, as values that can be written down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from lmzoo.checks import check_at_least, check_flag, check_positive, check_share, check_whole
from lmzoo.errors import ConfigurationError, UnknownNameError


@dataclass(frozen=True)
class TrainConfig:
    """All that decides a training run, besides network, data and seed.

    Budget and schedule count tokens, not seconds, so that the same settings give the same model on a slower machine.
    Only `seconds` breaks this rule: with it, how far training comes depends on the machine.
    """

    tokens: int = 1_000_000
    """How many predictions to learn from; beyond the size of the train split it is read again, in another order."""
    batch_size: int = 32
    """Rows that are read side by side."""
    chunk_size: int = 64
    """Ids of each row in one step: gradients flow back at most so far, memory flows on (truncated BPTT)."""
    learning_rate: float = 3e-3
    """At the peak: reached after the share `warmup` of the budget, then falling by half a cosine to `final_rate`."""
    warmup: float = 0.05
    final_rate: float = 0.05
    """Learning rate at the end, as a share of `learning_rate`."""
    weight_decay: float = 0.01
    """AdamW's, on matrices only: biases and gains are not drawn to zero."""
    clip: float = 1.0
    """Longest gradient; a longer one is scaled down to it (Pascanu et al. 2013)."""
    patience: int = 3
    """Training stops early after so many evaluations in a row without a better loss on valid."""
    seconds: float | None = None
    """A time budget beside the one in tokens: training ends, its schedule included, with whichever is used up first."""
    bf16: bool | None = None
    """Whether to multiply matrices in bfloat16 while training; None = where the processor has instructions for it.
    Predictions are always made in float32."""

    def __post_init__(self) -> None:
        check_whole(0, tokens=self.tokens)
        check_whole(1, batch_size=self.batch_size, chunk_size=self.chunk_size, patience=self.patience)
        check_share(warmup=self.warmup, final_rate=self.final_rate)
        check_positive(learning_rate=self.learning_rate, clip=self.clip)
        check_at_least(0, weight_decay=self.weight_decay)
        check_positive(null="for no limit", seconds=self.seconds)
        check_flag(null="for automatic", bf16=self.bf16)

    def learning_rate_at(self, spent: float) -> float:
        """After the share `spent` of the budget: linear warm-up, then half a cosine (Loshchilov & Hutter 2017)."""
        if spent < self.warmup:
            return self.learning_rate * spent / self.warmup
        fallen = (min(1.0, spent) - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * (1 + math.cos(math.pi * fallen)) / 2)

    def changed(self, changes: TrainConfig | Mapping[str, Any] | None) -> TrainConfig:
        """These settings with others in place of some (as JSON gives them) or of all; None changes nothing."""
        if changes is None or isinstance(changes, TrainConfig):
            return changes or self
        if not isinstance(changes, Mapping):
            raise ConfigurationError(
                f"training must be settings by name, such as {{'tokens': 1000000}}, got {changes!r}"
            )
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise UnknownNameError("setting of training", name, known)
        return replace(self, **changes)
