"""The one training loop: packed rows, truncated back-propagation, AdamW, early stopping, exact resumption.

What happens at step i is a function of the settings, the data, the seed and i alone, randomness included. So a
checkpoint holds no generator, and a run that was killed and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import TrainingError
from lmzoo.language_model import OnProgress, Progress
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.settings import TrainConfig
from lmzoo.stream import TokenStream, TrainingData

Loss = Callable[[Network, Tensor, Tensor, Memory], tuple[Tensor, Memory]]
"""(network, inputs (B, T), targets (B, T), memory) -> the loss to make small, and the memory after the chunk."""

_SECONDS_BETWEEN_SAVES = 30.0
_EVALUATIONS = 10
"""How often valid is scored during a run, unless that would take too much of its time."""


def train(
    network: Network,
    stream: TokenStream,
    config: TrainConfig,
    *,
    loss: Loss,
    evaluate: Callable[[], float],
    evaluation_tokens: int,
    seed: int,
    fingerprint: str,
    checkpoint: Checkpoint | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Trains the network in place; it ends with the weights for which `evaluate`, a mean in nats, was lowest.

    `evaluation_tokens` is how many ids an evaluation scores. With a checkpoint, work is saved to it every half minute
    and on Ctrl-C, and a run that it holds is resumed. Raises TrainingError when the loss is no longer a number.
    """
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global generator: it is lent, not changed
        run = _Run(network, stream, config, loss, evaluate, evaluation_tokens, seed, checkpoint)
        saved = checkpoint.load(fingerprint) if checkpoint else None
        if saved:
            run.restore(*saved)
        last_save = time.perf_counter()
        try:
            while True:
                finished = run.finished
                if finished or run.tokens >= run.next_evaluation:
                    run.evaluate()
                if finished or run.n_worse >= config.patience:
                    break
                run.step()
                if on_progress:
                    on_progress(run.progress())
                if checkpoint and time.perf_counter() - last_save > _SECONDS_BETWEEN_SAVES:
                    checkpoint.save(run.arrays(), run.facts(fingerprint))
                    last_save = time.perf_counter()
        except KeyboardInterrupt:
            if checkpoint and run.whole:
                checkpoint.save(run.arrays(), run.facts(fingerprint))
            raise
        run.keep_best()


def fingerprint_of(data: TrainingData, seed: int, settings: Mapping[str, Any]) -> str:
    """What a training run is of: a hash of both splits, the seed and the settings."""
    digest = hashlib.sha256(json.dumps([seed, settings], sort_keys=True).encode())
    for stream in (data.train, data.valid):
        digest.update(len(stream).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(stream.ids, "<i4"))
    return digest.hexdigest()


