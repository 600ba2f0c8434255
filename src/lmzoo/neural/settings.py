"""How a network is trained, as values that can be written down; and the checks that settings share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

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
        check_not_negative(weight_decay=self.weight_decay)
        if self.seconds is not None:
            check_positive(seconds=self.seconds)
        if self.bf16 not in (None, True, False):
            raise ConfigurationError(f"bf16 must be true, false or null for automatic, got {self.bf16!r}")

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


def check_whole(low: int, **settings: object) -> None:
    """ConfigurationError unless all are whole numbers of at least `low`."""
    for name, value in settings.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ConfigurationError(f"{name} must be a whole number of at least {low}, got {value!r}")


def check_share(**settings: object) -> None:
    """ConfigurationError unless all are numbers from 0 to 1."""
    _check_numbers(settings, "a number from 0 to 1", lambda value: 0 <= value <= 1)


def check_positive(**settings: object) -> None:
    """ConfigurationError unless all are finite numbers above 0."""
    _check_numbers(settings, "a finite number above 0", lambda value: 0 < value < math.inf)


def check_not_negative(**settings: object) -> None:
    """ConfigurationError unless all are finite numbers of at least 0."""
    _check_numbers(settings, "a finite number of at least 0", lambda value: 0 <= value < math.inf)


def _check_numbers(settings: Mapping[str, object], allowed: str, fits: Callable[[float], bool]) -> None:
    for name, value in settings.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not fits(value):
            raise ConfigurationError(f"{name} must be {allowed}, got {value!r}")
