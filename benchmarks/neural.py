"""The neural species next to nanoGPT, PyTorch's own examples, torch.nn and transformers: speed, and loss by time.

    python benchmarks/neural.py --part speed --nanogpt DIR --examples DIR
    python benchmarks/neural.py --part loss-60              # also loss-180, loss-450, loss-3600
    python benchmarks/neural.py --part words --species lstm
    python benchmarks/neural.py --part embedded --run DIR   # of lmzoo compare --budget standard --out DIR

DIR are checkouts of karpathy/nanoGPT and of pytorch/examples, whose models are imported as they are; `pip install
"lmzoo[hf]"` for the generation of transformers. Peers that are not there are skipped with a reason. LMZOO_DATA names a
folder with tinyshakespeare.txt; words are NLTK's Brown under the protocol of Bengio et al. (2003).

speed: ids a second in whole steps (rows, loss, gradients, update) of the same architecture in batches of the same size,
but for the sampled softmax, which takes 64 rows; what is compared takes turns, and the median counts. loss-N: nats per
character of nanoGPT's validation part of tiny shakespeare after N seconds of training, in consecutive windows of 256 as
nanoGPT sees it, beside what exact windows make of it, for networks mixed with an n-gram, and for each alone. words:
test perplexity. words-equal-time: that of the LSTM of pytorch/examples after as many seconds, here and there. embedded:
how much better the best network of a run is than the best n-gram, with an interval by bootstrap over documents. Run it
alone, as ratios are of times in one run.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor, nn
from torch.nn import functional as F

from lmzoo import zoo
from lmzoo.checkpoint import Checkpoint
from lmzoo.corpora import load_corpus
from lmzoo.corpora.encoded import EncodedCorpus, EncodedSplit, encode_corpus
from lmzoo.evaluation.records import read_records
from lmzoo.generation import generate
from lmzoo.language_model import LanguageModel, Progress
from lmzoo.models.mixture import MixtureModel
from lmzoo.models.recurrent import Layer
from lmzoo.neural.devices import autocast
from lmzoo.neural.losses import SampledLoss, next_token_loss
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.train import Training
from lmzoo.predictor import Predictor
from lmzoo.stream import TokenStream, TrainingData

N_CHARACTERS, N_WORDS = 65, 16_384
ROUNDS, STEPS = 5, 6
GENERATED = 200
WINDOW = 256
EXAMPLES_LSTM = {"d_embed": 200, "d_hidden": 200, "n_layers": 2, "dropout": 0.2}
EXAMPLES_CHUNKS = {"batch_size": 20, "chunk_size": 35}
SAMPLED_CHUNKS = {"batch_size": 64, "chunk_size": 35, "sampled": 2000}
EQUAL_SECONDS = 150
SENTENCE = 25  # words of a document of random ones

_LOSS_TRAINING = {
    "batch_size": 32, "chunk_size": 64, "optimizer": "muon", "learning_rate": 1e-2, "weight_decay": 0.1,
    "forget": 0.1, "averaging": 0.1, "final_rate": 0.2,
}  # fmt: skip
_TRANSFORMER = {"ngrams": 7, "n_slots": 32_768, "ngram_dropout": 0.5, "training": _LOSS_TRAINING}
_COUNTS = {"species": "ngram", "settings": {"order": 6}}
_THREE_LAYERS = {**_TRANSFORMER, "n_layers": 3, "dropout": 0.15, "ngram_dropout": 0.6}
LOSS: dict[float, list[tuple[float, str, dict[str, Any]]]] = {
    60: [(1.0, "transformer", {**_TRANSFORMER, "n_layers": 2})],
    180: [(1.0, "transformer", {**_TRANSFORMER, "n_layers": 3, "dropout": 0.1})],
    450: [(1.0, "transformer", _THREE_LAYERS)],
    3600: [
        (0.25, "transformer", _THREE_LAYERS),
        (0.42, "transformer", {
            "d_model": 192, "n_layers": 4, "n_heads": 6, "dropout": 0.2, "training": _LOSS_TRAINING
        }),
        (0.32, "lstm", {
            "d_embed": 64, "d_hidden": 384, "n_layers": 2, "dropout": 0.4,
            "training": {
                "batch_size": 32, "chunk_size": 100, "learning_rate": 3e-3, "weight_decay": 0.03, "forget": 0.05,
                "averaging": 0.1,
            },
        }),
    ],
}  # fmt: skip
"""By seconds of training: networks, each with its share of the time, which are mixed with an n-gram.

