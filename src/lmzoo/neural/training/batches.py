"""Batches: what a network reads in each training step."""

from __future__ import annotations

from typing import Protocol, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from lmzoo.arrays import Arrays
from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Network
from lmzoo.neural.objectives.next_token import Chunk
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import TokenStream

Batch = TypeVar("Batch")


class Batches(Protocol[Batch]):
    """The source of the batches of a training run, such as a text that is read in chunks.

    Several processes each have batches of their own, and take each step at the same time.
    """

    def batch(self, step: int, network: Network) -> Batch:
        """Returns the batch of a training step, with its tensors on the device of the network.

        The batch may depend only on the settings, the data, the seed, the number of the step, and, if the network
        generates its own training text, on the weights.
        """
        ...

    def n_tokens(self, batch: Batch) -> int:
        """Returns the number of tokens of a batch that count towards the training budget."""
        ...

    def arrays(self) -> Arrays:
        """Returns the arrays that a checkpoint must store to restore the batches; {} if nothing need be stored."""
        ...

    def load_arrays(self, arrays: Arrays) -> None:
        """Restores the batches from the arrays of a checkpoint."""
        ...


@final
class StreamBatches(Batches[Chunk]):
    """The batches of a training text, which is read as B long sequences, chunk by chunk.

    In each epoch the documents are shuffled and joined, the result is rotated by a random number of ids and cut into B
    sequences of equal length L. So no id is padding, and a text of one long document fills all sequences too. A text
    too short for B chunks is repeated. A sequence starts somewhere in a document, with the initial state. `rows` is the
    part of the B sequences that this process reads. `weights` (T,) holds the weight of each of the T ids of the stream
    as a target, at least 0; None = weight 1. Raises ConfigurationError for other weights.
    """

    def __init__(
        self,
        stream: TokenStream,
        config: TrainConfig,
        seed: int,
        rows: slice = slice(None),
        weights: NDArray[np.floating] | None = None,
    ) -> None:
        if weights is not None:
            _check_weights(weights, len(stream))
        self._stream, self._config, self._seed, self._rows = stream, config, seed, rows
        self._weights, self._previous_ids = weights, stream.previous_ids()
        length, self.n_chunks = _shape(len(stream), config)
        self._shape = config.batch_size, length
        # All chunks have the same size, or differ by one: a short last one would be a step with a noisy gradient.
        self._bounds = [length * chunk // self.n_chunks for chunk in range(self.n_chunks + 1)]
        self._epoch = -1

    def batch(self, step: int, network: Network) -> Chunk:
        epoch, chunk = divmod(step, self.n_chunks)
        if epoch != self._epoch:
            self._arrange(epoch)
        positions = self._positions[:, self._bounds[chunk] : self._bounds[chunk + 1]]
        inputs, targets = (
            torch.from_numpy(ids[positions].astype(np.int64)).to(network.device)
            for ids in (self._previous_ids, self._stream.ids)
        )
        resets = None
        if self._config.reset_rate:
            # Drawn for the whole batch, so that the same sequences are reset however many processes share it.
            draws = np.random.default_rng([self._seed, step]).random(self._config.batch_size)
            resets = torch.from_numpy(draws < self._config.reset_rate)[self._rows].to(network.device)
        weights = None
        if self._weights is not None:
            weights = torch.from_numpy(self._weights[positions].astype(np.float32)).to(network.device)
        return Chunk(inputs, targets, chunk == 0, resets, weights, torch.from_numpy(positions).to(network.device))

    def n_tokens(self, batch: Chunk) -> int:
        return batch.targets.numel()

    def arrays(self) -> Arrays:
        return {}

    def load_arrays(self, arrays: Arrays) -> None:
        """Does nothing, as all batches can be computed from the text, the seed and the number of the step."""

    def _arrange(self, epoch: int) -> None:
        """Arranges the documents for an epoch: sets the positions (B, L), in the text, of B sequences of length L."""
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(self._stream.n_documents)
        starts, ends = self._stream.starts[order], self._stream.ends[order]
        sizes = ends - starts
        positions = np.arange(len(self._stream)) + np.repeat(ends - np.cumsum(sizes), sizes)
        positions = np.resize(np.roll(positions, rng.integers(len(positions))), self._shape)  # (B, L), repeats to fill
        self._positions: NDArray[np.int64] = np.ascontiguousarray(positions[self._rows], np.int64)
        self._epoch = epoch


def _check_weights(weights: NDArray[np.floating], n_ids: int) -> None:
    """Raises ConfigurationError unless `weights` has one finite weight of at least 0 for each of `n_ids` ids."""
    if weights.shape != (n_ids,):
        raise ConfigurationError(f"weights must have one number for each of {n_ids} ids, got shape {weights.shape}")
    wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
    if len(wrong):
        raise ConfigurationError(f"weights must be finite numbers of at least 0, got {wrong[0]}")
    if not weights.any():
        raise ConfigurationError("all weights are 0, so there is nothing to learn: give some ids a weight above 0")


def widest_chunk(n_ids: int, config: TrainConfig) -> int:
    """Returns the number of ids per sequence in the longest chunk (batch) that is cut from a text of `n_ids` ids."""
    length, n_chunks = _shape(n_ids, config)
    return -(-length // n_chunks)


def _shape(n_ids: int, config: TrainConfig) -> tuple[int, int]:
    """Returns the length of the sequences into which a training text is cut, and the number of chunks in each sequence.

    There are `config.batch_size` sequences. A chunk is the part of a sequence that is read in one training step; it has
    about `config.chunk_size` tokens. `n_ids` is the number of tokens of the text.
    """
    length = max(config.chunk_size, -(-n_ids // config.batch_size))
    return length, round(length / config.chunk_size)
