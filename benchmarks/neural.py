"""Speed of the neural species next to plain torch.

    python benchmarks/neural.py --part speed

Training: ids a second in whole steps (rows, loss, gradients, AdamW) at the defaults of each species, next to
torch.nn.LSTM and torch.nn.TransformerEncoder of equal architecture in the loop that a tutorial would write: float32,
all logits, AdamW. Generation: ids a second, one at a time. What is compared takes turns, and the median counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo import zoo
from lmzoo.generate import generate
from lmzoo.neural.losses import next_token_loss
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.train import Training
from lmzoo.stream import TokenStream, TrainingData

VOCAB_SIZE = 4096
SPECIES = ("nplm", "rnn", "lstm", "gru", "transformer")
DOCUMENT = 900  # ids in a document: a chapter of the King James Bible
ROUNDS, STEPS = 5, 8
GENERATED = 300


class TorchLSTM(nn.Module):
    """As `lstm`: tied embedding, one layer, projection."""

    def __init__(self, d_embed: int, d_hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, d_embed)
        self.lstm = nn.LSTM(d_embed, d_hidden, batch_first=True)
        self.projection = nn.Linear(d_hidden, d_embed)
        self.head = nn.Linear(d_embed, VOCAB_SIZE)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.projection(self.lstm(self.embedding(ids))[0]))


class TorchDecoder(nn.Module):
    """As `transformer`, with causal attention inside a chunk instead of an exact window."""

    def __init__(self, d_model: int, n_layers: int, n_heads: int, chunk_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, d_model)
        self.positions = nn.Parameter(torch.zeros(chunk_size, d_model))
        layer = nn.TransformerEncoderLayer(
            d_model, n_heads, 4 * d_model, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        self.head = nn.Linear(d_model, VOCAB_SIZE)
        self.head.weight = self.embedding.weight
        self.mask = nn.Transformer.generate_square_subsequent_mask(chunk_size)

    def forward(self, ids: Tensor) -> Tensor:
        size = ids.shape[1]
        x = self.embedding(ids) + self.positions[:size]
        return self.head(self.blocks(x, mask=self.mask[:size, :size], is_causal=True))


def text(n_ids: int) -> TokenStream:
    """Documents of random ids."""
    rng = np.random.default_rng(0)
    return TokenStream.from_documents(rng.integers(1, VOCAB_SIZE, DOCUMENT - 1) for _ in range(-(-n_ids // DOCUMENT)))


def lmzoo_steps(name: str) -> tuple[Callable[[], None], TrainConfig]:
    """One training step of a species at its defaults."""
    model = zoo.create(name, VOCAB_SIZE)
    assert isinstance(model, NeuralLM)
    run = Training(
        model.fresh_network(0), text(200_000), model.training,
        loss=next_token_loss, evaluate=lambda: 0.0, evaluation_tokens=1, seed=0,
    )  # fmt: skip
    return run.step, model.training


def torch_steps(network: nn.Module, config: TrainConfig) -> Callable[[], None]:
    """One training step of a plain loop over chunks of the same size."""
    optimizer = torch.optim.AdamW(network.parameters())
    ids = torch.from_numpy(text(200_000).ids.astype(np.int64))
    starts = iter(range(0, len(ids), config.batch_size * config.chunk_size))

    def step() -> None:
        start = next(starts)
        chunk = ids[start : start + config.batch_size * config.chunk_size + 1]
        inputs, targets = (part.view(config.batch_size, config.chunk_size) for part in (chunk[:-1], chunk[1:]))
        loss = F.cross_entropy(network(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def medians(steps: dict[str, tuple[Callable[[], None], int]]) -> dict[str, float]:
    """Ids a second of each, the median of rounds in which all take turns."""
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(ROUNDS + 1):
        for name, (step, n_ids) in steps.items():
            started = time.perf_counter()
            for _ in range(STEPS):
                step()
            if turn:  # the first one warms up
                rates[name].append(STEPS * n_ids / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def training_speed() -> dict[str, float]:
    """Trained ids a second, by name."""
    steps, configs = {}, {}
    for name in SPECIES:
        step, configs[name] = lmzoo_steps(name)
        steps[name] = step, configs[name].batch_size * configs[name].chunk_size
    lstm, decoder = zoo.defaults("lstm"), zoo.defaults("transformer")
    peers = {
        "torch.nn.LSTM": (TorchLSTM(lstm["d_embed"], lstm["d_hidden"]), configs["lstm"]),
        "torch.nn.TransformerEncoder": (
            TorchDecoder(
                decoder["d_model"], decoder["n_layers"], decoder["n_heads"], configs["transformer"].chunk_size
            ),
            configs["transformer"],
        ),
    }
    for name, (network, config) in peers.items():
        steps[name] = torch_steps(network, config), config.batch_size * config.chunk_size
    return medians(steps)


def generation_speed() -> dict[str, float]:
    """Generated ids a second, by name."""
    data = TrainingData(text(1000), text(1000))

    def endless(model: NeuralLM) -> Iterator[int]:
        while True:
            yield from generate(model, rng=np.random.default_rng(0))

    rates = {}
    for name in SPECIES:
        model: Any = zoo.create(name, VOCAB_SIZE, training={"tokens": 0}).fit(data)
        ids = endless(model)
        list(islice(ids, 20))
        started = time.perf_counter()
        list(islice(ids, GENERATED))
        rates[name] = GENERATED / (time.perf_counter() - started)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["speed"], default="speed")
    parser.parse_args()
    training, generation = training_speed(), generation_speed()
    print(f"{torch.get_num_threads()} threads, V = {VOCAB_SIZE}, torch {torch.__version__}\n")
    print(f"{'ids a second':30}{'training':>12}{'generation':>12}")
    for name, rate in training.items():
        generated = f"{generation[name]:12,.0f}" if name in generation else ""
        print(f"{name:30}{rate:12,.0f}{generated}")
    figures = {
        "training_ids_per_second": {name: round(rate) for name, rate in training.items()},
        "generation_ids_per_second": {name: round(rate) for name, rate in generation.items()},
        "lstm_over_torch": round(training["lstm"] / training["torch.nn.LSTM"], 2),
        "transformer_over_torch": round(training["transformer"] / training["torch.nn.TransformerEncoder"], 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
