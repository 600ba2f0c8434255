"""The loss of networks after a given time of training, or on words; used by `benchmarks/neural.py`."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch.nn import functional as F

from lmzoo import zoo
from lmzoo.corpora import load_corpus
from lmzoo.corpora.encoded import encode_corpus
from lmzoo.language_model import LanguageModel
from lmzoo.models.mixture import MixtureModel
from lmzoo.stream import TokenStream, TrainingData
from neural_training import (
    EXAMPLES_CHUNKS,
    EXAMPLES_LSTM,
    SAMPLED_CHUNKS,
    examples_step,
    module_from,
    progress_line,
)

WINDOW = 256
EQUAL_SECONDS = 150

_LOSS_TRAINING = {
    "batch_size": 32, "chunk_size": 64, "optimizer": "muon", "learning_rate": 1e-2, "weight_decay": 0.1,
    "reset_rate": 0.1, "ema_fraction": 0.1, "final_rate": 0.2,
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
                "batch_size": 32, "chunk_size": 100, "learning_rate": 3e-3, "weight_decay": 0.03, "reset_rate": 0.05,
                "ema_fraction": 0.1,
            },
        }),
    ],
}  # fmt: skip
"""By seconds of training: networks, each with its share of the time, which are mixed with an n-gram.

Chosen on the last tenth of the training part; the wider transformer and the LSTM of the hour are not tuned at all.
"""
SECONDS_FOR_COUNTS = 4.0
"""Of those seconds: for the n-gram and the weights of the mixture."""


# ---- Loss by time -----------------------------------------------------------------------------------


def tiny_shakespeare() -> tuple[TokenStream, TokenStream, int]:
    """Returns tiny shakespeare as characters: the first 90 %, the rest (nanoGPT's split), and the vocabulary size."""
    text = (Path(os.environ["LMZOO_DATA"]) / "tinyshakespeare.txt").read_text(encoding="utf-8")
    characters, ids = np.unique(np.array(list(text)), return_inverse=True)
    cut = int(0.9 * len(ids))
    train, valid = (TokenStream.from_documents([part + 1]) for part in (ids[:cut], ids[cut:]))
    return train, valid, len(characters) + 1


@torch.inference_mode()
def log_probs_in_windows(model: LanguageModel[Any], stream: TokenStream) -> NDArray[np.float64]:
    """Returns the log-probability of each of N ids in nats (N,), in separate windows of WINDOW ids as in nanoGPT."""
    ids = stream.ids[:-1]  # without EOT
    n = (len(ids) - 1) // WINDOW
    inputs, targets = (part[: n * WINDOW].reshape(n, WINDOW) for part in (ids[:-1], ids[1:]))
    if isinstance(model, MixtureModel):
        members = [log_probs_in_windows(member, stream) for member in model.members.values()]
        return np.asarray(logsumexp(np.stack(members, axis=1) + np.log(model.weights), axis=1))
    # Each window is read as a document; its first id and its end do not count.
    windows = TokenStream.from_documents(np.column_stack([inputs, targets[:, -1:]]))
    return model.log_probs(windows).reshape(n, WINDOW + 2)[:, 1:-1].ravel()


def loss_after(seconds: float) -> dict[str, Any]:
    """Measures the loss on the validation part of tiny shakespeare after `seconds` of training, in nats per character.

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


def words_in_equal_time(examples: Path) -> dict[str, Any]:
    """Measures the test perplexity of equal LSTMs of lmzoo and pytorch/examples after equal training time."""
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
