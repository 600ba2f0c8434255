"""Training steps of lmzoo and of its peers, for the benchmark of neural networks, `benchmarks/neural.py`."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo import zoo
from lmzoo.language_model import Progress
from lmzoo.models.recurrent import Layer
from lmzoo.neural.devices import CPU, autocast
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.next_token import next_token
from lmzoo.neural.objectives.sampled import SampledSoftmax
from lmzoo.neural.training.batches import StreamBatches
from lmzoo.neural.training.compiling import compiled_blocks
from lmzoo.neural.training.loop import Training
from lmzoo.stream import TokenStream

N_CHARACTERS, N_WORDS = 65, 16_384
EXAMPLES_LSTM = {"d_embed": 200, "d_hidden": 200, "n_layers": 2, "dropout": 0.2}
EXAMPLES_CHUNKS = {"batch_size": 20, "chunk_size": 35}
SAMPLED_CHUNKS = {"batch_size": 64, "chunk_size": 35, "sampled_softmax": 2000}

Step = Callable[[], None]


class Contestant(NamedTuple):
    """A training step, and the number of ids it learns from."""

    step: Step
    n_ids: int


# ---- What lmzoo does --------------------------------------------------------------------------------


def species_step(
    name: str, vocab_size: int, document: int, *, compiled: ExitStack | None = None, **settings: Any
) -> Contestant:
    """Creates a training step of one of lmzoo's networks on documents of random ids.

    With `compiled`, the blocks of the network are compiled until this stack is closed.
    """
    rng = np.random.default_rng(0)
    stream = TokenStream.from_documents(rng.integers(1, vocab_size, document) for _ in range(400_000 // document))
    model = zoo.create(name, vocab_size, **settings)
    assert isinstance(model, NeuralLM)
    config = model.training
    n_sampled = config.sampled_softmax
    objective = SampledSoftmax(torch.full((vocab_size,), 1 / vocab_size), n_sampled) if n_sampled else next_token
    network = model.fresh_network(0)
    if compiled:
        compiled.enter_context(compiled_blocks(network))
    run = Training(
        network, StreamBatches(stream, config, seed=0), config, objective=objective,
        evaluate=lambda: 0.0, evaluation_tokens=1, seed=0,
    )  # fmt: skip
    return Contestant(run.step, config.batch_size * config.chunk_size)


def gpt2_step(width: int, batch_size: int, window: int) -> Contestant:
    training = {"batch_size": batch_size, "chunk_size": window}
    settings = {"d_model": width, "n_layers": 4, "n_heads": 4, "window": window}
    return species_step("gpt2", N_CHARACTERS + 1, 100_000, **settings, training=training)


def layer_step(width: int, batch_size: int, n_steps: int) -> Contestant:
    """Creates a training step of a single LSTM layer of lmzoo."""
    layer = Layer("lstm", width, width)
    x, starts = torch.randn(n_steps, batch_size, width), torch.zeros(n_steps, batch_size, dtype=torch.bool)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(None):
            outputs, _ = layer(x, starts, (torch.zeros(batch_size, width),) * 2, 0.0)
        outputs.square().mean().backward()
        optimizer.step()

    return Contestant(step, batch_size * n_steps)


# ---- What peers do ----------------------------------------------------------------------------------


def module_from(path: Path) -> ModuleType:
    """Imports a Python file of a checked-out repository as a module."""
    name = "_".join(path.with_suffix("").parts[-2:])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nanogpt_step(
    checkout: Path,
    width: int,
    batch_size: int,
    window: int,
    *,
    n_layers: int = 4,
    n_heads: int = 4,
    vocab_size: int = N_CHARACTERS,
    device: torch.device = CPU,
    bf16: bool = False,
    compiled: bool = False,
) -> Contestant:
    """Creates a training step of nanoGPT, as in its train.py: random windows, AdamW, clipped gradients.

    The step ends when the device has finished it.
    """
    nanogpt = module_from(checkout / "model.py")
    config = nanogpt.GPTConfig(
        block_size=window,
        vocab_size=vocab_size,
        n_layer=n_layers,
        n_head=n_heads,
        n_embd=width,
        dropout=0.0,
        bias=False,
    )
    model = nanogpt.GPT(config).to(device)
    optimizer = model.configure_optimizers(1e-1, 1e-3, (0.9, 0.99), device.type)
    model = torch.compile(model) if compiled else model
    data = torch.randint(vocab_size, (100_000,))

    def step() -> None:
        places = torch.randint(len(data) - window, (batch_size,))
        x, y = (torch.stack([data[i + shift : i + shift + window] for i in places]) for shift in (0, 1))
        if device.type == "cuda":
            x, y = (part.pin_memory().to(device, non_blocking=True) for part in (x, y))
        with autocast(bf16, device):
            _, loss = model(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return Contestant(step, batch_size * window)


def word_language_model_step(checkout: Path, width: int, batch_size: int, n_steps: int) -> Contestant:
    """Creates a training step of the two-layer LSTM of pytorch/examples on random words."""
    examples = module_from(checkout / "word_language_model" / "model.py")
    return examples_step(
        examples.RNNModel("LSTM", N_WORDS, width, width, 2, 0.2, False),
        torch.randint(N_WORDS, (100_000, batch_size)),
        n_steps,
    )


def examples_step(model: Any, data: Tensor, n_steps: int) -> Contestant:
    """Creates a training step of a model of pytorch/examples, as in its main.py, by plain gradient descent.

    `data` (L, B) holds L ids of B sequences, which are read in chunks of `n_steps`.
    """
    batch_size = data.shape[1]
    model.train()
    hidden = model.init_hidden(batch_size)
    starts = itertools.cycle(range(0, len(data) - n_steps - 1, n_steps))

    def step() -> None:
        nonlocal hidden
        start = next(starts)
        hidden = tuple(part.detach() for part in hidden)
        model.zero_grad()
        output, hidden = model(data[start : start + n_steps], hidden)
        F.nll_loss(output, data[start + 1 : start + n_steps + 1].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for parameter in model.parameters():
            parameter.data.add_(parameter.grad, alpha=-20)

    return Contestant(step, batch_size * n_steps)


def torch_lstm_step(width: int, batch_size: int, n_steps: int) -> Contestant:
    layer = nn.LSTM(width, width)
    x = torch.randn(n_steps, batch_size, width)
    optimizer = torch.optim.AdamW(layer.parameters())

    def step() -> None:
        optimizer.zero_grad()
        layer(x)[0].square().mean().backward()
        optimizer.step()

    return Contestant(step, batch_size * n_steps)


def progress_line() -> Callable[[Progress], None]:
    """Returns a progress callback that prints twice a minute which part of training is done."""
    last = time.perf_counter()

    def on_progress(progress: Progress) -> None:
        nonlocal last
        if time.perf_counter() - last > 30:
            last = time.perf_counter()
            print(f"{progress.done / (progress.total or 1):6.1%}  {progress.message}", file=sys.stderr, flush=True)

    return on_progress
