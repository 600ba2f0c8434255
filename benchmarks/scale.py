"""Compares n-gram models fitted by several processes in partitions with those fitted in memory by one process.

    python benchmarks/scale.py [--data DIR] [--tokens 20] [--workers 2] [--memory 220M] [--flat] [--kenlm-bin DIR]

DIR (default: $LMZOO_DATA) is a folder with `brown-by-sentence/train.txt`, one sentence per line. The text has
`--tokens` million tokens: these sentences, and then copies with the words of each sentence in random order, so that new
long n-grams keep appearing. Each fit is measured in a process of its own, from the text on disk to the probabilities;
the token ids are kept in a file. With `--flat`, the `--workers` processes also fit a tenth of the text. `--kenlm-bin`
is the folder with KenLM's program `lmplz`, which then estimates a model of the same order from the same text. Run
nothing else at the same time, because the ratios compare times of one run. A first fit, which compiles code, is not
measured.

After each fit, a JSON object with all figures so far is printed:

    same_model                   all fits have the same arrays, bit for bit
    time_ratio, memory_ratio     time of `--workers` processes, and peak memory of the largest of them, divided by those
                                 of the fit in memory, which uses all cores
    lmplz_ratio                  time of `--workers` processes / time of `lmplz`
    efficiency                   time of one worker / (time of `--workers` workers x their number), both without the
                                 time until the first worker has started and without reading the text; the program has
                                 as many threads as workers, and each worker has one
    machine_efficiency           the same for independent processes that sort numbers: below 1 if a core is slower while
                                 other cores are busy, which also lowers `efficiency`
    flatness                     processor seconds per token / the same for a tenth of the text
    tokens_per_second_per_core   tokens / (time of `--workers` workers x their number)
    worker_megabytes, megabytes  peak memory of the largest of `--workers` processes, and of the process that joins them
    skew                         size of the largest partition / mean size
"""

from __future__ import annotations

import argparse
import array
import collections
import contextlib
import hashlib
import json
import logging
import multiprocessing
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil

from lmzoo.system.jobs import THREAD_VARIABLES

ORDER = 5
CHARACTERS = 1 << 24
Figures = dict[str, Any]


def write_text(source: Path, n_tokens: int, path: Path) -> None:
    """Writes sentences of a file, and copies with the words of each sentence in random order; each line is a document.

    The end of a document counts as a token.
    """
    lines = [line.split() for line in source.read_text(encoding="utf-8").splitlines()]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        copy = done = 0
        while done < n_tokens:
            rng = np.random.default_rng(copy)
            for line in lines:
                if done >= n_tokens:
                    break
                file.write(" ".join(rng.permutation(line) if copy else line) + "\n")
                done += len(line) + 1
            copy += 1


def fit(text: Path, workers: int, memory: str) -> Figures:
    """Fits an n-gram model to a text file in this process and its workers; returns its time, memory and checksum."""
    started = time.perf_counter()
    from lmzoo.mapped import drop_pages
    from lmzoo.models.ngram import ngram
    from lmzoo.stream import TokenStream, TrainingData
    from lmzoo.system.compiled import N_THREADS  # of this process; it is fixed now

    partitions = _Partitions()
    logging.getLogger("lmzoo").addHandler(partitions)
    logging.getLogger("lmzoo").setLevel(logging.INFO)
    vocabulary = collections.defaultdict[str, int]()
    vocabulary.default_factory = lambda: len(vocabulary) + 1
    with text.open(encoding="utf-8") as lines, tempfile.TemporaryFile() as file:
        while part := lines.readlines(CHARACTERS):
            ids = array.array("i")
            for line in part:
                ids.extend(map(vocabulary.__getitem__, line.split()))
                ids.append(0)
            ids.tofile(file)
        file.flush()
        stream = TokenStream(np.memmap(file, np.int32, "r"))
    vocab_size = len(vocabulary) + 1
    read = time.perf_counter()
    start = time_of_start(workers) if workers else 0.0
    watch = _WorkerMemory()
    before = time.perf_counter()
    model = ngram(vocab_size, order=ORDER, memory=memory if workers else "1G", workers=workers)
    with mock.patch.dict(os.environ, dict.fromkeys(THREAD_VARIABLES, "1")):  # read by the workers
        model.fit(TrainingData(stream, stream))
    ended = time.perf_counter()
    watch.stop()
    megabytes = peak_megabytes(os.getpid())
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    digest = hashlib.sha256()
    for name, values in sorted(model.arrays().items()):
        digest.update(name.encode())
        for position in range(0, values.size, CHARACTERS):
            digest.update(values[position : position + CHARACTERS].data)
            drop_pages(values)
    return {
        "tokens": len(stream),
        "threads": N_THREADS,
        "seconds": ended - started - (before - read),
        "fit_seconds": ended - before,
        "fit_seconds_without_start": ended - before - start,
        "processor_seconds": sum(usage.ru_utime + usage.ru_stime for usage in (own, children)),
        "megabytes": megabytes,
        "worker_megabytes": watch.peak,
        "partitions": partitions.number,
        "skew": partitions.skew,
        "sha256": digest.hexdigest(),
    }


