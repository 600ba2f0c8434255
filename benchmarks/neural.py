"""Compares lmzoo's networks with nanoGPT, PyTorch's examples, torch.nn and transformers: speed, and loss by time.

    python benchmarks/neural.py --part speed --nanogpt DIR --examples DIR
    python benchmarks/neural.py --part loss-60              # also loss-180, loss-450, loss-3600
    python benchmarks/neural.py --part words-equal-time --examples DIR
    python benchmarks/neural.py --part embedded --run DIR   # of lmzoo compare --budget standard --out DIR

DIR are checkouts of karpathy/nanoGPT and of pytorch/examples, whose models are imported unchanged; `pip install
"lmzoo[hf]"` for the generation of transformers. A missing peer is skipped, with the reason. LMZOO_DATA names a folder
with tinyshakespeare.txt; the words are NLTK's Brown corpus under the protocol of Bengio et al. (2003).

speed: ids per second in whole training steps (batch, loss, gradients, update) of the same architecture with batches of
the same size, except for the sampled softmax, which has 64 sequences; all take turns, and the median counts. loss-N:
nats per character on nanoGPT's validation part of tiny shakespeare after N seconds of training, in consecutive windows
of 256 characters as in nanoGPT and in exact windows, for networks mixed with an n-gram model and for each model alone.
words-equal-time: test perplexity of equal LSTMs of lmzoo and pytorch/examples after equal time.
embedded: by how much the best network of a run is better than the best n-gram model, with a bootstrap interval over
documents. Run this program alone on the machine, as all ratios are of times in one run.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from lmzoo.corpora.encoded import EncodedCorpus, EncodedSplit
from lmzoo.evaluation.records import read_records
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.predictor import Predictor
from neural_loss import LOSS, loss_after, words_in_equal_time
from neural_speed import speed


def embedded(run: Path) -> dict[str, Any]:
    """Compares the best network and the best n-gram model of a run, chosen on the validation set, in bits per byte of
    test."""
    corpus = EncodedCorpus.load(run / "encoded")
    predictors = {
        record.name: Predictor.load(run / "predictors" / record.name)
        for record in read_records(run / "results.jsonl")
        if not record.adapts_on_test and record.species != "mixture"
    }
    networks = [name for name, predictor in predictors.items() if isinstance(predictor.model, NeuralLM)]
    ngrams = [name for name in predictors if name.endswith("gram")]

    def bits(name: str, text: EncodedSplit) -> NDArray[np.float64]:
        """Returns the bits that a model needs for each of D documents (D,)."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the networks of lmzoo with their peers.")
    losses = {f"loss-{seconds:g}": seconds for seconds in LOSS}
    parser.add_argument("--part", choices=["speed", *losses, "words-equal-time", "embedded"], default="speed")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--examples", type=Path, help="a checkout of pytorch/examples")
    parser.add_argument("--run", type=Path, help="with --part embedded: the folder of lmzoo compare")
    asked = parser.parse_args()
    if asked.part == "embedded" and asked.run is None:
        parser.error("--part embedded needs --run, the folder of lmzoo compare")
    if asked.part == "words-equal-time" and asked.examples is None:
        parser.error("--part words-equal-time needs --examples, a checkout of pytorch/examples")
    if asked.part == "speed":
        figures = speed(asked.nanogpt, asked.examples)
    elif asked.part == "words-equal-time":
        figures = words_in_equal_time(asked.examples)
    elif asked.part == "embedded":
        figures = embedded(asked.run)
    else:
        figures = loss_after(losses[asked.part])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
