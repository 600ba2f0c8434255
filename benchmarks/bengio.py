"""Measures perplexities on Brown under the protocol of Bengio et al. (2003): counting models, networks, their mixture.

    python benchmarks/bengio.py [--out DIR]                  # all models, then the mixture of all of them
    python benchmarks/bengio.py --rows ppm lstm              # some of the models
    python benchmarks/bengio.py --mixture                    # the mixture of the models that DIR has

NLTK's Brown (`lmzoo corpus fetch brown`) has a vocabulary of 17,906 entries under this protocol (the paper: 16,383).
If several settings of a model are given, the model is fitted with each of them, and only the one with the lowest
perplexity on the validation split is evaluated on the test split. Networks are trained with early stopping on the
validation split, and the weights of the mixture are learned on it, too. Models that adapt to the test split are not
members of the mixture.

The log-probabilities of both splits, from which the mixture is computed, and the checkpoints of interrupted fits are
saved in DIR (default: runs/bengio). A later call measures only what is missing, and continues an interrupted fit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from lmzoo import zoo
from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.corpora import load_corpus
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus
from lmzoo.errors import CorpusError
from lmzoo.evaluation.gate import ModelScores, learn_gate
from lmzoo.models.mixing import learn_weights
from lmzoo.stream import TokenStream
from neural_training import progress_line

Settings = Mapping[str, Any]


class Row(NamedTuple):
    """A model family, and the settings that are compared on the validation split."""

    species: str
    candidates: Sequence[Settings] = ({},)


def _classes(n_classes: int) -> Settings:
    return {"species": "class-ngram", "settings": {"n_classes": n_classes}}


COUNTS: dict[str, Row] = {
    "ngram-3": Row("ngram", [{"order": 3}]),
    "ngram": Row("ngram"),
    "ngram-backoff": Row("ngram", [{"smoothing": "kneser-ney-backoff"}]),
    "ngram-tuned": Row("ngram", [{"smoothing": "kneser-ney-tuned"}]),
    "class-ngram": Row("class-ngram"),
    "skip-ngram": Row("skip-ngram"),
    "mixture-3": Row("mixture", [{"members": ["ngram", "class-ngram", "skip-ngram"]}]),
    "mixture-4": Row(
        "mixture",
        [{"members": [*map(_classes, (100, 300, 1000)), {"species": "skip-ngram", "settings": {"order": 5}}]}],
    ),
    "infinigram": Row("infinigram"),
    "sequence-memoizer": Row("sequence-memoizer"),
    "ppm": Row("ppm", [{"adaptive": False, "order": order} for order in (4, 16)]),
    "context-tree-weighting": Row(
        "context-tree-weighting", [{"adaptive": False, "depth": depth} for depth in (1, 2, 6)]
    ),
    "context-mixing": Row("context-mixing", [{"adaptive": False}]),
    "maxent": Row("maxent", [{"triggers": 0}, {"triggers": 6}]),
    "cache": Row("cache"),
}
"""The counting models. With these settings, `cache` is the only one that adapts to the texts that it predicts."""

_TRAINING = {"batch_size": 32, "chunk_size": 35, "sampled_softmax": 2000, "reset_rate": 0.01, "ema_fraction": 0.1}
_RECURRENT = {
    "d_embed": 256, "d_hidden": 512, "dropout": 0.5, "variational": True, "weight_dropout": 0.3,
    "training": {**_TRAINING, "tokens": 14_000_000, "learning_rate": 3e-3, "weight_decay": 0.03},
}  # fmt: skip
_MUON = {
    **_TRAINING, "sampled_softmax": 1000, "tokens": 1_500_000, "learning_rate": 1e-2, "weight_decay": 0.05,
    "optimizer": "muon",
}  # fmt: skip
NETWORKS: dict[str, Row] = {
    "nplm": Row("nplm", [{
        "order": 5, "d_embed": 100, "d_hidden": 200, "dropout": 0.4,
        "training": {**_TRAINING, "tokens": 10_000_000, "learning_rate": 3e-3, "weight_decay": 0.1},
    }]),
    # A network without gates diverges at the learning rate of the others.
    "rnn": Row("rnn", [{**_RECURRENT, "training": {**_RECURRENT["training"], "learning_rate": 1e-3}}]),
    "lstm": Row("lstm", [_RECURRENT]),
    "gru": Row("gru", [_RECURRENT]),
    "log-bilinear": Row("log-bilinear", [{
        "order": 5, "d_embed": 128, "dropout": 0.2,
        "training": {**_TRAINING, "tokens": 3_000_000, "learning_rate": 5e-3, "weight_decay": 0.1},
    }]),
    "gated-conv": Row("gated-conv", [{"d_model": 192, "n_layers": 3, "dropout": 0.2, "training": _MUON}]),
    "linear-recurrence": Row("linear-recurrence", [{
        "d_model": 192, "n_layers": 1, "n_heads": 4, "dropout": 0.2, "training": {**_MUON, "tokens": 800_000},
    }]),
    "hybrid": Row("hybrid", [{
        **_RECURRENT, "cell": "lstm", "network_share": 0.2,
        "training": {**_RECURRENT["training"], "sampled_softmax": 1000},
    }]),
}  # fmt: skip
"""The networks; `hybrid` contains an n-gram model, too."""
ROWS = {**COUNTS, **NETWORKS}


class Scores(NamedTuple):
    """The scores of a model on both splits, as they are saved in DIR."""

    settings: Settings
    """The settings that are best on the validation split."""
    adapts: bool
    """True if the model adapts to the texts that it predicts."""
    seconds: float
    """Total time of the fits with all settings."""
    valid: NDArray[np.float64]
    """(T,): log-probability in nats of each token of the validation split."""
    test: NDArray[np.float64]
    """(T,): log-probability in nats of each token of the test split."""


def scored(name: str, corpus: EncodedCorpus, folder: Path) -> Scores:
    """Returns the scores of a model. If the folder has none for these settings and texts, measures and saves them."""
    row, kept = ROWS[name], kept_scores(name, corpus, folder)
    if kept is not None:
        return kept
    best: tuple[Any, Settings, NDArray[np.float64]] | None = None
    checkpoints, seconds = [], 0.0
    for index, settings in enumerate(row.candidates):
        checkpoint = Checkpoint(folder / f"{name}-{index}.checkpoint.safetensors")
        started = time.perf_counter()
        model = zoo.create(row.species, corpus.tokenizer.vocab_size, **settings)
        model.fit(corpus.training_data, checkpoint=checkpoint, on_progress=progress_line())
        seconds += checkpoint.earlier_seconds + time.perf_counter() - started
        checkpoints.append(checkpoint)
        valid = model.log_probs(corpus.valid.stream)
        if len(row.candidates) > 1:
            print(f"{name} {json.dumps(settings)}: valid {_perplexity(valid):.1f}", file=sys.stderr, flush=True)
        if best is None or valid.sum() > best[2].sum():
            best = model, settings, valid
    assert best is not None
    model, settings, valid = best
    scores = Scores(settings, model.adapts_on_test, seconds, valid, model.log_probs(corpus.test.stream))
    facts = {"key": _key(row, corpus), "settings": settings, "adapts": scores.adapts, "seconds": seconds}
    save_arrays(_path(folder, name), {"valid": scores.valid, "test": scores.test}, facts)
    for checkpoint in checkpoints:
        checkpoint.discard()
    return scores


def kept_scores(name: str, corpus: EncodedCorpus, folder: Path) -> Scores | None:
    """Returns the saved scores of a model; None if the folder has none for these settings and texts."""
    path = _path(folder, name)
    if not path.exists():
        return None
    arrays, facts = load_arrays(path)
    if facts["key"] != _key(ROWS[name], corpus):
        return None
    return Scores(facts["settings"], facts["adapts"], facts["seconds"], arrays["valid"], arrays["test"])


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _key(row: Row, corpus: EncodedCorpus) -> str:
    """Returns a hash of everything on which the scores of a model depend, except the version of the program."""
    return hashlib.sha256(json.dumps([row, corpus.fingerprint], sort_keys=True).encode()).hexdigest()


def _perplexity(log_probs: NDArray[np.float64]) -> float:
    return float(np.exp(-log_probs.mean()))


def interval(log_probs: NDArray[np.float64], stream: TokenStream) -> tuple[float, float]:
    """Returns the bounds of the 95 % confidence interval of the perplexity per token, by bootstrap over documents."""
    nats, sizes = -np.add.reduceat(log_probs, stream.starts), stream.ends - stream.starts

    def perplexity(nats: NDArray[Any], sizes: NDArray[Any], axis: int = -1) -> NDArray[Any]:
        return np.exp(nats.sum(axis) / sizes.sum(axis))

    found = scipy.stats.bootstrap(
        (nats, sizes), perplexity, paired=True, vectorized=True, n_resamples=2000, batch=100, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return found.low, found.high


def show(name: str, valid: float, test: NDArray[np.float64], stream: TokenStream, note: str) -> None:
    low, high = interval(test, stream)
    print(f"{name:<24}{valid:>8.1f}{_perplexity(test):>8.1f}{low:>9.1f} to {high:.1f}  {note}".rstrip(), flush=True)


def mixture(members: Mapping[str, Scores], corpus: EncodedCorpus) -> dict[str, float]:
    """Mixes models with constant weights and with the weights of a gate; returns the test perplexity of each mixture.

    The gate uses only the features that depend on the log-probabilities of earlier tokens. The others depend on whole
    distributions, which are not saved; they are 0.
    """
    streams = {"valid": corpus.valid.stream, "test": corpus.test.stream}
    log_probs = {split: np.stack([getattr(scores, split) for scores in members.values()]) for split in streams}
    scores = {
        split: ModelScores(rows, np.zeros_like(rows), np.zeros_like(rows), streams[split].starts)
        for split, rows in log_probs.items()
    }
    weights = learn_weights(log_probs["valid"].T)
    gate = learn_gate(scores["valid"], weights)
    mixtures = {
        "constant weights": dict.fromkeys(streams, np.log(weights)[:, None]),
        "gate": {split: gate.log_weights(each) for split, each in scores.items()},
    }
    figures = {}
    for name, log_weights in mixtures.items():
        mixed = {split: np.logaddexp.reduce(log_probs[split] + log_weights[split], axis=0) for split in streams}
        show(f"all, {name}", _perplexity(mixed["valid"]), mixed["test"], streams["test"], f"{len(members)} models")
        figures[name] = round(_perplexity(mixed["test"]), 1)
    shares = sorted(zip(weights, members, strict=True), reverse=True)
    print("constant weights:", ", ".join(f"{name} {weight:.3f}" for weight, name in shares))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, metavar="NAME", help=f"models to measure: {', '.join(ROWS)}")
    parser.add_argument("--mixture", action="store_true", help="measure no model; mix those whose scores are in DIR")
    parser.add_argument("--out", type=Path, default=Path("runs/bengio"), metavar="DIR", help="(default: %(default)s)")
    asked = parser.parse_args()
    try:
        corpus = encode_corpus(load_corpus("brown:bengio2003"))
    except CorpusError as error:
        sys.exit(str(error))
    asked.out.mkdir(parents=True, exist_ok=True)
    names = asked.rows or list(ROWS)
    if asked.mixture:
        names = [name for name in names if kept_scores(name, corpus, asked.out)]
    print("in the paper: n-gram 321 and 323, class-based 312, network 268, network mixed with a trigram 252")
    print(f"{'perplexity per token':<24}{'valid':>8}{'test':>8}  95 % interval")
    measured = {}
    for name in names:
        scores = measured[name] = scored(name, corpus, asked.out)
        note = f"{scores.seconds:,.0f} s {json.dumps(scores.settings) if len(ROWS[name].candidates) > 1 else ''}"
        show(name, _perplexity(scores.valid), scores.test, corpus.test.stream, note)
    figures: dict[str, Any] = {name: round(_perplexity(scores.test), 1) for name, scores in measured.items()}
    static = {name: scores for name, scores in measured.items() if not scores.adapts}
    for kind, rows in (("counts", COUNTS), ("network", NETWORKS)):
        found = [name for name in static if name in rows]
        if found:
            best = min(found, key=lambda name: -static[name].valid.sum())
            print(f"best static {kind}, on the validation split: {best}")
    if len(static) > 1 and not asked.rows:
        figures |= {f"all, {name}": figure for name, figure in mixture(static, corpus).items()}
    print(json.dumps({"bengio_perplexity": figures}))


if __name__ == "__main__":
    main()