class _Partitions(logging.Handler):
    """A log handler that keeps the number of partitions and their skew, which lmzoo logs."""

    number, skew = 0, 1.0

    def emit(self, record: logging.LogRecord) -> None:
        if "partitions" in record.msg and isinstance(record.args, tuple):
            self.number, self.skew = int(str(record.args[0])), float(str(record.args[1]))


class _WorkerMemory(threading.Thread):
    """A thread that reads the peak resident memory of each child of this process ten times per second, on Linux.

    The peak that the system reports after a child has ended cannot be used: it includes the memory that the parent had
    when the child was started.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        """In megabytes."""
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(0.1):
            for process in psutil.Process().children():
                with contextlib.suppress(OSError):
                    self.peak = max(self.peak, peak_megabytes(process.pid))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def peak_megabytes(pid: int) -> float:
    """Returns the peak resident memory of a process so far, on Linux."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def time_of_start(workers: int) -> float:
    """Returns the time until a worker process has done its first task, with all imports that a fit needs."""
    from lmzoo.models.ngram.partitions.plan import count_tokens
    from lmzoo.system.executors import local_processes

    before = time.perf_counter()
    with local_processes(workers) as executor:
        handle = executor.put({"ids": np.zeros(1, np.int32)})
        list(executor.map(count_tokens, [(handle, 0, 1)] * workers))
    return time.perf_counter() - before


def measured(text: Path, workers: int, memory: str) -> Figures:
    """Fits a text in a new process; prints and returns the time and the memory that the fit took.

    The process has as many threads as workers, even if there are fewer workers than cores, and each worker has one.
    """
    command = [sys.executable, __file__, "--fit", str(text), "--workers", str(workers), "--memory", memory]
    variables = os.environ | (dict.fromkeys(THREAD_VARIABLES, str(workers)) if workers else {})
    figures = json.loads(subprocess.run(command, check=True, env=variables, stdout=subprocess.PIPE, text=True).stdout)
    print(
        f"{f'{workers} workers' if workers else 'in memory':<10} {figures['tokens'] / 1e6:6.1f} M tokens "
        f"{figures['seconds']:7.1f} s (fit {figures['fit_seconds']:.1f} s, processors "
        f"{figures['processor_seconds']:.1f} s)  peak {figures['megabytes']:,.0f} MB, of a worker "
        f"{figures['worker_megabytes']:,.0f} MB  {figures['partitions']} partitions, {figures['threads']} threads",
        flush=True,
    )
    return figures


def machine_efficiency(n_processes: int) -> float:
    """Returns the time that one process takes to sort numbers, divided by the time if `n_processes` do so together."""
    times: list[tuple[float, float]] = []
    with multiprocessing.Pool(n_processes) as pool:
        for _ in range(5):
            alone = pool.apply(seconds_of_sorting)
            times.append((alone, statistics.mean(pool.map(seconds_of_sorting, [4] * n_processes, chunksize=1))))
    alone, together = (statistics.median(column) for column in zip(*times, strict=True))
    return alone / together


