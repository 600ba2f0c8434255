"""The speed of training steps and of generation next to peers of equal architecture; used by `benchmarks/neural.py`."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmzoo import zoo
from lmzoo.generation import generate
from lmzoo.stream import TokenStream, TrainingData
from neural_training import (
    EXAMPLES_CHUNKS,
    EXAMPLES_LSTM,
    N_CHARACTERS,
    N_WORDS,
    SAMPLED_CHUNKS,
    Contestant,
    Step,
    gpt2_step,
    layer_step,
    nanogpt_step,
    species_step,
    torch_lstm_step,
    word_language_model_step,
)

ROUNDS, STEPS = 5, 6
GENERATED = 200
WINDOW = 256
SENTENCE = 25
"""Number of words in a document of random words."""


def medians(contestants: dict[str, Contestant]) -> dict[str, float]:
    """Measures the ids per second of each training step, as the median over rounds in which all take turns."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(ROUNDS + 1):
        for name, (step, n_ids) in contestants.items():
            started = time.perf_counter()
            for _ in range(STEPS):
                step()
            if turn:  # the first one warms up
                rates[name].append(STEPS * n_ids / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def speedup(
    figures: dict[str, Any], key: str, what: str, ours: Contestant, peer: str, theirs: Contestant | str
) -> float:
    """Measures the speed of lmzoo and of a peer, prints both, and returns the ids per second of lmzoo.

    The ratio is stored in `figures` under `key`. If the peer is missing, `theirs` is the reason as a text.
    """
    contestants = {"lmzoo": ours} | ({} if isinstance(theirs, str) else {peer: theirs})
    rates = medians(contestants)
    if isinstance(theirs, str):
        print(f"{what:34}{rates['lmzoo']:12,.0f}   {peer} skipped: {theirs}", flush=True)
    else:
        figures[key] = round(rates["lmzoo"] / rates[peer], 2)
        print(f"{what:34}{rates['lmzoo']:12,.0f}{rates[peer]:12,.0f}{figures[key]:8.2f}   {peer}", flush=True)
    return rates["lmzoo"]


def generation_rates() -> tuple[dict[str, float], str]:
    """Measures the ids per second that lmzoo's GPT-2 and that of transformers generate, one at a time, in turns.

    Returns the rates by library, and the reason if transformers is missing.
    """
    stream = TokenStream.from_documents([np.random.default_rng(0).integers(1, N_CHARACTERS, 1000)])
    settings = {"d_model": 128, "n_layers": 4, "n_heads": 4, "window": WINDOW}
    model = zoo.create("gpt2", N_CHARACTERS + 1, **settings, training={"tokens": 0})
    model.fit(TrainingData(stream, stream))

    def endless() -> Iterator[int]:
        for seed in itertools.count():
            yield from (token.token_id for token in generate(model, rng=seed))

    ids = endless()
    runs: dict[str, Step] = {"lmzoo": lambda: list(islice(ids, GENERATED)) and None}
    reason = ""
    try:
        import transformers
    except ImportError:
        reason = 'pip install "lmzoo[hf]"'
    else:
        config = transformers.GPT2Config(
            vocab_size=N_CHARACTERS + 1, n_positions=WINDOW, n_embd=128, n_layer=4, n_head=4, bos_token_id=0,
            eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        theirs = transformers.GPT2LMHeadModel(config).eval()

        @torch.inference_mode()
        def generate_theirs() -> None:
            theirs.generate(torch.tensor([[1]]), max_new_tokens=GENERATED, do_sample=True, top_k=0)

        runs["transformers"] = generate_theirs
    return medians({name: Contestant(run, GENERATED) for name, run in runs.items()}), reason


def speed(nanogpt: Path | None, examples: Path | None) -> dict[str, Any]:
    """Measures training and generation next to peers of equal architecture, and returns the ratios by name."""
    figures: dict[str, Any] = {}
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print(f"{'ids a second':34}{'lmzoo':>12}{'peer':>12}{'ratio':>8}")
    for width in (128, 256):
        theirs = nanogpt_step(nanogpt, width, 16, 128) if nanogpt else "--nanogpt was not given"
        key = f"decoder_{width}_speedup"
        speedup(figures, key, f"decoder, 4 layers of {width}", gpt2_step(width, 16, 128), "nanoGPT", theirs)
    rate = medians({"lmzoo": gpt2_step(512, 16, 128)})["lmzoo"]
    flops = 4 * (6 * 12 * 512**2 + 6 * 2 * 128 * 512)  # a token: 6 a parameter, and 6 T D for each product of attention
    figures["decoder_512_gflops"] = round(rate * flops / 1e9)
    print(f"{'decoder, 4 layers of 512':34}{rate:12,.0f}   {figures['decoder_512_gflops']} GFLOP/s")
    speedup(
        figures, "lstm_speedup", "LSTM layer of 512",
        layer_step(512, 32, 64), "torch.nn.LSTM", torch_lstm_step(512, 32, 64),
    )  # fmt: skip
    theirs = word_language_model_step(examples, 200, 20, 35) if examples else "--examples was not given"
    what = f"LSTM 2 x 200, {N_WORDS:,} words"
    for key, name, training in (
        ("lstm_words_exact_speedup", what, EXAMPLES_CHUNKS),
        ("lstm_words_speedup", f"{what}, sampled", SAMPLED_CHUNKS),
    ):
        ours = species_step("lstm", N_WORDS, SENTENCE, **EXAMPLES_LSTM, training=training)
        speedup(figures, key, name, ours, "pytorch/examples", theirs)
    rates, reason = generation_rates()
    if reason:
        print(f"{'generation, decoder of 4 x 128':34}{rates['lmzoo']:12,.0f}   transformers skipped: {reason}")
    else:
        figures["generation_speedup"] = round(rates["lmzoo"] / rates["transformers"], 2)
        print(
            f"{'generation, decoder of 4 x 128':34}{rates['lmzoo']:12,.0f}{rates['transformers']:12,.0f}"
            f"{figures['generation_speedup']:8.2f}   transformers"
        )
    return figures
