"""The one training loop: packed rows, truncated back-propagation, early stopping, exact resumption.

What happens at step i is a function of the settings, the data, the seed and i alone, randomness included. So a
checkpoint holds no generator, and a run that was killed and resumed equals one that was not, bit for bit. Several
processes take every step together, each with its rows of the batch: once gradients are averaged, all have the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import TrainingError
from lmzoo.neural.compiling import as_written, compiled_blocks
from lmzoo.neural.devices import autocast, borrowed_generators
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.parallel import Team
from lmzoo.neural.settings import TrainConfig
from lmzoo.stream import TokenStream
from lmzoo.system.progress import OnProgress, Progress

Loss = Callable[[Network, Tensor, Tensor, Memory], tuple[Tensor, Memory]]
"""(network, inputs (B, T), targets (B, T), memory) -> the loss to make small, and the memory after the chunk."""

_SECONDS_BETWEEN_SAVES = 30.0
_MOST_ROLLBACKS = 3


@final
class Training:
    """One run of training: its state, and how a step changes it.

    `loss` is made small on `stream`, and `evaluate` returns the mean nats that decide which weights are kept; it scores
    `evaluation_tokens` ids. In a `team` the batch is that of all processes.
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
        team: Team | None = None,
    ) -> None:
        self._network, self._config, self._loss, self._evaluate, self._seed = network, config, loss, evaluate, seed
        self._team = team or Team()
        self._share = self._team.share(config.batch_size)  # the rows of the batch that are read here
        self._rows = Rows(stream, config, seed, self._share)
        self._parameters = dict(network.named_parameters())
        self._optimizers = _optimizers(network, config)
        self._rate = 1.0  # what divergence left of the learning rate
        # Ten times a run, unless valid is so large that more than a tenth of the time would go there: an id that is
        # only scored costs less than half of one that is learned from.
        self._evaluate_every = max(1, config.tokens // 10, 5 * evaluation_tokens)
        self._started = time.perf_counter()
        self._seconds = 0.0  # since then, when a step begins
        self._memory = self._initial_memory()
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
    ) -> int:
        """Trains to the end of the budget, or until valid gets no better; leaves the network with its best weights.

        Returns how many tokens it was trained on, of all processes and before an interruption as well.
        Saves to the checkpoint every half minute and on Ctrl-C, and resumes what it holds. `fingerprint` says what the
        run is of. When the loss or the gradient is no longer a number, it goes back to the best weights and on at half
        the learning rate; the fourth time it raises TrainingError. In a team the checkpoint is that of the first
        process. An interrupt finds its processes in different places: it stops them, and saves nothing.
        """
        team = self._team
        is_kept = team.from_first(checkpoint is not None)
        if saved := team.from_first(checkpoint and checkpoint.load(fingerprint)):
            self._restore(*saved)
        if checkpoint:
            self._started -= checkpoint.earlier_seconds
        last_save = self._tick()
        compiling = compiled_blocks(self._network) if self._config.compiled else nullcontext()
        with borrowed_generators(self._network.device), compiling:
            try:
                while True:
                    self._tick()
                    finished = self._spent(self._tokens) >= 1
                    if finished or self._tokens >= self._next_evaluation:
                        self._consider()
                    if finished or self._n_worse >= self._config.patience:
                        break
                    self.step()
                    if on_progress:
                        on_progress(self._progress())
                    if is_kept and self._seconds - last_save >= _SECONDS_BETWEEN_SAVES:
                        self._save(checkpoint, fingerprint)
                        last_save = self._tick()
            except KeyboardInterrupt:
                if checkpoint and self._whole and team.size == 1:
                    self._save(checkpoint, fingerprint)
                raise
        self._set_weights(self._best)
        self._network.eval()
        return self._tokens

    def step(self) -> None:
        """Learns from the next chunk of each row."""
        config, device, team = self._config, self._network.device, self._team
        inputs, targets, at_start = self._rows.chunk(self._n_steps)
        memory = self._initial_memory() if at_start else self._memory
        torch.manual_seed(int(np.random.SeedSequence([self._seed, self._n_steps, team.rank]).generate_state(1)[0]))
        if config.forget:
            memory = self._partly_forgotten(memory)
        self._network.train()
        with autocast(config.bf16, device):
            loss, memory = self._loss(self._network, inputs.to(device), targets.to(device), memory)
        self._network.zero_grad()
        loss.backward()
        nats = team.average(loss, self._parameters.values())
        norm = float(nn.utils.clip_grad_norm_(self._parameters.values(), config.clip))
        tokens = self._tokens + inputs.numel() * team.size
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
        self._memory = self._initial_memory()
        self._rate /= 2

    def _initial_memory(self) -> Memory:
        return self._network.initial_memory(self._share.stop - self._share.start)

    def _partly_forgotten(self, memory: Memory) -> Memory:
        """The same rows forget however many processes share them."""
        rng = np.random.default_rng([self._seed, self._n_steps])
        forget = torch.from_numpy(rng.random(self._config.batch_size) < self._config.forget)[self._share]
        return tuple(
            torch.where(forget.view(-1, *(1,) * (part.ndim - 1)).to(part.device), nothing.to(part.dtype), part)
            for part, nothing in zip(memory, self._initial_memory(), strict=True)
        )

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
        with as_written(self._config.compiled):
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
        return max(share, self._seconds / self._config.seconds)

    def _tick(self) -> float:
        """Reads the clock of the first process: all must agree on what follows from it."""
        self._seconds = self._team.from_first(time.perf_counter() - self._started)
        return self._seconds

    def _progress(self) -> Progress:
        train = "" if self._recent_nats is None else f"train {self._recent_nats:.3f}"
        valid = "" if self._best_nats is None else f", valid {self._best_nats:.3f}"
        diverged = f" ({self._diverged[-1]}; went back)" if self._diverged else ""
        done = self._config.tokens * min(1.0, self._spent(self._tokens))
        return Progress(done, self._config.tokens, "tokens", f"{train}{valid} nats/token{diverged}")

    def _save(self, checkpoint: Checkpoint | None, fingerprint: str) -> None:
        # numpy has no bfloat16, of which a memory may be; nothing is lost in float32.
        parts = [part.float() if part.dtype == torch.bfloat16 else part for part in self._memory]
        memory = [self._team.gather(part.cpu().numpy()) for part in parts]  # of the whole batch
        if checkpoint and self._team.rank == 0:
            arrays = {f"memory.{i}": part for i, part in enumerate(memory)} | self._arrays()
            checkpoint.save(arrays, self._facts(fingerprint))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            tensors[f"weights.{name}"] = parameter.detach()
            tensors[f"best.{name}"] = self._best[name]
            if self._average:
                tensors[f"average.{name}"] = self._average[name]
            state = self._optimizer_of(parameter).state[parameter]
            tensors |= {f"optimizer.{name}.{key}": value for key, value in state.items()}
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}

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
        tensors = {name: torch.from_numpy(array).to(self._network.device) for name, array in arrays.items()}
        self._memory = tuple(tensors[f"memory.{i}"][self._share] for i in range(len(self._memory)))
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
    start somewhere in a document, with a memory of nothing. `share` says which of them to read.
    """

    def __init__(self, stream: TokenStream, config: TrainConfig, seed: int, share: slice = slice(None)) -> None:
        self._stream, self._seed, self._share = stream, seed, share
        row_size, self.n_chunks = _row_shape(len(stream), config)
        self._shape = config.batch_size, row_size
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
        positions = positions[self._share]
        self._inputs: NDArray[np.int32] = self._stream.previous_ids()[positions]
        self._targets: NDArray[np.int32] = self._stream.ids[positions]
        self._epoch = epoch


def _row_shape(n_ids: int, config: TrainConfig) -> tuple[int, int]:
    """The size of a row, and the number of chunks in which it is read."""
    row_size = max(config.chunk_size, -(-n_ids // config.batch_size))
    return row_size, round(row_size / config.chunk_size)


def widest_chunk(n_ids: int, config: TrainConfig) -> int:
    """The most columns of a chunk, of a text of so many ids."""
    row_size, n_chunks = _row_shape(n_ids, config)
    return -(-row_size // n_chunks)
