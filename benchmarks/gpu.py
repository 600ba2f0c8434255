"""Tests and measures lmzoo's networks on a graphics card, next to nanoGPT on the same card.

    python benchmarks/gpu.py                                  # all tests and measurements on the first CUDA device
    python benchmarks/gpu.py --nanogpt DIR                    # also measures nanoGPT, from a checkout in DIR
    python benchmarks/gpu.py --device cpu --tiny              # shows only that the program works, in toy sizes
    python benchmarks/gpu.py --species lstm --part laws       # checks the laws of one network

The part "laws" checks the laws that every language model must obey, with `lmzoo.testing.check_language_model`, for each
network in its smallest preset. The part "speed" measures token ids per second, in the sizes of nanoGPT's configurations
train_shakespeare_char (6 layers of width 384) and train_gpt2 (12 layers of width 768). The ids are random.

- Training: whole steps (batch, loss, gradients, update) in bfloat16, without and with torch.compile. nanoGPT's model.py
  is imported unchanged, and its step is that of its train.py with bfloat16. lmzoo and nanoGPT take turns, and the
  median is reported.
- Prediction: scoring a text, generating one text, and generating 64 texts at a time, in float32, in which lmzoo always
  predicts.

All speeds include the time until the device has finished.

The program prints tables in Markdown and, as its last line, all figures as JSON. The exit status is 1 if a network
violates a law, else 0. If this machine lacks the device, one line says so, and the exit status is 0. Run nothing else
at the same time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lmzoo import zoo
from lmzoo.errors import ConfigurationError
from lmzoo.generation import generate, generate_batch
from lmzoo.neural.devices import find_device
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.stream import TokenStream
from lmzoo.system.placement import Device
from lmzoo.testing import check_language_model
from neural_speed import medians
from neural_training import Contestant, nanogpt_step, species_step

SPECIES = ("gpt2", "transformer")
AT_ONCE = 64
"""Number of texts that are generated together."""


class Size(NamedTuple):
    """The size of a decoder and of its batches."""

    n_layers: int
    width: int
    n_heads: int
    context: int
    batch_size: int
    vocab_size: int
    n_scored: int
    """Number of ids that are scored."""
    n_generated: int
    """Number of ids of each generated text."""

    def __str__(self) -> str:
        return f"{self.n_layers} x {self.width}, context {self.context}"


SIZES = (Size(6, 384, 6, 256, 64, 65, 200_000, 200), Size(12, 768, 12, 1024, 12, 50_304, 100_000, 200))
TINY = (Size(2, 16, 2, 8, 4, 65, 100, 3), Size(2, 32, 2, 16, 2, 65, 100, 3))


def laws(species: list[str], device: Device) -> dict[str, str]:
    """Checks the laws of each network; returns, by species, the first violation, or an empty text if there is none."""
    violations = {}
    for name in species:
        settings = zoo.presets(name).get("tiny", {})

        def make(vocab_size: int, name: str = name, settings: Any = settings) -> Any:
            return zoo.create(name, vocab_size, device=device, **settings)

        try:
            check_language_model(make, tolerance=zoo.card(name).tolerance)
        except Exception as error:  # a table of all networks is worth more than the first failure
            traceback.print_exc()
            violations[name] = next(iter(str(error).splitlines()), "") or type(error).__name__
        else:
            violations[name] = ""
        print(f"laws of {name}: {violations[name] or 'hold'}", file=sys.stderr, flush=True)
    return violations


def training_speeds(size: Size, device: Device, nanogpt: Path | None, *, compiled: bool) -> dict[str, float]:
    """Returns the ids per second in training steps of one size, by program."""
    settings = {
        "d_model": size.width, "n_layers": size.n_layers, "n_heads": size.n_heads, "window": size.context,
        "training": {"batch_size": size.batch_size, "chunk_size": size.context, "bf16": True},
    }  # fmt: skip
    rates = {}
    for name in SPECIES:
        with ExitStack() as stack:
            contexts = stack if compiled else None
            document = 10 * size.context
            ours = species_step(name, size.vocab_size, document, compiled=contexts, device=device, **settings)
            contestants: dict[str, Contestant] = {name: ours}
            if name == "gpt2" and nanogpt:
                contestants["nanoGPT"] = nanogpt_step(
                    nanogpt, size.width, size.batch_size, size.context, n_layers=size.n_layers, n_heads=size.n_heads,
                    vocab_size=size.vocab_size, device=find_device(device), bf16=True, compiled=compiled,
                )  # fmt: skip
            rates |= medians(contestants)
    return rates


def prediction_speeds(name: str, size: Size, device: Device) -> dict[str, float]:
    """Returns the ids per second that a network scores and generates, by activity."""
    sizes = {"d_model": size.width, "n_layers": size.n_layers, "n_heads": size.n_heads, "window": size.context}
    like = zoo.create(name, size.vocab_size, device=device, **sizes, training={"chunk_size": size.context})
    assert isinstance(like, NeuralLM)
    model = NeuralLM.of(like.fresh_network(0), like)
    rng = np.random.default_rng(0)
    document = 4 * size.context
    n_documents = -(-size.n_scored // document)
    stream = TokenStream.from_documents(rng.integers(1, size.vocab_size, (n_documents, document)))

    def endless() -> Iterator[int]:
        for seed in itertools.count():
            yield from (token.token_id for token in generate(model, rng=seed))

    def together() -> int:
        texts = generate_batch(model, [[]] * AT_ONCE, rng=0, max_tokens=size.n_generated, end_ids=())
        return sum(map(len, texts))

    ids = endless()
    activities = {
        "scored": lambda: len(model.log_probs(stream)),
        "generated": lambda: len(list(islice(ids, size.n_generated))),
        f"generated, {AT_ONCE} at a time": together,
    }
    rates = {}
    for activity, run in activities.items():
        run()  # warms up
        started = time.perf_counter()
        n_ids = run()
        rates[activity] = n_ids / (time.perf_counter() - started)
    return rates


def speeds(sizes: tuple[Size, ...], device: Device, nanogpt: Path | None, modes: list[str]) -> list[dict[str, Any]]:
    """Measures all speeds, and returns a row for each: program, size, what is done, and ids per second."""
    rows: list[dict[str, Any]] = []

    def add(program: str, size: Size, what: str, rate: float) -> None:
        rows.append({"program": program, "size": str(size), "what": what, "ids_per_second": round(rate, 1)})
        print(f"{program}, {size}, {what}: {rate:,.0f} ids per second", file=sys.stderr, flush=True)

    for size in sizes:
        for mode in modes:
            for program, rate in training_speeds(size, device, nanogpt, compiled=mode == "compiled").items():
                add(program, size, f"trained, bf16, {mode}", rate)
        for name in SPECIES:
            for activity, rate in prediction_speeds(name, size, device).items():
                add(name, size, activity, rate)
    return rows


def machine_facts(device: torch.device) -> dict[str, str]:
    """Returns the names and versions of the card, its driver, CUDA and torch; a CPU has no card and no driver."""
    facts = {"device": str(device), "torch": torch.__version__, "card": "none", "driver": "none", "cuda": "none"}
    if device.type == "cuda":
        facts |= {"card": torch.cuda.get_device_name(device), "driver": "unknown", "cuda": str(torch.version.cuda)}
        if shutil.which("nvidia-smi"):
            query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            facts["driver"] = next(
                iter(subprocess.run(query, capture_output=True, text=True).stdout.split()), "unknown"
            )
    return facts


def print_tables(figures: dict[str, Any]) -> None:
    """Prints all figures as tables in Markdown."""
    print(", ".join(f"{name}: {fact}" for name, fact in figures["machine"].items()))
    if figures["laws"]:
        print("\n| network | laws |\n|---|---|")
        for name, violation in figures["laws"].items():
            print(f"| {name} | {violation.replace('|', ' ') or 'hold'} |")
    if figures["speeds"]:
        print("\n| | what | ids per second |\n|---|---|--:|")
        for row in figures["speeds"]:
            print(f"| {row['program']}, {row['size']} | {row['what']} | {row['ids_per_second']:,.0f} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description="Tests and measures the networks of lmzoo on a graphics card.")
    parser.add_argument("--device", choices=["cuda", "mps", "cpu"], default="cuda")
    parser.add_argument("--part", choices=["all", "laws", "speed"], default="all")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    networks = [name for name in zoo.text_species() if zoo.is_network(name)]
    parser.add_argument("--species", nargs="+", choices=networks, help="networks whose laws are checked")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, which show only that the program works")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which needs a compiler")
    asked = parser.parse_args()
    try:
        device = find_device(asked.device)
    except ConfigurationError as error:
        print(f"nothing was measured: {error}")
        return
    figures: dict[str, Any] = {"machine": machine_facts(device), "laws": {}, "speeds": []}
    if asked.part != "speed":
        figures["laws"] = laws(asked.species or networks, asked.device)
    if asked.part != "laws":
        modes = ["eager"] if asked.no_compile else ["eager", "compiled"]
        figures["speeds"] = speeds(TINY if asked.tiny else SIZES, asked.device, asked.nanogpt, modes)
    print_tables(figures)
    print(json.dumps(figures))
    sys.exit(any(figures["laws"].values()))


if __name__ == "__main__":
    main()