Chosen on the last tenth of the training part; the wider transformer and the LSTM of the hour are not tuned at all.
"""
SECONDS_FOR_COUNTS = 4.0
"""Of those seconds: for the n-gram and the weights of the mixture."""

_WORDS_TRAINING = {"batch_size": 32, "chunk_size": 35, "sampled": 2000, "forget": 0.01, "averaging": 0.1}
_RECURRENT = {
    "d_embed": 256, "d_hidden": 512, "dropout": 0.5, "variational": True, "weight_dropout": 0.3,
    "training": {**_WORDS_TRAINING, "tokens": 14_000_000, "learning_rate": 3e-3, "weight_decay": 0.03},
}  # fmt: skip
WORDS: dict[str, dict[str, Any]] = {
    "nplm": {
        "order": 5, "d_embed": 100, "d_hidden": 200, "dropout": 0.4,
        "training": {**_WORDS_TRAINING, "tokens": 10_000_000, "learning_rate": 3e-3, "weight_decay": 0.1},
    },
    # Without gates it diverges at that rate.
    "rnn": {**_RECURRENT, "training": {**_RECURRENT["training"], "learning_rate": 1e-3}},
    "lstm": _RECURRENT,
    "gru": _RECURRENT,
}  # fmt: skip
"""Settings by species."""

Step = Callable[[], None]


class Contestant(NamedTuple):
    """A training step and how many ids it learns from."""

    step: Step
    n_ids: int


# ---- What lmzoo does --------------------------------------------------------------------------------


def species_step(name: str, vocab_size: int, document: int, **settings: Any) -> Contestant:
    """One training step of a species on documents of random ids."""
    rng = np.random.default_rng(0)
    stream = TokenStream.from_documents(rng.integers(1, vocab_size, document) for _ in range(400_000 // document))
    model = zoo.create(name, vocab_size, **settings)
    assert isinstance(model, NeuralLM)
    config = model.training
    loss = SampledLoss(torch.full((vocab_size,), 1 / vocab_size), config.sampled) if config.sampled else next_token_loss
    run = Training(model.fresh_network(0), stream, config, loss=loss, evaluate=lambda: 0.0, evaluation_tokens=1, seed=0)
    return Contestant(run.step, config.batch_size * config.chunk_size)


def gpt2_step(width: int, batch_size: int, window: int) -> Contestant:
    training = {"batch_size": batch_size, "chunk_size": window}
    settings = {"d_model": width, "n_layers": 4, "n_heads": 4, "window": window}
    return species_step("gpt2", N_CHARACTERS + 1, 100_000, **settings, training=training)


def layer_step(width: int, batch_size: int, n_steps: int) -> Contestant:
    """An LSTM layer of lmzoo alone."""
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
    """A module of a checkout, as it is."""
    name = "_".join(path.with_suffix("").parts[-2:])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nanogpt_step(checkout: Path, width: int, batch_size: int, window: int) -> Contestant:
    """A step of its train.py on a processor: random windows, AdamW of its own making, clipped gradients."""
    nanogpt = module_from(checkout / "model.py")
    config = nanogpt.GPTConfig(
        block_size=window, vocab_size=N_CHARACTERS, n_layer=4, n_head=4, n_embd=width, dropout=0.0, bias=False
    )
    model = nanogpt.GPT(config)
    optimizer = model.configure_optimizers(1e-1, 1e-3, (0.9, 0.99), "cpu")
    data = torch.randint(N_CHARACTERS, (100_000,))

    def step() -> None:
        places = torch.randint(len(data) - window, (batch_size,))
        x, y = (torch.stack([data[i + shift : i + shift + window] for i in places]) for shift in (0, 1))
        _, loss = model(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return Contestant(step, batch_size * window)


def word_language_model_step(checkout: Path, width: int, batch_size: int, n_steps: int) -> Contestant:
    """The LSTM of two layers of pytorch/examples."""
    examples = module_from(checkout / "word_language_model" / "model.py")
    return examples_step(
        examples.RNNModel("LSTM", N_WORDS, width, width, 2, 0.2, False),
        torch.randint(N_WORDS, (100_000, batch_size)),
        n_steps,
    )


def examples_step(model: Any, data: Tensor, n_steps: int) -> Contestant:
    """A step of its main.py on ids (L, B): chunks of `n_steps`, all logits, plain gradient descent."""
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


# ---- Speed ------------------------------------------------------------------------------------------


def medians(contestants: dict[str, Contestant]) -> dict[str, float]:
    """Ids a second of each, the median of rounds in which all take turns."""
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
    """Measures both, prints a row, notes the ratio under `key`; a peer that is a text is why there is none."""
    contestants = {"lmzoo": ours} | ({} if isinstance(theirs, str) else {peer: theirs})
    rates = medians(contestants)
    if isinstance(theirs, str):
        print(f"{what:34}{rates['lmzoo']:12,.0f}   {peer} skipped: {theirs}", flush=True)
    else:
        figures[key] = round(rates["lmzoo"] / rates[peer], 2)
        print(f"{what:34}{rates['lmzoo']:12,.0f}{rates[peer]:12,.0f}{figures[key]:8.2f}   {peer}", flush=True)
    return rates["lmzoo"]


def generation_rates() -> tuple[dict[str, float], str]:
    """Ids a second, one at a time, of `gpt2` and of transformers' GPT-2 in turns; or why there is no peer."""
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
    """Training and generation next to the peers of equal architecture."""
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