def seconds_of_sorting(n_times: int = 4) -> float:
    """Returns the time in seconds that it takes to sort four million numbers `n_times` times."""
    numbers = np.random.default_rng(0).integers(0, 1 << 60, 1 << 22)
    started = time.perf_counter()
    for _ in range(n_times):
        np.sort(numbers)
    return time.perf_counter() - started


def time_of_lmplz(program: Path, text: Path, folder: Path) -> Figures:
    """Estimates a model with KenLM's `lmplz`, which writes an ARPA file; prints and returns the time that it took."""
    command = [program, "-o", str(ORDER), "-S", "1G", "-T", folder, "--discount_fallback"]
    with text.open("rb") as source, tempfile.TemporaryFile(dir=folder) as arpa:
        before = time.perf_counter()
        subprocess.run(command, check=True, stdin=source, stdout=arpa, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - before
    print(f"lmplz      {seconds:.1f} s", flush=True)
    return {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LMZOO_DATA"))
    parser.add_argument("--tokens", type=float, default=20, help="millions of tokens")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="220M", help="memory of each worker")
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--kenlm-bin", type=Path)
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.fit:
        print(json.dumps(fit(asked.fit, asked.workers, asked.memory)))
        return
    source = Path(asked.data or ".") / "brown-by-sentence" / "train.txt"
    if not source.is_file():
        parser.error(f"there is no {source}; name the folder that holds brown-by-sentence with --data")
    with tempfile.TemporaryDirectory() as folder:
        text, short, tenth = (Path(folder) / f"{name}.txt" for name in ("text", "short", "tenth"))
        write_text(source, 20_000, short)
        for workers in (0, 1):
            fit(short, workers, asked.memory)
        write_text(source, int(asked.tokens * 1e6), text)
        fits: dict[str, Figures] = {"several": measured(text, asked.workers, asked.memory)}
        print_figures(fits, asked.workers)
        if asked.flat:
            write_text(source, int(asked.tokens * 1e5), tenth)
            fits["tenth"] = measured(tenth, asked.workers, asked.memory)
            print_figures(fits, asked.workers)
        if asked.kenlm_bin:
            fits["lmplz"] = time_of_lmplz(asked.kenlm_bin / "lmplz", text, Path(folder))
            print_figures(fits, asked.workers)
        fits["machine"] = {"efficiency": machine_efficiency(asked.workers)}
        for name, workers in (("alone", 0), ("one", 1)):
            fits[name] = measured(text, workers, asked.memory)
            print_figures(fits, asked.workers)


def print_figures(fits: dict[str, Figures], n_workers: int) -> None:
    """Prints the figures that can be computed from the fits so far as a JSON object."""
    several = fits["several"]
    figures: Figures = {
        "tokens_per_second_per_core": several["tokens"] / several["seconds"] / n_workers,
        "worker_megabytes": several["worker_megabytes"],
        "megabytes": several["megabytes"],
        "skew": several["skew"],
    }
    if tenth := fits.get("tenth"):
        per_token = [fit["processor_seconds"] / fit["tokens"] for fit in (several, tenth)]
        figures["flatness"] = per_token[0] / per_token[1]
    if lmplz := fits.get("lmplz"):
        figures["lmplz_ratio"] = several["seconds"] / lmplz["seconds"]
    if alone := fits.get("alone"):
        figures |= {
            "same_model": alone["sha256"] == several["sha256"],
            "time_ratio": several["seconds"] / alone["seconds"],
            "memory_ratio": several["worker_megabytes"] / alone["megabytes"],
        }
    if one := fits.get("one"):
        figures["same_model"] &= one["sha256"] == several["sha256"]
        figures["efficiency"] = one["fit_seconds_without_start"] / several["fit_seconds_without_start"] / n_workers
        figures["machine_efficiency"] = fits["machine"]["efficiency"]
    rounded = {name: value if isinstance(value, bool) else float(f"{value:.4g}") for name, value in figures.items()}
    print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()
