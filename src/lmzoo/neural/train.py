"""The one training loop: packed rows, truncated back-propagation, early stopping, exact resumption.

What happens at step i is a function of the settings, the data, the seed and i alone, randomness included. So a
checkpoint holds no generator, and a run that was killed and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import TrainingError
from lmzoo.language_model import OnProgress, Progress
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.settings import TrainConfig
from lmzoo.stream import TokenStream

Loss = Callable[[Network, Tensor, Tensor, Memory], tuple[Tensor, Memory]]
"""(network, inputs (B, T), targets (B, T), memory) -> the loss to make small, and the memory after the chunk."""

_SECONDS_BETWEEN_SAVES = 30.0
_MOST_ROLLBACKS = 3


@final
class Training:
    """One run of training: its state, and how a step changes it.

    `loss` is made small on `stream`, and `evaluate` returns the mean nats that decide which weights are kept; it scores
    `evaluation_tokens` ids.
    """

    def __init__(
        self,
        network: Network,
        stream: TokenStream,
        config: TrainConfig,
        *,
        loss: Loss,
        evaluate: Callable[[], float],
        evaluation_tokens: int,
        seed: int,
    ) -> None:
        self._network, self._config, self._loss, self._evaluate, self._seed = network, config, loss, evaluate, seed
        self._rows = Rows(stream, config, seed)
        self._parameters = dict(network.named_parameters())
        self._optimizers = _optimizers(network, config)
        self._rate = 1.0  # what divergence left of the learning rate
        # Ten times a run, unless valid is so large that more than a tenth of the time would go there: an id that is
        # only scored costs less than half of one that is learned from.
        self._evaluate_every = max(1, config.tokens // 10, 5 * evaluation_tokens)
        self._started = time.perf_counter()
        self._memory = network.initial_memory(config.batch_size)
        self._best = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        # The average of the weights, if it is wanted, which is then evaluated in their place.
        self._average = {name: best.clone() for name, best in self._best.items()} if config.averaging else {}
        self._best_nats: float | None = None
        self._recent_nats: float | None = None  # of the last chunks, for show
        self._n_steps = self._tokens = 0
        self._next_evaluation = self._evaluate_every
        self._diverged: list[str] = []  # what happened, for show
        self._n_worse = 0  # evaluations in a row that were no better than the best
        self._whole = True  # False while a step changes the weights

    def run(
        self,
        *,
        fingerprint: str = "",
        checkpoint: Checkpoint | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Trains to the end of the budget, or until valid gets no better; leaves the network with its best weights.

        Saves to the checkpoint every half minute and on Ctrl-C, and resumes what it holds. `fingerprint` says what the
        run is of. When the loss or the gradient is no longer a number, it goes back to the best weights and on at half
        the learning rate; the fourth time it raises TrainingError.
        """
        if checkpoint and (saved := checkpoint.load(fingerprint)):
            self._restore(*saved)
            self._started -= checkpoint.earlier_seconds
        last_save = time.perf_counter()
        # Dropout draws from torch's global generator: it is borrowed, and given back as it was.
        with torch.random.fork_rng(devices=[]):
            try:
                while True:
                    finished = self._spent(self._tokens) >= 1
                    if finished or self._tokens >= self._next_evaluation:
                        self._consider()
                    if finished or self._n_worse >= self._config.patience:
                        break
                    self.step()
                    if on_progress:
                        on_progress(self._progress())
                    if checkpoint and time.perf_counter() - last_save >= _SECONDS_BETWEEN_SAVES:
                        checkpoint.save(self._arrays(), self._facts(fingerprint))
                        last_save = time.perf_counter()
            except KeyboardInterrupt:
                if checkpoint and self._whole:
                    checkpoint.save(self._arrays(), self._facts(fingerprint))
                raise
        self._set_weights(self._best)
        self._network.eval()

    def step(self) -> None:
        """Learns from the next chunk of each row."""
        config = self._config
        inputs, targets, at_start = self._rows.chunk(self._n_steps)
        torch.manual_seed(int(np.random.SeedSequence([self._seed, self._n_steps]).generate_state(1)[0]))
        memory = self._network.initial_memory(config.batch_size) if at_start else self._memory
        if config.forget:
            forgotten = torch.rand(config.batch_size) < config.forget
            nothing = self._network.initial_memory(config.batch_size)
            memory = tuple(
                part.where(_per_row(~forgotten, part), empty.to(part.dtype))
                for part, empty in zip(memory, nothing, strict=True)
            )
        self._network.train()
        with autocast(config.bf16):
            loss, memory = self._loss(self._network, inputs, targets, memory)
        self._network.zero_grad()
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self._parameters.values(), config.clip))
        nats = loss.item()
        tokens = self._tokens + inputs.numel()
        self._whole = False
        if math.isfinite(nats) and math.isfinite(norm):
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self._rate * config.learning_rate_at(self._spent(tokens))
                optimizer.step()
            self._memory = tuple(part.detach() for part in memory)
            self._recent_nats = nats if self._recent_nats is None else 0.95 * self._recent_nats + 0.05 * nats
            for name, average in self._average.items():
                share = min(1.0, 1 / (config.averaging * (self._n_steps + 1)))
                average.lerp_(self._parameters[name].detach(), share)
        else:
            self._roll_back(nats, norm)
        self._n_steps += 1
        self._tokens = tokens
        self._whole = True

    def _roll_back(self, nats: float, norm: float) -> None:
        """To the best weights so far, with new optimisers and half the learning rate."""
        self._diverged.append(f"diverged at step {self._n_steps + 1}: loss {nats}, gradient norm {norm}")
        if len(self._diverged) > _MOST_ROLLBACKS:
            raise TrainingError(
                f"training {self._diverged[-1]}, for the {len(self._diverged)}th time; "
                f"try a learning_rate below {self._config.learning_rate}, a longer warmup or a smaller clip"
            )
        self._set_weights(self._best)
        for name, average in self._average.items():
            average.copy_(self._best[name])
        self._optimizers = _optimizers(self._network, self._config)
        self._memory = self._network.initial_memory(self._config.batch_size)
        self._rate /= 2

    def _set_weights(self, weights: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])

    def _consider(self) -> None:
        """Scores valid; keeps the weights if they are the best so far."""
        self._network.eval()
        if self._average:
            last = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
            self._set_weights(self._average)
        else:
            last = None
        nats = self._evaluate()
        if self._best_nats is None or nats < self._best_nats:
            for name, parameter in self._parameters.items():
                self._best[name].copy_(parameter.detach())
            self._best_nats, self._n_worse = nats, 0
        else:
            self._n_worse += 1
        if last:
            self._set_weights(last)
        self._next_evaluation = self._tokens + self._evaluate_every

    def _spent(self, tokens: int) -> float:
        """Share of the budget that is used up after so many tokens; with a time budget, the larger of both shares."""
        share = tokens / self._config.tokens if self._config.tokens else 1.0
        if self._config.seconds is None:
            return share
        return max(share, (time.perf_counter() - self._started) / self._config.seconds)

    def _progress(self) -> Progress:
        train = "" if self._recent_nats is None else f"train {self._recent_nats:.3f}"
        valid = "" if self._best_nats is None else f", valid {self._best_nats:.3f}"
        diverged = f" ({self._diverged[-1]}; went back)" if self._diverged else ""
        done = self._config.tokens * min(1.0, self._spent(self._tokens))
        return Progress(done, self._config.tokens, "tokens", f"{train}{valid} nats/token{diverged}")

    def _arrays(self) -> dict[str, NDArray[Any]]:
        tensors = {f"memory.{i}": part for i, part in enumerate(self._memory)}
        for name, parameter in self._parameters.items():
            tensors[f"weights.{name}"] = parameter.detach()
            tensors[f"best.{name}"] = self._best[name]
            if self._average:
                tensors[f"average.{name}"] = self._average[name]
            state = self._optimizer_of(parameter).state[parameter]
            tensors |= {f"optimizer.{name}.{key}": value for key, value in state.items()}
        # numpy has no bfloat16, of which a memory may be; nothing is lost in float32.
        return {name: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for name, t in tensors.items()}

    def _facts(self, fingerprint: str) -> dict[str, Any]:
        return {
            "fingerprint": fingerprint,
            "n_steps": self._n_steps,
            "tokens": self._tokens,
            "next_evaluation": self._next_evaluation,
            "best_nats": self._best_nats,
            "recent_nats": self._recent_nats,
            "n_worse": self._n_worse,
            "rate": self._rate,
            "diverged": self._diverged,
        }

    def _restore(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self._memory = tuple(tensors[f"memory.{i}"] for i in range(len(self._memory)))
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"weights.{name}"])
                self._best[name] = tensors[f"best.{name}"]
                if self._average:
                    self._average[name] = tensors[f"average.{name}"]
                own = f"optimizer.{name}."
                state = {key.removeprefix(own): tensor for key, tensor in tensors.items() if key.startswith(own)}
                if state:  # there is none before the first step
                    self._optimizer_of(parameter).state[parameter] = state
        self._n_steps, self._tokens = facts["n_steps"], facts["tokens"]
        self._next_evaluation, self._n_worse = facts["next_evaluation"], facts["n_worse"]
        self._best_nats, self._recent_nats = facts["best_nats"], facts["recent_nats"]
        self._rate, self._diverged = facts["rate"], facts["diverged"]

    def _optimizer_of(self, parameter: nn.Parameter) -> torch.optim.Optimizer:
        groups = [(optimizer, group) for optimizer in self._optimizers for group in optimizer.param_groups]
        return next(optimizer for optimizer, group in groups if any(own is parameter for own in group["params"]))


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    """values (B,) with as many axes as a tensor whose first one is B."""
    return values.view(-1, *(1,) * (like.ndim - 1))