# ---- Loss by time -----------------------------------------------------------------------------------


def tiny_shakespeare() -> tuple[TokenStream, TokenStream, int]:
    """Characters of the first 90 % and of the rest (nanoGPT's split), one document each, and the vocabulary size."""
    text = (Path(os.environ["LMZOO_DATA"]) / "tinyshakespeare.txt").read_text(encoding="utf-8")
    characters, ids = np.unique(np.array(list(text)), return_inverse=True)
    cut = int(0.9 * len(ids))
    train, valid = (TokenStream.from_documents([part + 1]) for part in (ids[:cut], ids[cut:]))
    return train, valid, len(characters) + 1


@torch.inference_mode()
def log_probs_in_windows(model: LanguageModel[Any], stream: TokenStream) -> NDArray[np.float64]:
    """(N,) in nats, where nothing is seen beyond the start of a window of WINDOW ids, as nanoGPT counts."""
    ids = stream.ids[:-1]  # without EOT
    n = (len(ids) - 1) // WINDOW
    inputs, targets = (part[: n * WINDOW].reshape(n, WINDOW) for part in (ids[:-1], ids[1:]))
    if isinstance(model, MixtureModel):
        members = [log_probs_in_windows(member, stream) for member in model.members.values()]
        return np.asarray(logsumexp(np.stack(members, axis=1) + np.log(model.weights), axis=1))
    if isinstance(model, NeuralLM):
        nats = []
        for rows, wanted in zip(as_tensor(inputs).split(32), as_tensor(targets).split(32), strict=True):
            hidden, _ = model.network(rows, model.network.initial_memory(len(rows)))
            nats.append(model.network.surprisals(hidden.flatten(0, 1), wanted.flatten()))
        # To others a window is a document; what they make of its first id and of its end does not count.
    windows = TokenStream.from_documents(np.column_stack([inputs, targets[:, -1:]]))
    return model.log_probs(windows).reshape(n, WINDOW + 2)[:, 1:-1].ravel()


def as_tensor(ids: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64))


