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
from lmzoo.language_model import LanguageModel
from lmzoo.neural.devices import borrowed_generators, find_device
from lmzoo.neural.flops import flops_per_token
from lmzoo.neural.footprint import Footprint, check_memory, chunk_bytes, text_bytes, weight_bytes
from lmzoo.neural.losses import SampledLoss, next_token_loss
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.parallel import Team, join
from lmzoo.neural.scoring import hidden_vectors, observed_log_probs
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.single import SingleReader
from lmzoo.neural.train import Training, widest_chunk
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.placement import chosen_device
from lmzoo.system.progress import OnProgress

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
        reach: int | None = None,
    ) -> None:
        super().__init__(vocab_size)
        self.context_size, self.training = context_size, training
        self._reach = reach or context_size
        self._make_network, self._architecture = make_network, dict(architecture)
        self.device = find_device(chosen_device())

    @property
    def reach(self) -> int | None:
        return self._reach

    def fit(
        self,
        data: TrainingData,
        *,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        data.checked(self.vocab_size)
        team, config = join(self.device), self.training
        network = self._network_that_fits(seed, len(data.train), team)
        counts = np.bincount(data.train.ids, minlength=self.vocab_size) + 1.0
        frequencies = torch.from_numpy((counts / counts.sum()).astype(np.float32)).to(self.device)
        network.start_from(frequencies.log())
        own_valid = _share_of(data.valid, team)
        training = Training(
            network,
            data.train,
            config,
            loss=next_token_loss if config.sampled is None else SampledLoss(frequencies, config.sampled),
            evaluate=lambda: -team.sum(float(observed_log_probs(network, own_valid).sum())) / len(data.valid),
            evaluation_tokens=len(data.valid),
            seed=seed,
            team=team,
        )
        kind = {
            "network": self._make_network.__qualname__,
            "vocab_size": self.vocab_size,
            "architecture": self._architecture,
            "training": asdict(config),
        }
        fingerprint = data.fingerprint([seed, kind]) if checkpoint or team.size > 1 else ""
        team.check_same(fingerprint)
        self.n_tokens_read = training.run(fingerprint=fingerprint, checkpoint=checkpoint, on_progress=on_progress)
        self.network, self.fitted = network, True
        return self

    def _network_that_fits(self, seed: int, n_ids: int, team: Team) -> Network:
        """A fresh network; TrainingError if there is too little memory to train it on so many ids."""
        config = self.training
        rows = team.share(config.batch_size)
        sizes = [name for name, value in self._architecture.items() if type(value) is int and value > 1]

        def make_network() -> Network:
            return self._make_network(self.vocab_size, **self._architecture)

        needed = Footprint(weight_bytes(make_network, config, team.size), text=text_bytes(n_ids))
        check_memory(needed, config, self.device, sizes)
        network = self.fresh_network(seed)
        width = widest_chunk(n_ids, config)
        needed = needed._replace(chunk=chunk_bytes(network, config, rows.stop - rows.start, width))
        check_memory(needed, config, self.device, sizes)
        return network

    @property
    def network(self) -> Network:
        """Set by `fit` and `load_arrays`."""
        return self._network

    @network.setter
    def network(self, network: Network) -> None:
        self._network, self._single = network, SingleReader(network)

    def fresh_network(self, seed: int) -> Network:
        # Made on the processor, wherever it is to be, so that the first weights are the same everywhere.
        with borrowed_generators(self.device), torch.device("cpu"):
            torch.manual_seed(seed)
            network = self._make_network(self.vocab_size, **self._architecture)
        return network.to(self.device).eval()

    @property
    def flops_per_token(self) -> float:
        """In products of matrices, over the first 64 tokens of a text, when no network reads any of them twice."""
        self.require_fitted()
        return flops_per_token(self.network, n_tokens=64)

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
        inputs = torch.from_numpy(ids.astype(np.int64))[None].to(self.device)
        hidden, memory = self.network(inputs, memory)  # (1, T, D)
        return NeuralState(memory, hidden[0, -1])

    def next_log_probs(self, state: NeuralState) -> NDArray[np.float64]:
        logits = self._single.logits(state.hidden)
        if logits is None:
            with torch.inference_mode():
                return self.network.logits(state.hidden).cpu().double().log_softmax(-1).numpy()
        log_probs = logits.astype(np.float64)
        log_probs -= log_probs.max()
        log_probs -= np.log(np.exp(log_probs).sum())
        return log_probs

    def advance_batch(self, states: Sequence[NeuralState], token_ids: Sequence[int]) -> Sequence[NeuralState]:
        if len(states) < 2:
            return super().advance_batch(states, token_ids)
        with torch.inference_mode():
            hidden, memory = self.network(
                torch.tensor(token_ids, device=self.device)[:, None], self._together(states).memory
            )  # (B, 1, D)
            return NeuralStates(memory, hidden[:, 0])

    def next_log_probs_batch(self, states: Sequence[NeuralState]) -> NDArray[np.float64]:
        if len(states) < 2:
            return super().next_log_probs_batch(states)
        with torch.inference_mode():
            return self.network.logits(self._together(states).hidden).cpu().double().log_softmax(-1).numpy()

    def _together(self, states: Sequence[NeuralState]) -> NeuralStates:
        if isinstance(states, NeuralStates):
            return states
        return NeuralStates(self.network.joined([memory for memory, _ in states]), torch.stack([h for _, h in states]))

    @torch.inference_mode()
    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        wanted = stream.mask(positions)
        for read, hidden in hidden_vectors(self.network, stream):
            rows = np.flatnonzero(wanted[read])
            if len(rows) < len(read):
                hidden = hidden[torch.from_numpy(rows).to(self.device)]
            for start, stop in self.block_bounds(len(rows)):
                logits = self.network.logits(hidden[start:stop])
                yield read[rows[start:stop]], logits.log_softmax(-1).cpu().numpy()

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        return observed_log_probs(self.network, self.checked_stream(ids))

    def arrays(self) -> dict[str, NDArray[Any]]:
        # `named_parameters` has tied weights once, and a network has no buffers.
        return {name: parameter.detach().cpu().numpy() for name, parameter in self.network.named_parameters()}

    def load_arrays(self, arrays: Arrays) -> Self:
        network = self.fresh_network(0)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                array = take_array(arrays, name, shape=tuple(parameter.shape), dtype=np.float32)
                parameter.copy_(torch.from_numpy(np.array(array)))
        self.network, self.fitted = network, True
        return self


def _share_of(stream: TokenStream, team: Team) -> TokenStream:
    """The documents that this process scores."""
    if team.size == 1:
        return stream
    return TokenStream(np.concatenate([np.empty(0, np.int32), *list(stream.documents())[team.rank :: team.size]]))
