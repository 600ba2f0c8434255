"""Speed of the neural species next to plain torch, and how far they come in a minute.

    python benchmarks/neural.py --part speed
    python benchmarks/neural.py --part loss-60          # LMZOO_DATA: a folder with tinyshakespeare.txt

Training: ids a second in whole steps (rows, loss, gradients, AdamW) at the defaults of each species, next to
torch.nn.LSTM and torch.nn.TransformerEncoder of equal architecture in the loop that a tutorial would write: float32,
all logits, AdamW. Generation: ids a second, one at a time. What is compared takes turns, and the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
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
WINDOW = 256

LOSS_TRAINING = {"batch_size": 32, "chunk_size": 64, "optimizer": "muon", "learning_rate": 1e-2}
LOSS_SETTINGS: dict[float, dict[str, Any]] = {
    60: {"n_layers": 2, "ngrams": 7, "n_slots": 32_768, "ngram_dropout": 0.3},
}
"""By seconds of training."""


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


def tiny_shakespeare() -> tuple[TokenStream, TokenStream, int]:
    """Characters of the first 90 % and of the rest (nanoGPT's split), one document each, and the vocabulary size."""
    text = (Path(os.environ["LMZOO_DATA"]) / "tinyshakespeare.txt").read_text(encoding="utf-8")
    characters, ids = np.unique(np.array(list(text)), return_inverse=True)
    cut = int(0.9 * len(ids))
    train, valid = (TokenStream.from_documents([part + 1]) for part in (ids[:cut], ids[cut:]))
    return train, valid, len(characters) + 1


@torch.inference_mode()
def nats_in_disjoint_windows(model: NeuralLM, stream: TokenStream) -> float:
    """Mean nats per character where nothing is seen beyond the start of a window of WINDOW, as nanoGPT counts."""
    ids = torch.from_numpy(stream.ids[:-1].astype(np.int64))  # without EOT
    n = (len(ids) - 1) // WINDOW
    inputs, targets = (part[: n * WINDOW].view(n, WINDOW) for part in (ids[:-1], ids[1:]))
    nats = []
    for rows, wanted in zip(inputs.split(32), targets.split(32), strict=True):
        hidden, _ = model.network(rows, model.network.initial_memory(len(rows)))
        nats.append(model.network.surprisals(hidden.flatten(0, 1), wanted.flatten()))
    return float(torch.cat(nats).mean())


def loss_after(seconds: float) -> dict[str, Any]:
    """Tiny shakespeare: nats per character on the validation part after so many seconds of training.

    The settings were chosen on the last tenth of the training part, never on this validation part.
    """
    train, valid, vocab_size = tiny_shakespeare()
    training = {**LOSS_TRAINING, "tokens": 10**9, "seconds": seconds}
    model: Any = zoo.create("transformer", vocab_size, **LOSS_SETTINGS[seconds], training=training)
    # The weights of the end are kept: they are evaluated once, on a text that plays no part in the figure.
    model.fit(TrainingData(train, TokenStream.from_documents([train.ids[:1000]])))
    exact = -float(model.log_probs(valid)[:-1].mean())
    disjoint = nats_in_disjoint_windows(model, valid)
    print(f"{seconds:g} s: {disjoint:.4f} nats/char in disjoint windows of {WINDOW}, {exact:.4f} in exact windows")
    return {"tinyshakespeare_nats": {f"{seconds:g}": round(disjoint, 4)}, "exact_windows": round(exact, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the neural species, and how far they come in a minute.")
    parser.add_argument("--part", choices=["speed", *(f"loss-{seconds}" for seconds in LOSS_SETTINGS)], default="speed")
    part = parser.parse_args().part
    print(json.dumps(speed() if part == "speed" else loss_after(int(part.removeprefix("loss-")))))


def speed() -> dict[str, Any]:
    """Training and generation, as a table and as figures."""
    training, generation = training_speed(), generation_speed()
    print(f"{torch.get_num_threads()} threads, V = {VOCAB_SIZE}, torch {torch.__version__}\n")
    print(f"{'ids a second':30}{'training':>12}{'generation':>12}")
    for name, rate in training.items():
        generated = f"{generation[name]:12,.0f}" if name in generation else ""
        print(f"{name:30}{rate:12,.0f}{generated}")
    return {
        "training_ids_per_second": {name: round(rate) for name, rate in training.items()},
        "generation_ids_per_second": {name: round(rate) for name, rate in generation.items()},
        "lstm_over_torch": round(training["lstm"] / training["torch.nn.LSTM"], 2),
        "transformer_over_torch": round(training["transformer"] / training["torch.nn.TransformerEncoder"], 2),
    }


if __name__ == "__main__":
    main()
