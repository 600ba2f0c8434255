"""The language model around a neural network: the one class behind all neural models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Self, final, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lmzoo.arrays import Arrays, take_array
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import SavedModelError
from lmzoo.language_model import LanguageModel
from lmzoo.mapped import blocks_of
from lmzoo.neural.devices import CPU, find_device, preserved_rng_state, seed_generators
from lmzoo.neural.flops import flops_per_token
from lmzoo.neural.network import Network, State
from lmzoo.neural.objectives.next_token import next_token
from lmzoo.neural.objectives.objective import Objective
from lmzoo.neural.objectives.sampled import SampledSoftmax
from lmzoo.neural.one_token.reader import TokenReader
from lmzoo.neural.online import OnlineNetworkReader
from lmzoo.neural.saved_sizes import NoInitialWeights, check_sizes
from lmzoo.neural.scoring import hidden_vectors, logits_in_blocks, observed_log_probs, of_similar_length
from lmzoo.neural.training.batches import StreamBatches, widest_chunk
from lmzoo.neural.training.footprint import Footprint, check_memory, chunk_bytes, text_bytes, weight_bytes
from lmzoo.neural.training.loop import Training
from lmzoo.neural.training.parallel import ProcessGroup, join_processes
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.online_reader import OnlineReader
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.system.placement import Device
from lmzoo.system.progress import OnProgress

_CHUNK_SIZE = 256
"""Number of ids of a context that are read in one forward pass."""
_EVALUATION_TOKENS = 1 << 14
"""Number of tokens of the validation set, more or less, on which a network is evaluated during training."""
_KERNEL_THRESHOLD = 500
"""Number of tokens that torch reads in about the time it takes to load the compiled kernels, 0.4 s."""


class NeuralState(NamedTuple):
    """The state of a neural language model after a context."""

    network_state: State
    """State of the network, for one sequence."""
    hidden: Tensor
    """(D,): the last hidden vector, from which the next token is predicted."""


@final
class NeuralStates(Sequence[NeuralState]):
    """The states of B contexts that were read in parallel, stored as one batch.

    `network_state` is the state of the network for B sequences, and `hidden` (B, D) holds their last hidden vectors.
    """

    def __init__(self, network_state: State, hidden: Tensor) -> None:
        self.network_state, self.hidden = network_state, hidden

    def __len__(self) -> int:
        return len(self.hidden)

    @overload
    def __getitem__(self, row: int) -> NeuralState: ...
    @overload
    def __getitem__(self, row: slice) -> NeuralStates: ...
    def __getitem__(self, row: int | slice) -> NeuralState | NeuralStates:
        if isinstance(row, slice):
            return NeuralStates(tuple(part[row] for part in self.network_state), self.hidden[row])
        index = range(len(self))[row]
        return NeuralState(tuple(part[index : index + 1] for part in self.network_state), self.hidden[index])


@final
class NeuralLM(LanguageModel[NeuralState]):
    """A language model that predicts with a neural network.

    `make_network(vocab_size, **architecture)` creates the network, which is trained with the settings `training` on
    `device`. A prediction depends on the last `context_size` ids; None if their number is unlimited or varies.
    `reach` is the largest number of ids on which a prediction can depend; None = `context_size`.
    """

    kernel_threshold: int
    """Number of single tokens that torch reads before compiled kernels are loaded to read them faster."""

    def __init__(
        self,
        vocab_size: int,
        make_network: Callable[..., Network],
        architecture: Mapping[str, Any],
        training: TrainConfig,
        *,
        context_size: int | None,
        reach: int | None = None,
        device: Device = "cpu",
    ) -> None:
        super().__init__(vocab_size)
        self.context_size, self.training = context_size, training
        self._reach = reach or context_size
        self._make_network, self._architecture = make_network, dict(architecture)
        self.device = find_device(device)
        self.device_name = str(self.device)
        self.kernel_threshold = _KERNEL_THRESHOLD

    @classmethod
    def of(cls, network: Network, like: NeuralLM) -> NeuralLM:
        """Returns a fitted language model around an existing network, with the settings of the model `like`.

        The network has the architecture of `like`, and may have a larger vocabulary.
        """
        model = copy.copy(like)
        model.vocab_size = network.vocab_size
        model.network, model.history, model.fitted = network.to(like.device).eval(), None, True
        return model

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
        start: Network | None = None,
    ) -> Self:
        """Trains the network on the training text, and keeps the weights with the lowest loss on a validation sample.

        `start` is a network whose weights training starts from, and which is left unchanged; None = new weights,
        initialised from `seed`. Raises TrainingError if training needs more memory than is free, or diverges.
        """
        objective = self.sampled_softmax(self.checked_data(data).train) or next_token
        return self.train(
            data, objective, observed_log_probs, seed=seed, on_progress=on_progress, checkpoint=checkpoint, start=start
        )

    def train(
        self,
        data: TrainingData,
        objective: Objective,
        log_probs: Callable[[Network, TokenStream], NDArray[np.floating]],
        *,
        facts: Any = None,
        seed: int = 0,
        on_progress: OnProgress | None = None,
        checkpoint: Checkpoint | None = None,
        start: Network | None = None,
    ) -> Self:
        """Trains the network like `fit`, but with an objective of the caller on chunks of the training text.

        `log_probs` returns the log-probability (T,), in nats, of each of T tokens under a network; its mean over a
        sample of the validation set decides which weights are kept. `facts` is a JSON object that identifies the
        objective and `log_probs` in checkpoints.
        """
        group, config = join_processes(self.device), self.training
        network = self._network_in_memory(seed, len(data.train), objective, group, start)
        if start is None:
            network.prepare(data.train)
            network.initialize_output_bias(self._frequencies(data.train).log())
        sample = data.valid.sample(_EVALUATION_TOKENS)
        valid = _documents_of(sample, group)
        training = Training(
            network,
            StreamBatches(data.train, config, seed, group.rows_of(config.batch_size)),
            config,
            objective=objective,
            evaluate=lambda: -group.sum(float(log_probs(network, valid).sum())) / len(sample),
            evaluation_tokens=len(sample),
            seed=seed,
            group=group,
        )
        fingerprint = self._fingerprint(data, seed, start, facts) if checkpoint or group.size > 1 else ""
        group.check_same(fingerprint)
        self.n_tokens_read = training.run(fingerprint=fingerprint, checkpoint=checkpoint, on_progress=on_progress)
        self.network, self.history, self.fitted = network, training.history, True
        return self

    def sampled_softmax(self, train: TokenStream) -> SampledSoftmax | None:
        """Returns the sampled softmax that `training` asks for, for a training text; None for the full softmax."""
        n_samples = self.training.sampled_softmax
        if n_samples is None or n_samples >= self.vocab_size:  # then the full softmax costs less
            return None
        return SampledSoftmax(self._frequencies(train), n_samples)

    def _frequencies(self, stream: TokenStream) -> Tensor:
        """Returns the relative frequencies (V,) of the V tokens in a text, each of which is counted once more."""
        counts = np.ones(self.vocab_size)
        for _, block in blocks_of(stream.ids):
            counts += np.bincount(block, minlength=self.vocab_size)
        return torch.from_numpy((counts / counts.sum()).astype(np.float32)).to(self.device)

    def _fingerprint(self, data: TrainingData, seed: int, start: Network | None, facts: Any) -> str:
        """Returns a hash of everything that determines the result of a fit."""
        kind = {
            "network": self._make_network.__qualname__,
            "vocab_size": self.vocab_size,
            "architecture": self._architecture,
            "training": asdict(self.training),
        }
        if facts is not None:
            kind["facts"] = facts
        if start is not None:
            kind["start"] = start.weights_fingerprint()
        return data.fingerprint([seed, kind])

    def _network_in_memory(
        self, seed: int, n_ids: int, objective: Objective, group: ProcessGroup, start: Network | None
    ) -> Network:
        """Returns the network to train, on the device: a copy of `start`, or one with new weights.

        Raises TrainingError if training it on `n_ids` ids needs more memory than is free.
        """
        config = self.training
        rows = group.rows_of(config.batch_size)
        sizes = [name for name, value in self._architecture.items() if type(value) is int and value > 1]

        def make_network() -> Network:
            return self._make_network(self.vocab_size, **self._architecture)

        needed = Footprint(weight_bytes(make_network, config, group.size), text=text_bytes(n_ids))
        check_memory(needed, config, self.device, sizes)
        network = self.fresh_network(seed) if start is None else copy.deepcopy(start).to(self.device).eval()
        width = widest_chunk(n_ids, config)
        needed = needed._replace(chunk=chunk_bytes(network, objective, config, rows.stop - rows.start, width))
        check_memory(needed, config, self.device, sizes)
        return network

    def online_reader(self, seed: int) -> OnlineReader:
        return OnlineNetworkReader(self, seed)

    @property
    def network(self) -> Network:
        """The neural network; set by `fit` and `load_arrays`."""
        return self._network

    @network.setter
    def network(self, network: Network) -> None:
        self._network, self._reader = network, TokenReader(network)

    def fresh_network(self, seed: int) -> Network:
        """Returns a network with weights initialised from `seed`, on the device of the model."""
        # Initialised on the CPU, so that the same seed gives the same weights on every device.
        with preserved_rng_state(self.device), torch.device("cpu"):
            seed_generators(seed, CPU)
            network = self._make_network(self.vocab_size, **self._architecture)
        return network.to(self.device).eval()

    @property
    def flops_per_token(self) -> float:
        """Floating-point operations per token in matrix products, as the mean over the first 64 tokens of a text."""
        self.require_fitted()
        return flops_per_token(self.network, n_tokens=64)

    def initial_state(self) -> NeuralState:
        return self._read(np.array([EOT]), self.network.initial_state(1))

    def advance(self, state: NeuralState, token_id: int) -> NeuralState:
        network_state, hidden = self._read_one_each([token_id], state.network_state)
        return NeuralState(network_state, hidden[0])

    def state_after(self, context: NDArray[np.int32]) -> NeuralState:
        state = self.initial_state()
        for start in range(0, len(context), _CHUNK_SIZE):
            state = self._read(context[start : start + _CHUNK_SIZE], state.network_state)
        return state

    def states_after(self, contexts: Sequence[NDArray[np.int32]]) -> Sequence[NeuralState]:
        if len(contexts) < 2:
            return super().states_after(contexts)
        states: dict[int, NeuralState] = {}
        for group in of_similar_length(contexts):
            states |= zip(group, self._read_together([contexts[index] for index in group]), strict=True)
        return [states[index] for index in range(len(contexts))]

    @torch.inference_mode()
    def _read_together(self, contexts: Sequence[NDArray[np.int32]]) -> NeuralStates:
        """Reads B contexts in one batch, padded on the left with EOT, at which networks reset."""
        width = 1 + max(map(len, contexts))
        inputs = np.full((len(contexts), width), EOT, np.int64)
        for row, context in zip(inputs, contexts, strict=True):
            row[width - len(context) :] = context
        network_state, hidden = self.network.initial_state(len(contexts)), None
        for chunk in torch.from_numpy(inputs).to(self.device).split(_CHUNK_SIZE, dim=1):
            hidden, network_state = self.network(chunk, network_state)  # (B, T, D)
        assert hidden is not None
        return NeuralStates(network_state, hidden[:, -1])

    @torch.inference_mode()
    def _read(self, ids: NDArray[np.integer], network_state: State) -> NeuralState:
        """Runs the network on T ids (T,) of one sequence, from the given state, and returns the new state."""
        inputs = torch.from_numpy(ids.astype(np.int64))[None].to(self.device)  # (1, T)
        hidden, network_state = self.network(inputs, network_state)  # (1, T, D)
        return NeuralState(network_state, hidden[0, -1])

    def next_log_probs(self, state: NeuralState) -> NDArray[np.float64]:
        return self._log_probs(self._reader.logits(state.hidden), state.hidden)

    def advance_batch(self, states: Sequence[NeuralState], token_ids: Sequence[int]) -> Sequence[NeuralState]:
        if not states:
            return []
        return NeuralStates(*self._read_one_each(token_ids, self._as_batch(states).network_state))

    def next_log_probs_batch(self, states: Sequence[NeuralState]) -> NDArray[np.float64]:
        if not len(states):
            return super().next_log_probs_batch(states)
        hidden = states.hidden if isinstance(states, NeuralStates) else torch.stack([hidden for _, hidden in states])
        return self._log_probs(self._reader.logits_batch(hidden, threshold=self.kernel_threshold), hidden)

    @torch.inference_mode()
    def _read_one_each(self, token_ids: Sequence[int], network_state: State) -> tuple[State, Tensor]:
        """Reads one token of each of B sequences: returns the new state of the network and the hidden vectors (B, D).

        `network_state` is the state of the network for the B sequences.
        """
        ids = np.array(token_ids, np.int64)
        if result := self._reader.read(ids, network_state, threshold=self.kernel_threshold):
            return result
        hidden, network_state = self.network(torch.from_numpy(ids)[:, None].to(self.device), network_state)  # (B, 1, D)
        return network_state, hidden[:, 0]

    @torch.inference_mode()
    def _log_probs(self, logits: NDArray[np.float32] | None, hidden: Tensor) -> NDArray[np.float64]:
        """Returns the log-probabilities (.., V) of the next token.

        `logits` (.., V) are those of the hidden vectors (.., D); None = torch computes them.
        """
        computed = self.network.logits(hidden).cpu() if logits is None else torch.from_numpy(logits)
        return computed.log_softmax(-1, dtype=torch.float64).numpy()

    def _as_batch(self, states: Sequence[NeuralState]) -> NeuralStates:
        """Returns the given states stored as one batch."""
        if isinstance(states, NeuralStates):
            return states
        if len(states) == 1:
            return NeuralStates(states[0].network_state, states[0].hidden[None])  # without a copy
        stacked = self.network.stack_states([network_state for network_state, _ in states])
        return NeuralStates(stacked, torch.stack([hidden for _, hidden in states]))

    @torch.inference_mode()
    def stream_log_probs(
        self, stream: TokenStream, positions: NDArray[np.intp] | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        wanted = stream.mask(positions)
        for read, hidden in hidden_vectors(self.network, stream):
            rows = np.flatnonzero(wanted[read])
            if len(rows) < len(read):
                hidden = hidden[torch.from_numpy(rows).to(self.device)]
            for start, stop, logits in logits_in_blocks(self.network, hidden, self.block_bounds(len(rows))):
                yield read[rows[start:stop]], logits.log_softmax(-1).cpu().numpy()

    def log_probs(self, ids: ArrayLike | TokenStream) -> NDArray[np.float64]:
        return observed_log_probs(self.network, self.checked_stream(ids))

    def arrays(self) -> dict[str, NDArray[Any]]:
        # `named_parameters` has tied weights once; the buffers of a network hold only computed constants.
        return {name: _as_array(parameter) for name, parameter in self.network.named_parameters()}

    def load_arrays(self, arrays: Arrays) -> Self:
        check_sizes(lambda: self._make_network(self.vocab_size, **self._architecture), arrays)
        with NoInitialWeights():
            network = self.fresh_network(0)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                array = take_array(arrays, name, shape=tuple(parameter.shape), dtype=np.float32)
                if not np.isfinite(array).all():
                    raise SavedModelError(f"the saved array '{name}' holds NaN or infinity: it is damaged")
                parameter.copy_(torch.from_numpy(np.array(array)))
        self.network, self.fitted = network, True
        return self


def _as_array(parameter: Tensor) -> NDArray[Any]:
    return parameter.detach().cpu().numpy()


def _documents_of(stream: TokenStream, group: ProcessGroup) -> TokenStream:
    """Returns the documents of a token stream that this process scores, if several processes share the scoring."""
    if group.size == 1:
        return stream
    return TokenStream(np.concatenate([np.empty(0, np.int32), *list(stream.documents())[group.rank :: group.size]]))
