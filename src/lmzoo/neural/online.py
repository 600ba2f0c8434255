"""Online learning with replay (Bornschein, Li & Hutter 2023): a network learns a text while reading it once.

The text is cut into chunks. The network predicts some chunks, and then takes one training step on a batch of these new
chunks and, for each of them, three chunks from the text so far. So each part of the text is learned several times. Each
sequence of replayed chunks continues from batch to batch, and jumps to a random position from time to time.

J. Bornschein, Y. Li, M. Hutter, Sequential Learning of Neural Networks for Prequential MDL, ICLR 2023.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lmzoo.neural.devices import autocast, preserved_rng_state, seed_generators
from lmzoo.neural.network import State
from lmzoo.neural.objectives.next_token import Chunk, next_token
from lmzoo.neural.training.optimizers import Optimizers
from lmzoo.online_reader import OnlineReader
from lmzoo.stream import EOT, TrainingData

if TYPE_CHECKING:
    from lmzoo.neural.neural_lm import NeuralLM

_PER_NEW = 4
"""Number of sequences in a batch for each sequence of new text, including this one."""
_WARMUP_STEPS = 100
_CHUNKS = 32
"""Mean number of chunks that are replayed from one part of the text before a jump to another."""


@final
class OnlineNetworkReader(OnlineReader):
    """Reads a text with a new network, which is initialised with `seed`, and trains the network in between.

    The settings are those of `model.training`: a batch has `batch_size` sequences of `chunk_size` tokens, of which a
    quarter are new text. The learning rate is constant after a short warm-up. A step whose gradient is not finite
    leaves the network as it is. `finish` takes a last step on the new chunks that remain, and gives the network to
    `model`. The incomplete chunk at the end of the text is learned only if the text is shorter than one chunk.
    """

    def __init__(self, model: NeuralLM, seed: int) -> None:
        network, config = model.fresh_network(seed), model.training
        self._model, self._network, self._config, self._seed = model, network, config, seed
        self._optimizers, self._rng, self._n_steps = Optimizers(network, config), np.random.default_rng(seed), 0
        self._n_new = max(1, config.batch_size // _PER_NEW)
        # EOT and all tokens of the text: the token at index i is the input from which token i of the text is predicted.
        self._inputs, self._n_read = np.array([EOT], np.int64), 0
        self._present: State = network.initial_state(1)
        self._before: list[State] = []  # the state before each of the new chunks
        self._places = np.zeros(config.batch_size - self._n_new, np.int64)  # where the replayed sequences continue
        self._others = [self._present] * self._places.size  # and their states

    # ---- Predicting -----------------------------------------------------------------------------

    def read(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        rows, done, size = np.empty((ids.size, self._network.vocab_size)), 0, self._config.chunk_size
        while done < ids.size:
            if self._n_read % size == 0:
                self._before.append(self._present)
            n = min(ids.size - done, size - self._n_read % size)
            self._add(ids[done : done + n])
            rows[done : done + n] = self._predict(n)
            if self._n_read % (self._n_new * size) == 0:
                self._learn()
            done += n
        return rows

    def _add(self, ids: NDArray[np.int32]) -> None:
        """Adds tokens to the text."""
        self._n_read += ids.size
        if self._n_read >= self._inputs.size:
            self._inputs = np.resize(self._inputs, 2 * self._n_read)
        self._inputs[self._n_read + 1 - ids.size : self._n_read + 1] = ids

    @torch.no_grad()
    def _predict(self, n: int) -> NDArray[np.float64]:
        """Returns the predictions (n, V) of the last n tokens of the text, from the tokens before each of them."""
        inputs = torch.from_numpy(self._inputs[None, self._n_read - n : self._n_read]).to(self._network.device)
        hidden, self._present = self._network(inputs, self._present)  # (1, n, D)
        return self._network.logits(hidden[0]).cpu().double().log_softmax(-1).numpy()

    # ---- Learning -------------------------------------------------------------------------------

    def _learn(self) -> None:
        """Takes a training step on the new chunks and on replayed ones."""
        network, config = self._network, self._config
        chunk = self._next_chunk()
        state = network.stack_states([*self._before, *self._others])
        with preserved_rng_state(network.device):
            seed = np.random.SeedSequence([self._seed, self._n_steps])
            seed_generators(int(seed.generate_state(1)[0]), network.device)
            network.train()
            with autocast(config.bf16, network.device):
                step = next_token(network, chunk, state)
            network.zero_grad()
            (step.total / step.weight).backward()
            network.eval()
        self._n_steps += 1
        if nn.utils.clip_grad_norm_(network.parameters(), config.clip).isfinite():
            self._optimizers.step(config.learning_rate * min(1.0, self._n_steps / _WARMUP_STEPS))
            parts = [part.detach().split(1) for part in step.state]
            self._others = list(zip(*parts, strict=True))[len(self._before) :]
        else:  # the states may not be finite either
            self._others = [network.initial_state(1)] * self._places.size
        self._before.clear()

    def _next_chunk(self) -> Chunk:
        """Returns the next batch, and advances all replayed sequences by one chunk."""
        size, rng = min(self._config.chunk_size, self._n_read), self._rng
        moves = (self._places + size > self._n_read) | (rng.random(self._places.size) < 1 / _CHUNKS)
        for number in np.flatnonzero(moves):
            self._places[number] = rng.integers(0, self._n_read - size + 1)
            self._others[number] = self._network.initial_state(1)
        new = (self._n_read // size - np.arange(len(self._before), 0, -1)) * size
        positions = np.concatenate([new, self._places])[:, None] + np.arange(size)  # (B, T)
        self._places += size
        inputs, targets = (torch.from_numpy(self._inputs[positions + d]).to(self._network.device) for d in (0, 1))
        return Chunk(inputs, targets, at_start=False)

    def finish(self, data: TrainingData) -> None:
        model, size = self._model, self._config.chunk_size
        if self._n_read > size and self._n_read % size:
            self._before.pop()
        if self._before:
            self._learn()
        model.network, model.history, model.fitted = self._network, None, True
