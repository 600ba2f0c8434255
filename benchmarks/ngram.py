"""Compares n-gram models with KenLM and nltk.lm: the probabilities, and the time and memory to fit, score and predict.

    python benchmarks/ngram.py [--data DIR] [--kenlm-bin DIR] [--part brown|20m|all]

DIR (default: $LMZOO_DATA) is a folder with `brown-by-sentence`: the sentences of Brown, and the models that KenLM's
`lmplz` estimated from them. Scoring with KenLM needs `pip install "lmzoo[peers]"`. Fitting with KenLM needs its
programs `lmplz` and `build_binary` in the folder `--kenlm-bin`; the source distribution of kenlm on PyPI contains them.
Part 20m fits 20 million tokens: Brown and 19 copies with shuffled sentences. Programs that are not installed are
skipped with a message. `benchmarks/bengio.py` measures perplexities under the protocol of Bengio et al. (2003).

Each fit is measured as a process, from text on disk to a model on disk, with its peak resident memory. Run nothing else
at the same time: ratios compare times of one run. A first fit, which compiles code, is not measured.
"""

from __future__ import annotations

import argparse
import array
import collections
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmzoo.arrays import load_arrays, save_arrays
from lmzoo.models.ngram import NgramModel, ngram, trigram
from lmzoo.stream import TokenStream, TrainingData

ORDER = 5
Figures = dict[str, float | None]


def seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Returns the shortest time of several calls of `work`, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def consume(results: Iterable[Any]) -> None:
    """Iterates over results and drops each before the next: distributions over large vocabularies need much memory."""
    for _ in results:
        pass


def row(name: str, value: float | str, unit: str = "", note: str = "") -> None:
    shown = value if isinstance(value, str) else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
    print(f"{name:<46} {shown:>14} {unit:<12} {note}".rstrip(), flush=True)


def read_corpus(folder: Path) -> tuple[int, TrainingData, TokenStream]:
    """Returns the vocabulary size, the splits train and valid, and the split test of Brown.

    Token ids are assigned by decreasing frequency. The vocabulary size includes an unused id for KenLM's `<unk>`.
    """
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


def fit_text(text: Path, out: Path | None) -> None:
    """Fits an n-gram model to a text file in a process of its own; saves it to `out`, unless that is None.

    Tokens are separated by white space, and each line is a document.
    """
    vocabulary = collections.defaultdict[str, int]()
    vocabulary.default_factory = lambda: len(vocabulary) + 2  # ids 0 and 1 are EOT and KenLM's <unk>
    ids = array.array("i")
    with text.open(encoding="utf-8") as lines:
        for line in lines:
            ids.extend(map(vocabulary.__getitem__, line.split()))
            ids.append(0)
    stream = TokenStream(np.frombuffer(ids, np.int32))
    model = ngram(len(vocabulary) + 2, order=ORDER).fit(TrainingData(stream, stream))
    if out:
        save_arrays(out, model.arrays())


