"""n-gram models next to KenLM and nltk.lm: the same model, the time to fit, to read text and to predict.

    python benchmarks/ngram.py [--data DIR] [--kenlm-bin DIR] [--large]

DIR (default: $LMZOO_DATA) holds `brown-by-sentence`: Brown's sentences and what KenLM's lmplz estimated from them.
`pip install kenlm` for the reading of KenLM; `--kenlm-bin` names a folder with its programs `lmplz` and `build_binary`
for its fitting; `--large` fits 20 million tokens, too. Peers that are not there are skipped with a reason.
Run it alone and with OMP_NUM_THREADS=1: everything here uses one core, and ratios are of times in one run.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.models.ngram import NgramModel, ngram, trigram
from lmzoo.stream import TokenStream, TrainingData

ORDER = 5
Figures = dict[str, float | None]


def seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """The best of some runs: what the machine can do when nothing disturbs it."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def consume(results: Iterable[Any]) -> None:
    """Lets go of each result before the next: distributions over many words are large."""
    for _ in results:
        pass


def row(name: str, value: float | str, unit: str = "", note: str = "") -> None:
    shown = value if isinstance(value, str) else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
    print(f"{name:<46} {shown:>14} {unit:<12} {note}".rstrip(), flush=True)


def read_corpus(folder: Path) -> tuple[int, TrainingData, TokenStream]:
    """V, train with valid, and test; ids by falling frequency, and a spare one for KenLM's own `<unk>`."""
    lines = {
        name: (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines() for name in ("train", "valid", "test")
    }
    words, counts = np.unique(" ".join(lines["train"]).split(" "), return_counts=True)
    vocabulary = {str(word): 1 + rank for rank, word in enumerate(words[np.argsort(-counts, kind="stable")])}
    train, valid, test = (
        TokenStream.from_documents([vocabulary[word] for word in line.split()] for line in lines[name])
        for name in lines
    )
    return len(vocabulary) + 2, TrainingData(train, valid), test


def shuffled_copies(stream: TokenStream, n_copies: int) -> TokenStream:
    """The text, and copies whose tokens are shuffled inside each document."""
    document = np.repeat(np.arange(stream.n_documents), stream.ends - stream.starts)
    parts = [stream.ids]
    for copy in range(n_copies):
        order = np.random.default_rng(copy).random(len(stream))
        order[stream.ids == 0] = 2  # EOT stays last
        parts.append(stream.ids[np.lexsort((order, document))])
    return TokenStream(np.concatenate(parts))


def measure_fit(folder: Path, figures: Figures) -> tuple[NgramModel, TokenStream]:
    """From text to a saved model, and back."""
    tiny = TokenStream(np.array([1, 0]))
    start = time.perf_counter()
    ngram(4).fit(TrainingData(tiny, tiny)).predict_distributions([[1]])
    figures["first_call_time"] = time.perf_counter() - start
    row("first call (compiles, or loads the compiled code)", figures["first_call_time"], "s")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.safetensors"
        start = time.perf_counter()
        vocab_size, data, test = read_corpus(folder)
        read = time.perf_counter()
        model = ngram(vocab_size, order=ORDER).fit(data)
        fitted = time.perf_counter()
        save_arrays(path, model.arrays())
        saved = time.perf_counter()
        figures["fit_time"], figures["text_to_saved_time"] = fitted - read, saved - start
        row(f"fit, order {ORDER}", fitted - read, "s", f"{len(data.train) / (fitted - read) / 1e6:.1f} M tokens/s")
        row("  with reading text and saving", saved - start, "s", f"{path.stat().st_size / 1e6:.0f} MB saved")

        def opened() -> None:
            ngram(vocab_size, order=ORDER).load_arrays(load_arrays(path)[0])

        figures["open_time"] = seconds(opened)
        row("open the saved model", 1000 * figures["open_time"], "ms")
    figures["perplexity"] = math.exp(-model.log_probs(test).mean())
    row("test perplexity", f"{figures['perplexity']:.3f}", "per token")
    for name, other in [("order 3", ngram(vocab_size, order=3)), ("trigram, Jelinek-Mercer", trigram(vocab_size))]:
        start = time.perf_counter()
        other.fit(data)
        row(
            f"test perplexity, {name}",
            f"{math.exp(-other.log_probs(test).mean()):.3f}",
            "",
            f"fit in {time.perf_counter() - start:.2f} s",
        )
    return model, test


def measure_large(folder: Path, figures: Figures) -> None:
    vocab_size, data, _ = read_corpus(folder)
    large = TrainingData(shuffled_copies(data.train, 19), data.valid)
    figures["fit_20m_time"] = seconds(lambda: ngram(vocab_size, order=ORDER).fit(large), repeats=1)
    row(f"fit, {len(large.train):,} tokens", figures["fit_20m_time"], "s")


def measure_reading(model: NgramModel, test: TokenStream, figures: Figures) -> None:
    figures["scoring_rate"] = len(test) / seconds(lambda: model.log_probs(test), repeats=15)
    row("scoring a stream", figures["scoring_rate"], "tokens/s")
    ids = test.ids[:2048]
    starts = [max(0, t - 2 * ORDER) for t in range(ids.size)]
    contexts = [ids[start:t] for t, start in enumerate(starts)]
    states = [model.state_after(model.visible(context)) for context in contexts]
    rate = len(states) / seconds(lambda: consume(map(model.next_log_probs, states)))
    figures["distribution_rate"] = rate
    row("full distributions, one after another", rate, "contexts/s", f"V = {model.vocab_size:,}")
    batches = [contexts[start : start + 64] for start in range(0, len(contexts), 64)]
    rate = len(contexts) / seconds(lambda: consume(map(model.predict_distributions, batches)))
    figures["batched_distribution_rate"] = rate
    row("full distributions, 64 at a time", rate, "contexts/s")


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """KenLM writes a progress bar past Python's own stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def measure_kenlm(folder: Path, ours: NgramModel, test: TokenStream, figures: Figures) -> None:
    """What the Python package makes of KenLM's own ARPA file."""
    import kenlm

    sentences = (folder / "test.txt").read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as temporary, quiet_stderr():
        path = Path(temporary) / "model.arpa"
        with gzip.open(folder / f"kenlm-{ORDER}.arpa.gz") as packed, path.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        model = kenlm.Model(str(path))
    perplexity = 10 ** (-sum(model.score(sentence) for sentence in sentences) / len(test))
    figures["perplexity_difference"] = abs(figures["perplexity"] - perplexity)
    row(
        "KenLM: test perplexity", f"{perplexity:.3f}", "per token", f"difference {figures['perplexity_difference']:.1e}"
    )
    # In turn, so that both meet the same disturbances.
    works = (lambda: ours.log_probs(test), lambda: [model.score(sentence) for sentence in sentences])
    rounds = [[seconds(work, repeats=1) for work in works] for _ in range(30)]
    our_time, their_time = np.min(rounds, axis=0)
    figures["scoring_speedup"], rate = their_time / our_time, len(test) / their_time
    row("KenLM: scoring (Python, score)", rate, "tokens/s", f"lmzoo is {figures['scoring_speedup']:.1f} times as fast")
    words = sorted(set((folder / "train.txt").read_text(encoding="utf-8").split()))
    state, after = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(state)
    rate = 3 / seconds(lambda: [model.BaseScore(state, word, after) for _ in range(3) for word in words], repeats=3)
    for name in ("distribution", "batched_distribution"):
        figures[f"{name}_speedup"] = figures[f"{name}_rate"] / rate
    row("KenLM: distributions (a loop over all words)", rate, "contexts/s")
    row("  lmzoo, one after another", figures["distribution_speedup"], "times as fast")
    row("  lmzoo, 64 at a time", figures["batched_distribution_speedup"], "times as fast")


def measure_lmplz(folder: Path, programs: Path, figures: Figures) -> None:
    """From text to a model that is ready to be asked, with KenLM's programs."""
    with tempfile.TemporaryDirectory() as temporary:
        arpa, binary = Path(temporary) / "model.arpa", Path(temporary) / "model.bin"

        def run() -> None:
            with (folder / "train.txt").open("rb") as text, arpa.open("wb") as out:
                command = [programs / "lmplz", "-o", str(ORDER), "-S", "1G", "-T", temporary]
                subprocess.run(command, stdin=text, stdout=out, stderr=subprocess.DEVNULL, check=True)
            subprocess.run([programs / "build_binary", arpa, binary], capture_output=True, check=True)

        time_taken = seconds(run, repeats=2)
    figures["fit_time_ratio"] = figures["text_to_saved_time"] / time_taken
    row("KenLM: text to binary", time_taken, "s", f"lmzoo takes {figures['fit_time_ratio']:.2f} of that")


def measure_nltk(folder: Path, figures: Figures) -> None:
    """nltk's interpolated Kneser-Ney, on few sentences and tokens: it looks at every context on every call."""
    from nltk.lm import KneserNeyInterpolated
    from nltk.lm.preprocessing import padded_everygram_pipeline

    lines = [line.split() for line in (folder / "train.txt").read_text(encoding="utf-8").splitlines()[:2000]]
    start = time.perf_counter()
    model = KneserNeyInterpolated(3)
    model.fit(*padded_everygram_pipeline(3, lines))
    rate = sum(len(line) + 1 for line in lines) / (time.perf_counter() - start)
    row("nltk.lm: fit, order 3", rate, "tokens/s")
    asked = [(line[2], line[:2]) for line in lines[:30] if len(line) > 2]
    rate = len(asked) / seconds(lambda: [model.score(word, context) for word, context in asked], repeats=1)
    figures["scoring_speedup_over_nltk"] = figures["scoring_rate"] / rate
    row("nltk.lm: scoring, Kneser-Ney, order 3", rate, "tokens/s", "after 2,000 sentences of training")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LMZOO_DATA"))
    parser.add_argument("--kenlm-bin", type=Path)
    parser.add_argument("--large", action="store_true")
    asked = parser.parse_args()
    folder = Path(asked.data or ".") / "brown-by-sentence"
    if not folder.is_dir():
        print(f"skipped: there is no {folder}; name the folder that holds it with --data or LMZOO_DATA")
        print(json.dumps({"skipped": "no brown-by-sentence"}))
        return
    figures: Figures = {}
    model, test = measure_fit(folder, figures)
    measure_reading(model, test, figures)
    for name, peer in [
        ("kenlm", lambda: measure_kenlm(folder, model, test, figures)),
        ("nltk", lambda: measure_nltk(folder, figures)),
    ]:
        try:
            peer()
        except ImportError as error:
            row(name, "skipped", "", f"{error}")
    if asked.kenlm_bin:
        measure_lmplz(folder, asked.kenlm_bin, figures)
    else:
        row("lmplz", "skipped", "", "--kenlm-bin was not given")
    if asked.large:
        measure_large(folder, figures)
    print(json.dumps({name: value and float(f"{value:.5g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
