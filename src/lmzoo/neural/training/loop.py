"""The training loop: truncated back-propagation through time, early stopping, and exact resumption.

A training step depends only on the settings, the data, the seed, the number of the step and the weights, randomness
included. So a checkpoint holds no random generator, and a run that was killed and resumed equals an uninterrupted run
bit for bit. Several processes take every step at the same time, each with its part of the batch; as they share the
averaged gradient, all of them have the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import TrainingError
from lmzoo.neural.devices import autocast, preserved_rng_state, seed_generators
from lmzoo.neural.network import Network, State
from lmzoo.neural.objectives.objective import Objective
from lmzoo.neural.training.batches import Batch, Batches
from lmzoo.neural.training.compiling import compiled_blocks, eager_evaluation
from lmzoo.neural.training.optimizers import Optimizers
from lmzoo.neural.training.parallel import ProcessGroup
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.neural.training.weights import KeptWeights
from lmzoo.system.interrupts import deferred
from lmzoo.system.progress import OnProgress, Progress, TrainingStep
from lmzoo.training_history import HistoryRecorder, TrainingHistory

_SECONDS_BETWEEN_SAVES = 30.0
_MAX_ROLLBACKS = 3
_SPEED_STEPS = 50
"""Number of steps over which the speed is averaged."""


@dataclass
class _Counters:
    """The progress of a training run: everything that a checkpoint holds besides tensors."""

    n_steps: int = 0
    tokens: int = 0
    """Tokens read, by all processes."""
    last_evaluation: int = 0
    """Number of tokens after which the network was evaluated last."""
    n_worse: int = 0
    """Successive evaluations without a better loss."""
    best_loss: float | None = None
    """Validation loss of the weights that are kept."""
    recent_loss: float | None = None
    """Moving average of the training loss, for the progress display."""
    lr_scale: float = 1.0
    """Factor on the learning rate, halved after each divergence."""
    divergences: list[str] = field(default_factory=list)
    """A message for each divergence."""
    speed_tokens: float = 0.0
    """Exponentially weighted sum of the numbers of tokens of the steps so far, in which the latest steps count most."""
    speed_seconds: float = 0.0
    """Sum of the seconds of these steps with the same weights; 0 = the speed is not known yet."""
    evaluation_seconds: float | None = None
    """Duration of the last evaluation; None = there was none."""


@final
class Training(Generic[Batch]):
    """A training run: minimises an objective over batches and keeps the weights that are best on validation data.

    `evaluate` returns the validation loss, and scores `evaluation_tokens` tokens. If it is None, the weights of the
    last step are kept instead of the best ones, and training never stops early. `unit` is the unit of the losses. With
    a `group` of several processes, each has its own part of the batches.
    """

    def __init__(
        self,
        network: Network,
        batches: Batches[Batch],
        config: TrainConfig,
        *,
        objective: Objective,
        evaluate: Callable[[], float] | None,
        evaluation_tokens: int = 0,
        seed: int,
        group: ProcessGroup | None = None,
        unit: str = "nats/token",
    ) -> None:
        self._network, self._batches, self._config = network, batches, config
        self._objective, self._evaluate, self._seed = objective, evaluate, seed
        self._group = group or ProcessGroup()
        self._unit, self._evaluation_tokens = unit, evaluation_tokens
        self._recorder = HistoryRecorder(unit)
        self._on_progress: OnProgress | None = None
        self._measures: Mapping[str, float] = {}  # of the last step
        self._parameters = dict(network.named_parameters())
        self._optimizers = Optimizers(network, config)
        self._weights = KeptWeights(self._parameters, config.ema_fraction)
        self._state: State = ()
        self._counters = _Counters()
        self._started = time.perf_counter()
        self._seconds = 0.0  # time since `_started` at the end of the last step or evaluation
        self._is_warm = False  # True after the first step in this process, which is slower than the others
        self._consistent = True  # False while a step changes the weights

    def run(
        self,
        *,
        fingerprint: str = "",
        checkpoint: Checkpoint | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Trains until the budget is used up or the validation loss stops improving.

        At the end, the network has the weights that are kept. Returns the number of tokens that it was trained on,
        including other processes and the time before an interruption.

        The checkpoint is saved every half minute and on an interrupt such as Ctrl-C, and a saved one with the same
        `fingerprint` is resumed. Several processes share the checkpoint of the first one, and save nothing on an
        interrupt, which reaches them at different steps.

        If the loss or its gradient becomes infinite or NaN, training returns to the weights that were best, or last, at
        an evaluation, and continues at half the learning rate. Raises TrainingError the fourth time.
        """
        group, self._on_progress = self._group, on_progress
        is_kept = group.from_first(checkpoint is not None)
        if saved := group.from_first(checkpoint and checkpoint.load(fingerprint)):
            self._restore(*saved)
        if checkpoint:
            self._started -= checkpoint.earlier_seconds
        last_save = self._read_clock()
        compiling = compiled_blocks(self._network) if self._config.compiled else nullcontext()
        with preserved_rng_state(self._network.device), compiling:
            try:
                while not self._is_finished():
                    self._report(self.step())
                    if is_kept and self._seconds - last_save >= _SECONDS_BETWEEN_SAVES:
                        self._save(checkpoint, fingerprint)
                        last_save = self._read_clock()
            except KeyboardInterrupt:
                if checkpoint and self._consistent and group.size == 1:
                    with deferred():
                        self._save(checkpoint, fingerprint)
                raise
        self._weights.restore_best()
        self._network.eval()
        return self._counters.tokens

    @property
    def history(self) -> TrainingHistory:
        """The history of the run so far, including the time before an interruption."""
        return self._recorder.history()

    def step(self) -> TrainingStep | None:
        """Takes one training step: computes the loss of the next batch and its gradient, and updates the weights.

        A batch in which all predictions have weight 0 is read, and changes no weights. Returns the figures of the step;
        None if it changed no weights, or if the loss diverged.
        """
        config, group, counters = self._config, self._group, self._counters
        batch = self._batches.batch(counters.n_steps, self._network)
        seed = np.random.SeedSequence([self._seed, counters.n_steps, group.rank])
        seed_generators(int(seed.generate_state(1)[0]), self._network.device)
        self._network.train()
        with autocast(config.bf16, self._network.device):
            step = self._objective(self._network, batch, self._state)
        self._network.zero_grad()
        weight = group.sum(float(step.weight))
        loss = group.backward(step.total, weight, self._parameters.values())
        norm = float(nn.utils.clip_grad_norm_(self._parameters.values(), config.clip))
        n_tokens = round(group.sum(self._batches.n_tokens(batch)))
        tokens = counters.tokens + n_tokens
        learning_rate = counters.lr_scale * config.learning_rate_at(self._spent(tokens))
        figures = None
        with deferred():  # a signal waits, so that the checkpoint includes this step
            self._consistent = False
            diverged = not (math.isfinite(loss) and math.isfinite(norm))
            if diverged:
                self._roll_back(loss, norm)
            else:
                # Contiguous, because torch.compile would generate code for each layout of the memory.
                self._state = tuple(part.detach().contiguous() for part in step.state)
                self._measures = step.measures
                if weight:
                    self._optimizers.step(learning_rate)
                    recent = counters.recent_loss
                    counters.recent_loss = loss if recent is None else 0.95 * recent + 0.05 * loss
                    self._weights.update_average(counters.n_steps + 1)
            counters.n_steps += 1
            counters.tokens = tokens
            self._measure_speed(n_tokens)
            if weight and not diverged:
                figures = TrainingStep(
                    step=counters.n_steps,
                    tokens=tokens,
                    seconds=self._seconds,
                    train_loss=loss,
                    learning_rate=learning_rate,
                    gradient_norm=norm,
                    unit=self._unit,
                )
                self._recorder.add_step(figures)
            self._consistent = True
        return figures

    def _measure_speed(self, n_tokens: int) -> None:
        """Reads the clock, and updates the measured speed after a step of `n_tokens` tokens."""
        counters, before = self._counters, self._seconds
        seconds = self._read_clock()
        if self._is_warm:
            kept = 1 - 1 / _SPEED_STEPS
            counters.speed_tokens = kept * counters.speed_tokens + n_tokens
            counters.speed_seconds = kept * counters.speed_seconds + seconds - before
        self._is_warm = True

    def _is_finished(self) -> bool:
        """Evaluates the network if an evaluation is due, and returns True if training is finished."""
        counters = self._counters
        spent = self._spent(counters.tokens) >= 1
        # Ten evaluations a run, or fewer if they would score more than a tenth as many tokens as the training reads.
        # With a sampled softmax, scoring a token can take longer than learning from it.
        planned = self._planned_tokens()
        every = max(1, planned // 10 if math.isfinite(planned) else planned, 10 * self._evaluation_tokens)
        if spent or counters.tokens - counters.last_evaluation >= every:
            self._evaluate_and_keep()
        return spent or counters.n_worse >= self._config.patience

    def _evaluate_and_keep(self) -> None:
        """Computes the validation loss, and keeps the weights if their loss is the lowest so far.

        If no validation loss is computed, the current weights are always kept.
        """
        counters, before, figures = self._counters, self._seconds, None
        self._network.eval()
        with self._weights.averaged():
            loss = None
            if self._evaluate:
                with eager_evaluation(self._config.compiled):
                    loss = self._evaluate()
            with deferred():  # a signal waits, so that the evaluation counts as a whole or not at all
                if loss is None or counters.best_loss is None or loss < counters.best_loss:
                    self._weights.keep()
                    counters.best_loss, counters.n_worse = loss, 0
                else:
                    counters.n_worse += 1
                counters.last_evaluation = counters.tokens
                counters.evaluation_seconds = self._read_clock() - before
                if loss is not None and math.isfinite(loss):
                    figures = TrainingStep(
                        step=counters.n_steps, tokens=counters.tokens, seconds=before, valid_loss=loss, unit=self._unit
                    )
                    self._recorder.add_evaluation(figures)
        if figures:
            self._report(figures)

    def _roll_back(self, loss: float, norm: float) -> None:
        """Returns to the kept weights after a divergence, with new optimizers and half the learning rate.

        Raises TrainingError if training has diverged too often.
        """
        counters = self._counters
        counters.divergences.append(f"diverged at step {counters.n_steps + 1}: loss {loss}, gradient norm {norm}")
        if len(counters.divergences) > _MAX_ROLLBACKS:
            raise TrainingError(
                f"training {counters.divergences[-1]}, for the {len(counters.divergences)}th time; "
                f"try a learning_rate below {self._config.learning_rate}, a longer warmup or a smaller clip"
            )
        self._weights.restore_best()
        self._optimizers = Optimizers(self._network, self._config)
        self._state = ()
        counters.lr_scale /= 2

    def _spent(self, tokens: int) -> float:
        """Returns the fraction of the training budget that is used up after training on `tokens` tokens.

        If training time is limited, the budget is the number of tokens that are planned for this time.
        """
        if self._seconds_left() <= 0:
            return 1.0
        planned = self._planned_tokens()
        return tokens / planned if planned else 1.0

    def _planned_tokens(self) -> float:
        """Returns the number of tokens after which training is expected to end, from the speed so far.

        It is infinite if only the time is limited and the speed is not known yet.
        """
        counters, limit = self._counters, self._config.tokens
        planned = math.inf if limit is None else limit
        if self._config.seconds is None or not counters.speed_seconds:
            return planned
        return min(planned, counters.tokens + self._tokens_per_second() * self._seconds_left())

    def _seconds_left(self) -> float:
        """Returns the seconds left for training before the last evaluation; infinite if there is no time limit."""
        limit, last = self._config.seconds, self._counters.evaluation_seconds
        if limit is None:
            return math.inf
        if last is None:
            # Until an evaluation has been timed, scoring a token is assumed to take half as long as learning from it,
            # and the evaluation at most half of the time limit.
            known = bool(self._counters.speed_seconds)
            last = min(self._evaluation_tokens / 2 / self._tokens_per_second(), limit / 2) if known else 0.0
        return limit - self._seconds - last

    def _tokens_per_second(self) -> float:
        return self._counters.speed_tokens / self._counters.speed_seconds

    def _read_clock(self) -> float:
        """Returns the seconds since training started, measured by the first process and returned in every process."""
        self._seconds = self._group.from_first(time.perf_counter() - self._started)
        return self._seconds

    def _report(self, figures: TrainingStep | None) -> None:
        if self._on_progress:
            self._on_progress(self._progress(figures))

    def _progress(self, figures: TrainingStep | None) -> Progress:
        counters, config = self._counters, self._config
        train = "" if counters.recent_loss is None else f"train {counters.recent_loss:.3f}"
        valid = "" if counters.best_loss is None else f", valid {counters.best_loss:.3f}"
        diverged = f" ({counters.divergences[-1]}; went back)" if counters.divergences else ""
        measures = "".join(f", {name} {value:.3g}" for name, value in self._measures.items())
        message = f"{train}{valid} {self._unit}{measures}{diverged}"
        if config.tokens is None:
            return Progress(min(self._seconds, config.seconds or 0.0), config.seconds, "", message, figures)
        done = config.tokens * min(1.0, self._spent(counters.tokens))
        return Progress(done, config.tokens, "tokens", message, figures)

    # ---- Checkpoints ----------------------------------------------------------------------------

    def _save(self, checkpoint: Checkpoint | None, fingerprint: str) -> None:
        """Saves the run to the checkpoint of the first process; every process must call this method."""
        # numpy has no bfloat16, which parts of a state may be; float32 represents them exactly.
        parts = [part.float() if part.dtype == torch.bfloat16 else part for part in self._state]
        state = [self._group.gather(part.cpu().numpy()) for part in parts]  # of the whole batch
        if checkpoint and self._group.rank == 0:
            optimizer = {f"optimizer.{name}": part for name, part in self._optimizers.states(self._parameters)}
            tensors: dict[str, Tensor] = {**self._weights.tensors(), **optimizer}
            arrays = {
                **{f"state.{index}": part for index, part in enumerate(state)},
                **{name: tensor.cpu().numpy() for name, tensor in tensors.items()},
                **{f"batches.{name}": array for name, array in self._batches.arrays().items()},
                **{f"history.{name}": array for name, array in self._recorder.arrays().items()},
            }
            checkpoint.save(arrays, {"fingerprint": fingerprint, **asdict(self._counters)})

    def _restore(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Restores the training run from a checkpoint: its named arrays, and its JSON object `facts`."""
        self._recorder.load_arrays(_with_prefix("history.", arrays))
        tensors = {
            name: torch.from_numpy(array).to(self._network.device)
            for name, array in arrays.items()
            if not name.startswith("history.")
        }
        n_parts = len(_with_prefix("state.", arrays))
        rows = self._group.rows_of(self._config.batch_size)
        self._state = tuple(tensors[f"state.{index}"][rows] for index in range(n_parts))
        self._weights.load_tensors(tensors)
        self._optimizers.load_states(self._parameters, _with_prefix("optimizer.", tensors))
        self._batches.load_arrays(_with_prefix("batches.", arrays))
        self._counters = _Counters(**{name: facts[name] for name in asdict(self._counters)})


def _with_prefix(prefix: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of a mapping whose names begin with `prefix`, and removes the prefix from the names."""
    return {name.removeprefix(prefix): value for name, value in entries.items() if name.startswith(prefix)}
