"""A network as a language model: the one class behind all neural species."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Self, final, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.language_model import LanguageModel, OnProgress
from lmzoo.neural.losses import SampledLoss, next_token_loss
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.scoring import hidden_vectors, observed_log_probs
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.single import SingleReader
from lmzoo.neural.train import Training
from lmzoo.stream import EOT, TokenStream, TrainingData

_CHUNK_SIZE = 256
"""Ids of a context that are read in one forward pass."""


class NeuralState(NamedTuple):
    """What the network carries on, and its last hidden vector (D,), of which `logits` makes the prediction."""

    memory: Memory
    hidden: Tensor


@final
class NeuralStates(Sequence[NeuralState]):
    """B states that were read side by side, and stay so: the memory of all, and their hidden vectors (B, D)."""

    def __init__(self, memory: Memory, hidden: Tensor) -> None:
        self.memory, self.hidden = memory, hidden

    def __len__(self) -> int:
        return len(self.hidden)

    @overload
    def __getitem__(self, row: int) -> NeuralState: ...
    @overload
    def __getitem__(self, row: slice) -> NeuralStates: ...
    def __getitem__(self, row: int | slice) -> NeuralState | NeuralStates:
        if isinstance(row, slice):
            return NeuralStates(tuple(part[row] for part in self.memory), self.hidden[row])
        own = range(len(self))[row]
        return NeuralState(tuple(part[own : own + 1] for part in self.memory), self.hidden[own])


@final
class NeuralLM(LanguageModel[NeuralState]):
    """A language model around the network that `make_network(vocab_size, **architecture)` creates."""

    def __init__(
        self,
        vocab_size: int,
        make_network: Callable[..., Network],
        architecture: Mapping[str, Any],
        training: TrainConfig,
        *,
        context_size: int | None,
    ) -> None:
        super().__init__(vocab_size)
        self.context_size, self.training = context_size, training
        self._make_network, self._architecture = make_network, dict(architecture)

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        data.checked(self.vocab_size)
        network = self.fresh_network(seed)
        counts = np.bincount(data.train.ids, minlength=self.vocab_size) + 1.0
        frequencies = torch.from_numpy((counts / counts.sum()).astype(np.float32))
        network.start_from(frequencies.log())
        n_samples = self.training.sampled
        training = Training(
            network,
            data.train,
            self.training,
            loss=next_token_loss if n_samples is None else SampledLoss(frequencies, n_samples),
            evaluate=lambda: -float(observed_log_probs(network, data.valid).mean()),
            evaluation_tokens=len(data.valid),
            seed=seed,
        )
        kind = {
            "network": self._make_network.__qualname__,
            "vocab_size": self.vocab_size,
            "architecture": self._architecture,
            "training": asdict(self.training),
        }
        training.run(
            fingerprint=data.fingerprint([seed, kind]) if checkpoint else "",
            checkpoint=checkpoint,
            on_progress=on_progress,
        )
        self.network, self.fitted = network, True
        return self

    @property
    def network(self) -> Network:
        """Set by `fit` and `load_arrays`."""
        return self._network

    @network.setter
    def network(self, network: Network) -> None:
        self._network, self._single = network, SingleReader(network)

    def fresh_network(self, seed: int) -> Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._make_network(self.vocab_size, **self._architecture).eval()

    def initial_state(self) -> NeuralState:
        return self._read(np.array([EOT]), self.network.initial_memory(1))

    def advance(self, state: NeuralState, token_id: int) -> NeuralState:
        if found := self._single.read(token_id, state.memory):
            hidden, memory = found
            return NeuralState(memory, hidden)
        return self._read(np.array([token_id]), state.memory)

    def state_after(self, context: NDArray[np.int32]) -> NeuralState:
        state = self.initial_state()
        for start in range(0, len(context), _CHUNK_SIZE):
            state = self._read(context[start : start + _CHUNK_SIZE], state.memory)
        return state

    @torch.inference_mode()
    def _read(self, ids: NDArray[np.integer], memory: Memory) -> NeuralState:
        hidden, memory = self.network(torch.from_numpy(ids.astype(np.int64))[None], memory)  # (1, T, D)
        return NeuralState(memory, hidden[0, -1])

    def next_log_probs(self, state: NeuralState) -> NDArray[np.float64]:
        logits = self._single.logits(state.hidden)
        if logits is None:
            with torch.inference_mode():
                return self.network.logits(state.hidden).double().log_softmax(-1).numpy()
        log_probs = logits.astype(np.float64)
        log_probs -= log_probs.max()
        log_probs -= np.log(np.exp(log_probs).sum())
        return log_probs

    def advance_batch(self, states: Sequence[NeuralState], token_ids: Sequence[int]) -> Sequence[NeuralState]:
        if len(states) < 2:
            return super().advance_batch(states, token_ids)
        with torch.inference_mode():
            hidden, memory = self.network(torch.tensor(token_ids)[:, None], self._together(states).memory)  # (B, 1, D)
            return NeuralStates(memory, hidden[:, 0])

    def next_log_probs_batch(self, states: Sequence[NeuralState]) -> NDArray[np.float64]:
        if len(states) < 2:
            return super().next_log_probs_batch(states)
        with torch.inference_mode():
            return self.network.logits(self._together(states).hidden).double().log_softmax(-1).numpy()

    def _together(self, states: Sequence[NeuralState]) -> NeuralStates:
        if isinstance(states, NeuralStates):
            return states
        return NeuralStates(self.network.joined([memory for memory, _ in states]), torch.stack([h for _, h in states]))

    @torch.inference_mode()
    def stream_log_probs(self, stream: TokenStream) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        for positions, hidden in hidden_vectors(self.network, stream):
            for start, stop in self.block_bounds(len(positions)):
                yield positions[start:stop], self.network.logits(hidden[start:stop]).log_softmax(-1).numpy()

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        return observed_log_probs(self.network, self.checked_stream(ids))

    @torch.inference_mode()
    def predict_distributions(self, contexts: Sequence[ArrayLike]) -> NDArray[np.float64]:
        # What follows a context is what predicts the end of a document that is this context.
        stream = TokenStream.from_documents(self.visible(context) for context in contexts)
        rows = np.empty((len(contexts), self.vocab_size))
        row_of_position = np.full(len(stream), -1)
        row_of_position[stream.ends - 1] = np.arange(len(contexts))
        for positions, hidden in hidden_vectors(self.network, stream):
            wanted = row_of_position[positions]
            hidden = hidden[torch.from_numpy(wanted >= 0)]
            rows[wanted[wanted >= 0]] = self.network.logits(hidden).double().log_softmax(-1).numpy()
        return rows

    def arrays(self) -> dict[str, NDArray[Any]]:
        # `named_parameters` has tied weights once, and a network has no buffers.
        return {name: parameter.detach().numpy() for name, parameter in self.network.named_parameters()}

    def load_arrays(self, arrays: Arrays) -> Self:
        network = self.fresh_network(0)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                array = take_array(arrays, name, shape=tuple(parameter.shape), dtype=np.float32)
                parameter.copy_(torch.from_numpy(np.array(array)))
        self.network, self.fitted = network, True
        return self
