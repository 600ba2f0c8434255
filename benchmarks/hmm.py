"""Hidden Markov models next to hmmlearn on Brown by sentence: seconds per EM iteration, predictions, perplexities.

    python benchmarks/hmm.py [--part speed|quality|all] [--states 8,32,128,512,2048,4096]

Needs NLTK's Brown corpus (`lmzoo corpus fetch brown`); 80 % of the sentences are for training, words seen fewer than 4
times are one class. Part `speed` takes about 5 minutes, most of them hmmlearn's. Part `quality` fits a model for each
number of `--states` on Brown and on the embedded corpus: up to 128 states exact ones, above large ones whose states
belong to classes. It takes about a quarter of an hour. Run it alone: hmmlearn uses one core, lmzoo all of them, and
ratios are of times in one run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lmzoo import zoo
from lmzoo.corpora import load_corpus
from lmzoo.corpora.encoded import EncodedCorpus, encode_corpus
from lmzoo.language_model import Progress
from lmzoo.models.hmm import HiddenMarkovModel, hmm
from lmzoo.stream import TokenStream
from lmzoo.system.provenance import peak_memory_bytes

CONTEXT_SIZE = 9
LARGE = 1024
LARGEST_EXACT = 128
Figures = dict[str, float]


def row(*cells: object) -> None:
    print("".join(f"{cell:>16}" for cell in cells), flush=True)


def iteration_seconds(corpus: EncodedCorpus, n_states: int, n_iterations: int) -> tuple[float, HiddenMarkovModel]:
    """The best time of an iteration of `fit`, with the scoring of the valid split; and the model."""
    times: list[float] = []

    def note(progress: Progress) -> None:
        times.append(time.perf_counter())

    model = hmm(corpus.tokenizer.vocab_size, n_states=n_states, n_iterations=n_iterations)
    model.fit(corpus.training_data, on_progress=note)
    return float(np.diff(times[:n_iterations]).min()), model


def hmmlearn_iteration_seconds(model: HiddenMarkovModel, stream: TokenStream) -> float:
    """The time that hmmlearn takes for an iteration from the same parameters, in its faster implementation."""
    theirs = model.to_hmmlearn().set_params(init_params="", n_iter=1, implementation="scaling")
    start = time.perf_counter()
    theirs.fit(stream.ids[:, None], stream.ends - stream.starts)
    return time.perf_counter() - start


def per_second(work: Callable[[], Any], n_items: int) -> float:
    """Items a second, in the best of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return n_items / min(times)


def measure_speed(corpus: EncodedCorpus) -> Figures:
    figures: Figures = {}
    train, test = corpus.train.stream, corpus.test.stream
    print(f"seconds per EM iteration: {len(train):,} tokens, {corpus.tokenizer.vocab_size:,} types")
    row("states", "lmzoo", "hmmlearn", "times faster")
    # The largest first, so that the peak of memory is its own.
    figures[f"em_seconds.{LARGE}"], _ = iteration_seconds(corpus, LARGE, 3)
    figures[f"em_peak_bytes.{LARGE}"] = peak_memory_bytes()
    row(LARGE, f"{figures[f'em_seconds.{LARGE}']:.2f}", f"({figures[f'em_peak_bytes.{LARGE}'] / 1e9:.2f} GB)", "")
    models = {}
    for n_states in (8, 32, 64, 128):
        seconds, models[n_states] = iteration_seconds(corpus, n_states, 6)
        theirs = hmmlearn_iteration_seconds(models[n_states], train)
        figures |= {
            f"em_seconds.{n_states}": seconds,
            f"em_seconds_hmmlearn.{n_states}": theirs,
            f"em_speedup.{n_states}": theirs / seconds,
        }
        row(n_states, f"{seconds:.3f}", f"{theirs:.2f}", f"{theirs / seconds:.1f}")

    print(f"\nper second, 32 states, contexts of {CONTEXT_SIZE} tokens")
    model, theirs = models[32], models[32].to_hmmlearn()
    contexts = test.ids[test.ids != 0][: 2000 * CONTEXT_SIZE].reshape(-1, CONTEXT_SIZE)

    def one_by_one() -> None:
        state = model.initial_state()
        for token_id in contexts[:, 0].tolist():
            state = model.advance(state, token_id)
            model.next_log_probs(state)

    def by_hmmlearn() -> None:
        for context in contexts[:200]:
            theirs.predict_proba(context[:, None])[-1] @ theirs.transmat_ @ theirs.emissionprob_

    def in_batches() -> None:
        for part in np.array_split(contexts, len(contexts) // 100):
            model.next_log_probs_after(list(part))

    for name, label, work, n_items in (
        ("distributions_per_second", "distributions, advancing a state", one_by_one, len(contexts)),
        ("distributions_per_second.batched", "distributions, 100 contexts at a time", in_batches, len(contexts)),
        ("distributions_per_second.hmmlearn", "distributions, by hand with hmmlearn", by_hmmlearn, 200),
        ("tokens_per_second.log_probs", "tokens read by log_probs", lambda: model.log_probs(test), len(test)),
    ):
        figures[name] = per_second(work, n_items)
        print(f"{label:<48}{figures[name]:>16,.0f}", flush=True)
    return figures


def measure_quality(name: str, corpus: EncodedCorpus, all_n_states: list[int]) -> Figures:
    figures: Figures = {}
    row("species", "states", "seconds", "perplexity")
    for n_states in all_n_states:
        species = "hmm" if n_states <= LARGEST_EXACT else "class-hmm"
        start = time.perf_counter()
        model = zoo.create(species, corpus.tokenizer.vocab_size, n_states=n_states)
        model.fit(corpus.training_data)
        seconds = time.perf_counter() - start
        perplexity = float(np.exp(-model.log_probs(corpus.test.stream).mean()))
        figures |= {f"{name}_perplexity.{n_states}": perplexity, f"{name}_fit_seconds.{n_states}": seconds}
        row(species, n_states, f"{seconds:.0f}", f"{perplexity:.1f}")
    figures[f"{name}_best_perplexity"] = min(figures[f"{name}_perplexity.{n_states}"] for n_states in all_n_states)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("speed", "quality", "all"), default="all")
    parser.add_argument("--states", default="8,32,128,512,2048,4096", help="numbers of states for the part `quality`")
    arguments = parser.parse_args()
    corpus = encode_corpus(load_corpus("brown"))
    figures: Figures = {}
    if arguments.part != "quality":
        figures |= measure_speed(corpus)
        print()
    if arguments.part != "speed":
        all_n_states = [int(n_states) for n_states in arguments.states.split(",")]
        print("Brown, test perplexity per word (hmmlearn, 32 states, 20 iterations: 259.9; KenLM's trigram: 139.8)")
        figures |= measure_quality("brown", corpus, all_n_states)
        print("\nKing James Version, test perplexity per token of bpe:4096")
        figures |= measure_quality("kjv", encode_corpus(load_corpus("kjv")), all_n_states)
        print()
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