class _Rows:
    """The train split as B rows of L ids, a new arrangement each epoch, read in chunks of columns.

    Documents are shuffled and joined, the whole is turned by a random amount and cut into B equal rows. So no id is
    padding, and a split that is one long document fills all rows too. A text too short for B chunks is repeated. Rows
    start somewhere in a document, with a memory of nothing.
    """

    def __init__(self, stream: TokenStream, config: TrainConfig, seed: int) -> None:
        self._stream, self._seed = stream, seed
        row_size = max(config.chunk_size, -(-len(stream) // config.batch_size))
        self._shape = config.batch_size, row_size
        n_chunks = round(row_size / config.chunk_size)
        # Chunks of equal size, give or take one: a short last one would be a step with a noisy gradient.
        self._bounds = [row_size * chunk // n_chunks for chunk in range(n_chunks + 1)]
        self._epoch = -1

    def chunk(self, step: int) -> tuple[Tensor, Tensor, bool]:
        """Inputs (B, T) and targets (B, T) of a step, and whether the rows start here."""
        epoch, chunk = divmod(step, len(self._bounds) - 1)
        if epoch != self._epoch:
            self._arrange(epoch)
        columns = slice(self._bounds[chunk], self._bounds[chunk + 1])
        inputs, targets = (torch.from_numpy(rows[:, columns].astype(np.int64)) for rows in (self._inputs, self._targets))
        return inputs, targets, chunk == 0

    def _arrange(self, epoch: int) -> None:
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(self._stream.n_documents)
        starts, sizes = self._stream.starts[order], (self._stream.ends - self._stream.starts)[order]
        positions = np.arange(len(self._stream)) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
        positions = np.resize(np.roll(positions, rng.integers(len(positions))), self._shape)
        self._inputs: NDArray[np.int32] = self._stream.previous_ids()[positions]
        self._targets: NDArray[np.int32] = self._stream.ids[positions]
        self._epoch = epoch


class _Run:
    """The state of one training run, and how it changes."""

    def __init__(
        self,
        network: Network,
        stream: TokenStream,
        config: TrainConfig,
        loss: Loss,
        evaluate: Callable[[], float],
        evaluation_tokens: int,
        seed: int,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._network, self._config, self._loss, self._evaluate, self._seed = network, config, loss, evaluate, seed
        self._rows = _Rows(stream, config, seed)
        self._parameters = dict(network.named_parameters())
        decayed = [parameter for parameter in self._parameters.values() if parameter.ndim >= 2]
        others = [parameter for parameter in self._parameters.values() if parameter.ndim < 2]
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.95),
            fused=True,
        )
        # An evaluated id costs about a third of a trained one: at most a tenth of the time goes there.
        self._evaluate_every = max(1, config.tokens // _EVALUATIONS, 3 * evaluation_tokens)
        self._checkpoint, self._started = checkpoint, time.perf_counter()
        self._memory = network.initial_memory(config.batch_size)
        self._best = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._best_nats: float | None = None
        self._recent_nats: float | None = None
        self._n_steps = 0
        self.tokens = 0
        self.next_evaluation = self._evaluate_every
        self.n_worse = 0
        """Evaluations in a row that were no better than the best."""
        self.whole = True
        """False while a step changes the weights: a checkpoint of that moment could not be resumed."""

    # ---- What a run does ------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self._spent(self.tokens) >= 1

    def step(self) -> None:
        """Learns from the next chunk of each row."""
        config = self._config
        inputs, targets, at_start = self._rows.chunk(self._n_steps)
        memory = self._network.initial_memory(config.batch_size) if at_start else self._memory
        torch.manual_seed(int(np.random.SeedSequence([self._seed, self._n_steps]).generate_state(1, np.uint64)[0]))
        self._network.train()
        with autocast(config.bf16):
            loss, memory = self._loss(self._network, inputs, targets, memory)
        self._optimizer.zero_grad()
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self._parameters.values(), config.clip))
        nats = loss.item()
        if not (math.isfinite(nats) and math.isfinite(norm)):
            raise TrainingError(
                f"training diverged at step {self._n_steps + 1}: loss {nats}, gradient norm {norm}; "
                f"try a learning_rate below {config.learning_rate}, a longer warmup or a smaller clip"
            )
        tokens = self.tokens + inputs.numel()
        for group in self._optimizer.param_groups:
            group["lr"] = config.learning_rate * self._rate(min(1.0, self._spent(tokens)))
        self.whole = False
        self._optimizer.step()
        self._memory = tuple(tensor.detach() for tensor in memory)
        self._recent_nats = nats if self._recent_nats is None else 0.95 * self._recent_nats + 0.05 * nats
        self._n_steps += 1
        self.tokens = tokens
        self.whole = True

    def evaluate(self) -> None:
        """Scores valid; keeps the weights if they are the best so far."""
        self._network.eval()
        nats = self._evaluate()
        if self._best_nats is None or nats < self._best_nats:
            for name, parameter in self._parameters.items():
                self._best[name].copy_(parameter.detach())
            self._best_nats, self.n_worse = nats, 0
        else:
            self.n_worse += 1
        self.next_evaluation = self.tokens + self._evaluate_every

    def keep_best(self) -> None:
        """Gives the network the best weights."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._best[name])
        self._network.eval()

    def progress(self) -> Progress:
        valid = "" if self._best_nats is None else f", best on valid {self._best_nats:.3f}"
        message = f"{self._recent_nats:.3f} nats a token{valid}"
        return Progress(min(self.tokens, self._config.tokens), self._config.tokens, "tokens", message)

    def _spent(self, tokens: int) -> float:
        """Share of the budget that is used up after so many tokens; with a time budget, the larger share."""
        share = tokens / self._config.tokens if self._config.tokens else 1.0
        if self._config.seconds is None:
            return share
        earlier = self._checkpoint.earlier_seconds if self._checkpoint else 0.0
        return max(share, (earlier + time.perf_counter() - self._started) / self._config.seconds)

    def _rate(self, spent: float) -> float:
        """The learning rate as a share of its peak: linear warm-up, then half a cosine (Loshchilov & Hutter 2017)."""
        warmup, final = self._config.warmup, self._config.final_rate
        if spent < warmup:
            return spent / warmup
        return final + (1 - final) * (1 + math.cos(math.pi * (spent - warmup) / max(1 - warmup, 1e-9))) / 2

    # ---- What a checkpoint holds ----------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        tensors = {f"memory.{i}": tensor for i, tensor in enumerate(self._memory)}
        for name, parameter in self._parameters.items():
            tensors[f"weights.{name}"] = parameter.detach()
            tensors[f"best.{name}"] = self._best[name]
            tensors |= {f"adamw.{name}.{key}": value for key, value in self._optimizer.state[parameter].items()}
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    def facts(self, fingerprint: str) -> dict[str, Any]:
        return {
            "fingerprint": fingerprint,
            "n_steps": self._n_steps,
            "tokens": self.tokens,
            "next_evaluation": self.next_evaluation,
            "best_nats": self._best_nats,
            "recent_nats": self._recent_nats,
            "n_worse": self.n_worse,
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self._memory = tuple(tensors[f"memory.{i}"] for i in range(len(self._memory)))
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"weights.{name}"])
                self._best[name] = tensors[f"best.{name}"]
                start = f"adamw.{name}."
                self._optimizer.state[parameter] = {
                    key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)
                }
        self._n_steps, self.tokens, self.next_evaluation = facts["n_steps"], facts["tokens"], facts["next_evaluation"]
        self._best_nats, self._recent_nats, self.n_worse = facts["best_nats"], facts["recent_nats"], facts["n_worse"]


def autocast(bf16: bool | None) -> AbstractContextManager[Any]:
    """Multiplies matrices in bfloat16; None = where the processor has instructions for it."""
    if bf16 is None:
        # Without them bfloat16 is emulated, and slower than float32. Older versions of torch cannot say.
        found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        bf16 = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16)