def loss_after(seconds: float) -> dict[str, Any]:
    """Tiny shakespeare: nats per character on the validation part after so many seconds of training.

    The settings were chosen on the last tenth of the training part, never on this validation part. The weights of the
    mixture are learned on the first fiftieth of it, which no member learns from.
    """
    train, valid, vocab_size = tiny_shakespeare()
    members: list[Any] = [_COUNTS]
    for share, species, settings in LOSS[seconds]:
        training = {**settings["training"], "tokens": 10**9, "seconds": share * (seconds - SECONDS_FOR_COUNTS)}
        members.append({"species": species, "settings": {**settings, "training": training}})
    model = zoo.create("mixture", vocab_size, members=members)
    assert isinstance(model, MixtureModel)
    held_out, learned = np.split(train.ids[:-1], [len(train) // 50])
    data = TrainingData(*(TokenStream.from_documents([part]) for part in (learned, held_out)))
    started = time.perf_counter()
    model.fit(data, on_progress=progress_line())
    print(f"learned in {time.perf_counter() - started:.1f} s, with the weights of {len(members)} models\n")
    print(f"{'nats/char':16}{'windows of 256':>16}{'exact windows':>16}{'weight':>8}")
    figures: list[tuple[float, float]] = []
    rows = [*zip(model.members, model.members.values(), model.weights, strict=True), ("mixture", model, 1.0)]
    for name, one, weight in rows:
        figures.append((-log_probs_in_windows(one, valid).mean(), -one.log_probs(valid)[:-1].mean()))
        print(f"{name:16}{figures[-1][0]:16.4f}{figures[-1][1]:16.4f}{weight:8.2f}")
    windows, exact = (round(float(figure), 4) for figure in figures[-1])
    return {"tinyshakespeare_nats": {f"{seconds:g}": windows}, "exact_windows": exact}


# ---- Words ------------------------------------------------------------------------------------------


def words(species: str) -> dict[str, Any]:
    """Test perplexity on Brown under the protocol of Bengio et al. (2003); goes on where a stopped run was."""
    corpus = encode_corpus(load_corpus("brown:bengio2003"))
    model = zoo.create(species, corpus.tokenizer.vocab_size, **WORDS[species])
    checkpoint = Checkpoint(Path(f"bengio-{species}.checkpoint.safetensors"))
    started = time.perf_counter()
    model.fit(
        TrainingData(corpus.train.stream, corpus.valid.stream), checkpoint=checkpoint, on_progress=progress_line()
    )
    seconds = checkpoint.earlier_seconds + time.perf_counter() - started
    valid, test = (math.exp(-model.log_probs(part.stream).mean()) for part in (corpus.valid, corpus.test))
    checkpoint.discard()
    print(f"{species}: test perplexity {test:.1f}, valid {valid:.1f}, {seconds:,.0f} s of training")
    return {"bengio_perplexity": {species: round(test, 1)}, "seconds": round(seconds)}


def words_in_equal_time(examples: Path) -> dict[str, Any]:
    """Test perplexity of the same LSTM after as many seconds of training, here and in pytorch/examples."""
    corpus = encode_corpus(load_corpus("brown:bengio2003"))
    vocab_size, train, test = corpus.tokenizer.vocab_size, corpus.train.stream, corpus.test.stream
    training = {**SAMPLED_CHUNKS, "tokens": 10**9, "seconds": EQUAL_SECONDS}
    model = zoo.create("lstm", vocab_size, **EXAMPLES_LSTM, training=training)
    # The weights of the end are kept: they are evaluated once, on a text that plays no part in the figure.
    model.fit(TrainingData(train, TokenStream(next(iter(train.documents())))))
    ours = math.exp(-model.log_probs(test).mean())

    module = module_from(examples / "word_language_model" / "model.py")
    theirs = module.RNNModel("LSTM", vocab_size, 200, 200, 2, 0.2, False)
    rows = EXAMPLES_CHUNKS["batch_size"]
    ids = torch.from_numpy(train.ids.astype(np.int64))
    step, _ = examples_step(theirs, ids[: len(ids) // rows * rows].view(rows, -1).t(), EXAMPLES_CHUNKS["chunk_size"])
    started = time.perf_counter()
    while time.perf_counter() - started < EQUAL_SECONDS:
        step()
    theirs.eval()
    ids = torch.from_numpy(test.ids.astype(np.int64))
    hidden, total = theirs.init_hidden(1), 0.0
    with torch.inference_mode():
        for part in torch.arange(len(ids) - 1).split(1000):
            output, hidden = theirs(ids[part][:, None], hidden)
            total += F.nll_loss(output, ids[part + 1], reduction="sum").item()
    figures = {"lmzoo": round(ours, 1), "pytorch/examples": round(math.exp(total / (len(ids) - 1)), 1)}
    print(f"LSTM 2 x 200 after {EQUAL_SECONDS} s, test perplexity: {figures}")
    return {"lstm_words_perplexity": figures}


# ---- The embedded corpus ----------------------------------------------------------------------------


def embedded(run: Path) -> dict[str, Any]:
    """Bits per byte of the best network and the best n-gram of a run, chosen on valid, and their difference on test."""
    corpus = EncodedCorpus.load(run / "encoded")
    predictors = {
        record.name: Predictor.load(run / "predictors" / record.name)
        for record in read_records(run / "results.jsonl")
        if not record.adapts_on_test and record.species != "mixture"
    }
    networks = [name for name, predictor in predictors.items() if isinstance(predictor.model, NeuralLM)]
    ngrams = [name for name in predictors if name.endswith("gram")]

    def bits(name: str, text: EncodedSplit) -> NDArray[np.float64]:
        """(D,) of each document."""
        log_probs = predictors[name].model.log_probs(text.stream)
        return -np.add.reduceat(log_probs, text.stream.starts) / math.log(2)

    best_network, best_ngram = (
        min(names, key=lambda name: bits(name, corpus.valid).sum()) for names in (networks, ngrams)
    )
    n_bytes = corpus.test.document_bytes
    ours, theirs = bits(best_network, corpus.test), bits(best_ngram, corpus.test)

    def gain(ours: NDArray[Any], theirs: NDArray[Any], axis: int) -> NDArray[Any]:
        return 1 - ours.sum(axis) / theirs.sum(axis)

    interval = scipy.stats.bootstrap(
        (ours, theirs), gain, paired=True, vectorized=True, rng=np.random.default_rng(0)
    ).confidence_interval
    for name, of_documents in ((best_network, ours), (best_ngram, theirs)):
        print(f"{name:24}{of_documents.sum() / n_bytes.sum():8.4f} bits per byte of test")
    share = gain(ours, theirs, 0)
    print(f"{share:.2%} fewer, 95 % of resampled documents: {interval.low:.2%} to {interval.high:.2%}")
    return {
        "embedded_network": best_network, "embedded_ngram": best_ngram, "embedded_gain": round(float(share), 4),
        "embedded_gain_interval": [round(float(interval.low), 4), round(float(interval.high), 4)],
    }  # fmt: skip


def progress_line() -> Callable[[Progress], None]:
    """Says twice a minute how far training is."""
    last = time.perf_counter()

    def on_progress(progress: Progress) -> None:
        nonlocal last
        if time.perf_counter() - last > 30:
            last = time.perf_counter()
            print(f"{progress.done / (progress.total or 1):6.1%}  {progress.message}", file=sys.stderr, flush=True)

    return on_progress


def main() -> None:
    parser = argparse.ArgumentParser(description="The neural species next to their peers.")
    losses = {f"loss-{seconds:g}": seconds for seconds in LOSS}
    parser.add_argument("--part", choices=["speed", *losses, "words", "words-equal-time", "embedded"], default="speed")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--examples", type=Path, help="a checkout of pytorch/examples")
    parser.add_argument("--species", choices=WORDS, help="with --part words", default=next(iter(WORDS), None))
    parser.add_argument("--run", type=Path, help="with --part embedded: the folder of lmzoo compare")
    asked = parser.parse_args()
    if asked.part == "embedded" and asked.run is None:
        parser.error("--part embedded needs --run, the folder of lmzoo compare")
    if asked.part == "words-equal-time" and asked.examples is None:
        parser.error("--part words-equal-time needs --examples, a checkout of pytorch/examples")
    if asked.part == "speed":
        figures = speed(asked.nanogpt, asked.examples)
    elif asked.part == "words":
        figures = words(asked.species)
    elif asked.part == "words-equal-time":
        figures = words_in_equal_time(asked.examples)
    elif asked.part == "embedded":
        figures = embedded(asked.run)
    else:
        figures = loss_after(losses[asked.part])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
