"""The settings of a training run: budget, learning-rate schedule, optimizer and regularization."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from lmzoo.checks import check_at_least, check_choice, check_flag, check_positive, check_share, check_whole
from lmzoo.errors import ConfigurationError, UnknownNameError

_COOLDOWN = 0.4
"""Fraction of the budget over which the schedule "wsd" decays."""


def _cosine(spent: float, warmup: float) -> float:
    decayed = (spent - warmup) / (1 - warmup) if warmup < 1 else 1.0
    return (1 + math.cos(math.pi * decayed)) / 2


def _wsd(spent: float, warmup: float) -> float:
    return min(1.0, (1 - spent) / min(_COOLDOWN, 1 - warmup)) if warmup < 1 else 0.0


def _inverse_sqrt(spent: float, warmup: float) -> float:
    return math.sqrt(warmup / spent)


_SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "cosine": _cosine,
    "wsd": _wsd,
    "inverse-sqrt": _inverse_sqrt,
}
"""(fraction of the budget spent, fraction of the warm-up) -> factor on the learning rate after warm-up, from 1 to 0."""


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run. With the network, the data and the seed, they determine the result.

    Budget and schedule count tokens rather than seconds, so that the same settings give the same model on a slower
    machine. The exception is `seconds`: with a time budget, the result depends on the speed of the machine in that hour
    and cannot be reproduced bit for bit.
    """

    tokens: int | None = 1_000_000
    """Training budget: number of tokens to learn from. Beyond the size of the training text, the text is read again, in
    another order. None = no limit, if there is a limit of `seconds`."""
    batch_size: int = 32
    """Number of sequences that are read in parallel."""
    chunk_size: int = 64
    """Number of tokens of each sequence in one step. Gradients flow back through one chunk only, while the state of the
    network continues to the next chunk (truncated back-propagation through time)."""
    reset_rate: float = 0.0
    """Probability that the state of a sequence is reset before a chunk, so that the network learns to predict without
    context too (Melis et al. 2018)."""
    learning_rate: float = 3e-3
    """Peak learning rate. It is reached after the fraction `warmup` of the budget, and then falls to `final_rate` times
    its peak according to `schedule`."""
    warmup: float = 0.05
    """Fraction of the budget over which the learning rate rises linearly from 0 to its peak."""
    schedule: str = "cosine"
    """Shape of the decay of the learning rate. "cosine": half a cosine wave (Loshchilov & Hutter 2017). "wsd":
    constant, with a linear decay at the end (warm-up, stable, decay; Hu et al. 2024). "inverse-sqrt": inversely
    proportional to the square root of the number of tokens (Vaswani et al. 2017)."""
    final_rate: float = 0.05
    """Learning rate at the end of training, as a fraction of `learning_rate`."""
    optimizer: str = "adamw"
    """"adamw" (Loshchilov & Hutter 2019), or "muon" (Jordan et al. 2024), which makes the updates of hidden matrices
    orthogonal; all other parameters are then updated by AdamW."""
    weight_decay: float = 0.01
    """Weight decay of matrices; biases and gains have none."""
    ema_fraction: float = 0.0
    """Time constant of an exponential moving average of the weights, as a fraction of the training steps so far. The
    average is then evaluated and kept in place of the current weights. 0 = no average."""
    clip: float = 1.0
    """Largest norm of the gradient; a longer gradient is scaled down to it (Pascanu et al. 2013)."""
    patience: int = 3
    """Number of successive evaluations without a lower validation loss after which training stops early."""
    seconds: float | None = None
    """Time budget in addition to `tokens`: training and its schedule end when either budget is used up. The time
    includes the evaluations. How many tokens fit is planned from the measured speed, anew at every step, so that the
    schedule ends with the time. None = no limit."""
    sampled_softmax: int | None = None
    """Number of sampled tokens that stand for the rest of the vocabulary in the softmax of a training step. None = the
    full softmax, which is also used if the vocabulary has no more tokens than that."""
    bf16: bool | None = None
    """True to multiply matrices in bfloat16 during training; None = if the device has instructions for bfloat16.
    Predictions are always computed in float32."""
    compiled: bool = False
    """True to fuse the operations between matrix products with torch.compile during training. Compiling takes half a
    minute and needs a C++ compiler on CPUs; it is worth the time for long runs of narrow networks."""

    def __post_init__(self) -> None:
        check_whole(0, none_means="for no limit", tokens=self.tokens)
        if self.tokens is None and self.seconds is None:
            raise ConfigurationError("training needs an end: set tokens, or seconds, to a number")
        check_whole(1, batch_size=self.batch_size, chunk_size=self.chunk_size, patience=self.patience)
        check_share(
            warmup=self.warmup, final_rate=self.final_rate, ema_fraction=self.ema_fraction, reset_rate=self.reset_rate
        )
        check_choice(_SCHEDULES, schedule=self.schedule)
        check_choice(("adamw", "muon"), optimizer=self.optimizer)
        if self.schedule == "inverse-sqrt" and not self.warmup:
            raise ConfigurationError("the schedule inverse-sqrt needs a warmup above 0, got 0")
        check_positive(learning_rate=self.learning_rate, clip=self.clip)
        check_at_least(0, weight_decay=self.weight_decay)
        check_positive(none_means="for no limit", seconds=self.seconds)
        check_whole(1, none_means="for the full softmax", sampled_softmax=self.sampled_softmax)
        check_flag(none_means="for automatic", bf16=self.bf16)
        check_flag(compiled=self.compiled)

    def learning_rate_at(self, spent: float) -> float:
        """Returns the learning rate after the fraction `spent` of the budget: linear warm-up, then the schedule."""
        if spent < self.warmup:
            return self.learning_rate * spent / self.warmup
        factor = _SCHEDULES[self.schedule](min(1.0, spent), self.warmup)
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * factor)

    def changed(self, changes: TrainConfig | Mapping[str, Any] | None) -> TrainConfig:
        """Returns training settings with the given `changes`; the settings themselves are not modified.

        `changes` maps names to new values; a TrainConfig replaces all settings, and None replaces none. Raises
        ConfigurationError, or UnknownNameError with the nearest name, for settings that do not exist.
        """
        if changes is None or isinstance(changes, TrainConfig):
            return changes or self
        if not isinstance(changes, Mapping):
            raise ConfigurationError(
                f"training must be a mapping of settings to values, such as {{'tokens': 1000000}}; got {changes!r}"
            )
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise UnknownNameError("training setting", name, known)
        return replace(self, **changes)