def _optimizers(network: Network, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices between hidden vectors if that is wanted."""
    matrices = network.hidden_matrices() if config.optimizer == "muon" else []
    taken = {id(matrix) for matrix in matrices}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    decayed, others = [p for p in rest if p.ndim >= 2], [p for p in rest if p.ndim < 2]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=config.learning_rate,
            fused=True,
        )
    ]
    if matrices:
        # Steps as long as AdamW's, so that one learning rate serves both (Liu et al. 2025).
        optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers


@final
class Rows:
    """The train split as B rows of L ids, a new arrangement each epoch, read in chunks of columns.

    Documents are shuffled and joined, the whole is turned by a random amount and cut into B equal rows. So no id is
    padding, and a split that is one long document fills all rows too. A text too short for B chunks is repeated. Rows
    start somewhere in a document, with a memory of nothing.
    """

    def __init__(self, stream: TokenStream, config: TrainConfig, seed: int) -> None:
        self._stream, self._seed = stream, seed
        row_size = max(config.chunk_size, -(-len(stream) // config.batch_size))
        self._shape = config.batch_size, row_size
        self.n_chunks = round(row_size / config.chunk_size)
        # Chunks of equal size, give or take one: a short last one would be a step with a noisy gradient.
        self._bounds = [row_size * chunk // self.n_chunks for chunk in range(self.n_chunks + 1)]
        self._epoch = -1

    def chunk(self, step: int) -> tuple[Tensor, Tensor, bool]:
        """Inputs (B, T) and targets (B, T) of a step, and whether the rows start here."""
        epoch, chunk = divmod(step, self.n_chunks)
        if epoch != self._epoch:
            self._arrange(epoch)
        columns = slice(self._bounds[chunk], self._bounds[chunk + 1])
        inputs, targets = (
            torch.from_numpy(rows[:, columns].astype(np.int64)) for rows in (self._inputs, self._targets)
        )
        return inputs, targets, chunk == 0

    def _arrange(self, epoch: int) -> None:
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(self._stream.n_documents)
        starts, ends = self._stream.starts[order], self._stream.ends[order]
        sizes = ends - starts
        positions = np.arange(len(self._stream)) + np.repeat(ends - np.cumsum(sizes), sizes)
        positions = np.resize(np.roll(positions, rng.integers(len(positions))), self._shape)  # (B, L), repeats to fill
        self._inputs: NDArray[np.int32] = self._stream.previous_ids()[positions]
        self._targets: NDArray[np.int32] = self._stream.ids[positions]
        self._epoch = epoch


def autocast(bf16: bool | None) -> AbstractContextManager[Any]:
    """Multiplies matrices in bfloat16; None = where the processor has instructions for it."""
    if bf16 is None:
        # Without them bfloat16 is emulated, and slower than float32. Older versions of torch cannot say.
        found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        bf16 = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16)
