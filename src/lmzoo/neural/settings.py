"""How a network is trained, as values that can be written down."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from lmzoo.checks import check_at_least, check_choice, check_flag, check_positive, check_share, check_whole
from lmzoo.errors import ConfigurationError, UnknownNameError

_COOLDOWN = 0.4
"""Share of the budget in which the schedule wsd falls."""


def _cosine(spent: float, warmup: float) -> float:
    fallen = (spent - warmup) / (1 - warmup) if warmup < 1 else 1.0
    return (1 + math.cos(math.pi * fallen)) / 2


def _wsd(spent: float, warmup: float) -> float:
    return min(1.0, (1 - spent) / min(_COOLDOWN, 1 - warmup)) if warmup < 1 else 0.0


def _inverse_sqrt(spent: float, warmup: float) -> float:
    return math.sqrt(warmup / spent)


_SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "cosine": _cosine,
    "wsd": _wsd,
    "inverse-sqrt": _inverse_sqrt,
}
"""What is left of the learning rate, from 1 to 0, after the share `spent` of the budget, which is at least `warmup`."""


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
    forget: float = 0.0
    """Share of the rows that lose their memory before a step, so that cold starts are learned (Melis et al. 2018)."""
    learning_rate: float = 3e-3
    """At the peak: reached after the share `warmup` of the budget, then falling to `final_rate` as `schedule` says."""
    warmup: float = 0.05
    schedule: str = "cosine"
    """"cosine": half of one (Loshchilov & Hutter 2017). "wsd": stays, and falls in a line at the end (warm-up, stable,
    decay; Hu et al. 2024). "inverse-sqrt": with the root of time (Vaswani et al. 2017)."""
    final_rate: float = 0.05
    """Learning rate at the end, as a share of `learning_rate`."""
    optimizer: str = "adamw"
    """"adamw" (Loshchilov & Hutter 2019), or "muon" (Jordan et al. 2024): the steps of matrices between hidden vectors
    are made orthogonal, at the same size; AdamW moves the rest."""
    weight_decay: float = 0.01
    """On matrices only: biases and gains are not drawn to zero."""
    averaging: float = 0.0
    """What is evaluated and kept is an average of the weights over about the last `averaging` share of the steps."""
    clip: float = 1.0
    """Longest gradient; a longer one is scaled down to it (Pascanu et al. 2013)."""
    patience: int = 3
    """Training stops early after so many evaluations in a row without a better loss on valid."""
    seconds: float | None = None
    """A time budget beside the one in tokens: training ends, its schedule included, with whichever is used up first."""
    sampled: int | None = None
    """How many tokens, besides those that come, stand for the vocabulary in a step's softmax; None = all of it."""
    bf16: bool | None = None
    """Whether to multiply matrices in bfloat16 while training; None = where the processor has instructions for it.
    Predictions are always made in float32."""
    compiled: bool = False
    """Whether to fuse what a network does between its products of matrices (torch.compile), while training. That costs
    half a minute at the start, needs a C++ compiler on processors, and pays where blocks are narrow and runs long."""

    def __post_init__(self) -> None:
        check_whole(0, tokens=self.tokens)
        check_whole(1, batch_size=self.batch_size, chunk_size=self.chunk_size, patience=self.patience)
        check_share(warmup=self.warmup, final_rate=self.final_rate, averaging=self.averaging, forget=self.forget)
        check_choice(_SCHEDULES, schedule=self.schedule)
        check_choice(("adamw", "muon"), optimizer=self.optimizer)
        if self.schedule == "inverse-sqrt" and not self.warmup:
            raise ConfigurationError("the schedule inverse-sqrt falls from the end of warmup, which must be above 0")
        check_positive(learning_rate=self.learning_rate, clip=self.clip)
        check_at_least(0, weight_decay=self.weight_decay)
        check_positive(none_means="for no limit", seconds=self.seconds)
        check_whole(1, none_means="for all of the vocabulary", sampled=self.sampled)
        check_flag(none_means="for automatic", bf16=self.bf16)
        check_flag(compiled=self.compiled)

    def learning_rate_at(self, spent: float) -> float:
        """After the share `spent` of the budget: linear warm-up, then what the schedule leaves of it."""
        if spent < self.warmup:
            return self.learning_rate * spent / self.warmup
        left = _SCHEDULES[self.schedule](min(1.0, spent), self.warmup)
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * left)

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