def process(*command: object, stdin: Path | None = None, stdout: Path | None = None) -> tuple[float, float]:
    """Runs a command; returns its time in seconds and its peak memory in megabytes."""
    with contextlib.ExitStack() as files:
        source = files.enter_context(stdin.open("rb")) if stdin else subprocess.DEVNULL
        sink = files.enter_context(stdout.open("wb")) if stdout else subprocess.DEVNULL
        start = time.perf_counter()
        started = subprocess.Popen([*map(str, command)], stdin=source, stdout=sink, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(started.pid, 0)
        taken = time.perf_counter() - start
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise subprocess.CalledProcessError(started.returncode, started.args)
    return taken, usage.ru_maxrss / 1024


def median(runs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Returns the median time and the median memory of several runs of a process."""
    taken, megabytes = np.median(runs, axis=0)
    return float(taken), float(megabytes)


def measure_fit(text: Path, programs: Path | None, figures: Figures, prefix: str, *, save: bool, repeats: int) -> None:
    """Measures fits from a text file to a saved model, or without `save` to the probabilities in memory."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as temporary:
        arpa, binary, model = (Path(temporary) / name for name in ("model.arpa", "model.bin", "model.safetensors"))
        for _ in range(repeats):  # alternating, so that both run under the same conditions
            out = ["--out", model] if save else []
            ours.append(process(sys.executable, __file__, "--fit", text, *out))
            if programs:
                estimate = [
                    programs / "lmplz",
                    "-o",
                    ORDER,
                    "-S",
                    "1G" if save else "4G",
                    "-T",
                    temporary,
                    "--discount_fallback",
                ]
                parts = [process(*estimate, stdin=text, stdout=arpa)]
                if save:
                    parts.append(process(programs / "build_binary", arpa, binary))
                theirs.append((sum(seconds for seconds, _ in parts), max(megabytes for _, megabytes in parts)))
    taken, megabytes = median(ours)
    row(f"text to {'saved model' if save else 'probabilities'}", taken, "s", f"peak {megabytes:,.0f} MB")
    if not theirs:
        row("KenLM: the same", "skipped", "", "--kenlm-bin was not given")
        return
    their_time, their_megabytes = median(theirs)
    figures[f"{prefix}_time_ratio"] = taken / their_time
    figures[f"{prefix}_memory_ratio"] = megabytes / their_megabytes
    row(
        "KenLM: the same", their_time, "s", f"peak {their_megabytes:,.0f} MB; lmzoo takes "
        f"{taken / their_time:.2f} of the time and {megabytes / their_megabytes:.2f} of the memory",
    )  # fmt: skip


def measure_models(folder: Path, figures: Figures) -> tuple[NgramModel, TokenStream]:
    """Measures test perplexities, and the time to load a saved model."""
    vocab_size, data, test = read_corpus(folder)
    model = ngram(vocab_size, order=ORDER).fit(data)
    figures["perplexity"] = math.exp(-model.log_probs(test).mean())
    row("test perplexity", f"{figures['perplexity']:.3f}", "per token")
    for name, other in [("order 3", ngram(vocab_size, order=3)), ("trigram, Jelinek-Mercer", trigram(vocab_size))]:
        row(f"test perplexity, {name}", f"{math.exp(-other.fit(data).log_probs(test).mean()):.3f}")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.safetensors"
        save_arrays(path, model.arrays())

        def opened() -> None:
            ngram(vocab_size, order=ORDER).load_arrays(load_arrays(path)[0])

        figures["open_time"] = seconds(opened)
        row("open the saved model", 1000 * figures["open_time"], "ms", f"{path.stat().st_size / 1e6:.0f} MB")
    return model, test


def write_20m(folder: Path, path: Path) -> None:
    """Writes the train sentences of Brown and 19 copies with the words of each sentence shuffled."""
    lines = [line.split() for line in (folder / "train.txt").read_text(encoding="utf-8").splitlines()]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for copy in range(20):
            rng = np.random.default_rng(copy)
            file.writelines(" ".join(rng.permutation(line) if copy else line) + "\n" for line in lines)


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
    rate = len(contexts) / seconds(lambda: consume(map(model.next_log_probs_after, batches)))
    figures["batched_distribution_rate"] = rate
    row("full distributions, 64 at a time", rate, "contexts/s")


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hides the progress bar that KenLM writes to stderr, below Python's `sys.stderr`."""
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
    """Measures the Python package of KenLM with the ARPA file that `lmplz` wrote."""
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
    # Alternating, so that both run under the same conditions.
    works = (lambda: ours.log_probs(test), lambda: [model.score(sentence) for sentence in sentences])
    rounds = [[seconds(work, repeats=1) for work in works] for _ in range(30)]
    our_time, their_time = np.min(rounds, axis=0)
    figures["scoring_speedup"], rate = their_time / our_time, len(test) / their_time
    row("KenLM: scoring (Python, score)", rate, "tokens/s")
    row("  lmzoo, in turn with it", len(test) / our_time, "tokens/s", f"{figures['scoring_speedup']:.1f} times as fast")
    words = sorted(set((folder / "train.txt").read_text(encoding="utf-8").split()))
    state, after = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(state)
    rate = 3 / seconds(lambda: [model.BaseScore(state, word, after) for _ in range(3) for word in words], repeats=3)
    for name in ("distribution", "batched_distribution"):
        figures[f"{name}_speedup"] = figures[f"{name}_rate"] / rate
    row("KenLM: distributions (a loop over all words)", rate, "contexts/s")
    row("  lmzoo, one after another", figures["distribution_speedup"], "times as fast")
    row("  lmzoo, 64 at a time", figures["batched_distribution_speedup"], "times as fast")


def measure_nltk(folder: Path, figures: Figures) -> None:
    """Measures interpolated Kneser-Ney of nltk, on few sentences and tokens, because each call visits every context."""
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
    parser.add_argument("--part", choices=["brown", "20m", "all"], default="all")
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.fit:
        fit_text(asked.fit, asked.out)
        return
    figures: Figures = {}
    folder = Path(asked.data or ".") / "brown-by-sentence"
    if not folder.is_dir():
        row("brown, 20m", "skipped", "", f"there is no {folder}; name the folder that holds it with --data")
    elif asked.part in ("brown", "20m", "all"):
        fit_text(folder / "valid.txt", None)  # compiles all code before the measurements
    if folder.is_dir() and asked.part in ("brown", "all"):
        measure_fit(folder / "train.txt", asked.kenlm_bin, figures, "fit", save=True, repeats=5)
        model, test = measure_models(folder, figures)
        measure_reading(model, test, figures)
        for name, peer in [
            ("kenlm", lambda: measure_kenlm(folder, model, test, figures)),
            ("nltk", lambda: measure_nltk(folder, figures)),
        ]:
            try:
                peer()
            except ImportError as error:
                row(name, "skipped", "", f"{error}")
    if folder.is_dir() and asked.part in ("20m", "all"):
        with tempfile.TemporaryDirectory() as temporary:
            text = Path(temporary) / "20m.txt"
            write_20m(folder, text)
            measure_fit(text, asked.kenlm_bin, figures, "fit_20m", save=False, repeats=1)
    print(json.dumps({name: value and float(f"{value:.5g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
