"""Compares how well and how fast PPM, context mixing and PPMd compress: all of them learn each text token by token.

    python benchmarks/compression.py [--corpus NAME ..]

The corpora are by default kjv, shakespeare and brown; the last two need `lmzoo corpus fetch`. The peer is pyppmd, with
variant I and orders 6 and 16 (`pip install "lmzoo[compressors]"`). All get all documents in the same order, as UTF-8
with a separator after each. PPMd writes a file; for `ppm` and `context-mixing`, the length is the sum of the
surprisals, which an arithmetic coder reaches within two bits. Times are processor times of one core, so other programs
on the machine matter little. The last line is JSON: bits per byte, and kilobytes per second of processor time.
`CORPUS.ratio` is the length under `ppm` as a share of the length under PPMd of order 16.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from lmzoo import load_corpus, train_tokenizer, zoo
from lmzoo.corpora.encoded import encode_documents
from lmzoo.experiments.compressors import COMPRESSORS
from lmzoo.language_model import OnlineLearner

CORPORA = ("kjv", "shakespeare", "brown")
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ppm": ("ppm", dict(zoo.presets("ppm")["bytes"])),
    "ppm-16": ("ppm", {"order": 16}),
    "ppm-5-method-C": ("ppm", {"order": 5, "escape": "C"}),
    "ppm-5-method-D": ("ppm", {"order": 5, "escape": "D"}),
    "context-mixing": ("context-mixing", dict(zoo.presets("context-mixing")["bytes"])),
    "without-inputs": ("context-mixing", {"table_bits": 24}),
}
"""The species and settings of each model."""
PEERS = ("ppmd-6", "ppmd-16")
Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Returns the result of `work` and the processor time that it took, in seconds."""
    started = time.process_time()
    return work(), time.process_time() - started


def measure(corpus: str, figures: dict[str, float]) -> None:
    """Compresses a corpus with all models and peers, prints a table, and adds the figures."""
    loaded = load_corpus(corpus)
    documents = [*loaded.train, *loaded.valid, *loaded.test]
    tokenizer = train_tokenizer("byte", [])
    ids = encode_documents(documents, tokenizer).stream.ids
    n_bytes = sum(document.n_bytes for document in documents)
    data = b"\xff".join(document.text.encode() for document in documents)
    print(f"{corpus}: {n_bytes:,} bytes in {len(documents):,} documents")
    lengths: dict[str, tuple[float, float]] = {}
    for name, (species, settings) in MODELS.items():
        model = zoo.create(species, tokenizer.vocab_size, **settings)
        assert isinstance(model, OnlineLearner)
        log_probs, seconds = timed(lambda model=model: model.online_log_probs(ids))
        lengths[name] = -float(np.sum(log_probs)) / math.log(2), seconds
    for compressor in COMPRESSORS:
        if compressor.name in PEERS:
            packed, seconds = timed(lambda compressor=compressor: compressor.compress(data))
            lengths[compressor.name] = 8 * len(packed), seconds
    for name, (bits, seconds) in lengths.items():
        ratio = bits / lengths["ppmd-16"][0]
        figures |= {f"{corpus}.{name}": bits / n_bytes, f"{corpus}.{name}.kB_per_s": n_bytes / seconds / 1000}
        print(
            f"  {name:<16} {bits / n_bytes:.4f} bits/byte  {ratio:.3f} of PPMd's  {n_bytes / seconds / 1000:,.0f} kB/s"
        )
    figures[f"{corpus}.ratio"] = lengths["ppm"][0] / lengths["ppmd-16"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", nargs="+", default=CORPORA, help="names of corpora")
    figures: dict[str, float] = {}
    for species in ("ppm", "context-mixing"):  # the first call compiles the model, which is not measured
        model = zoo.create(species, 3)
        assert isinstance(model, OnlineLearner)
        model.online_log_probs([1, 2, 0])
    for corpus in parser.parse_args().corpus:
        measure(corpus, figures)
    print(json.dumps({name: float(f"{value:.5g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
