"""Measures `lmzoo fit ngram` on a large text: the time and the peak memory of the whole command.

    python benchmarks/bulk.py [--data DIR] [--megabytes 100] [--memory 500M] [--keep FILE]

The text is made from the King James Bible and, if they are in the folder DIR (default: $LMZOO_DATA), from
`tinyshakespeare.txt` and `brown-by-sentence/train.txt`: lines in random order, where one word in ten is replaced by a
random word, and one in a hundred by a word with a changed letter, so that new words and n-grams keep appearing. The
text is the same in every run.

The command runs as a process of its own, from text on disk to a model on disk, in a pseudo-terminal, so that it draws
its progress bar. Its memory is the larger of two figures: the peak that the system reports for the process, and the
peak of the sum over the process and its children, sampled ten times per second, where shared pages count once (PSS).
The longest time in which the progress bar shows nothing new, besides its clock, is measured too. Run nothing else at
the same time. A first fit of a short text, which compiles code, is not measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from lmzoo.corpora import load_corpus

_N_NEW_WORDS = 200_000
_BLOCK_LINES = 20_000


def write_text(path: Path, n_bytes: int, data: Path | None) -> None:
    """Writes a text of at least `n_bytes` bytes to a file, made of the lines of natural texts with changed words."""
    rng = np.random.default_rng(0)
    lines = _lines(data)
    words, flat = np.unique(np.array([word for line in lines for word in line.split()]), return_inverse=True)
    lengths = np.array([len(line.split()) for line in lines])
    starts = np.cumsum(lengths) - lengths
    spellings = [*words.tolist(), *_changed(words[rng.choice(flat, _N_NEW_WORDS)].tolist(), rng)]
    written = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        while written < n_bytes:
            chosen = rng.integers(len(lines), size=_BLOCK_LINES)
            sizes = lengths[chosen]
            ends = np.cumsum(sizes)
            ids = flat[np.repeat(starts[chosen] - ends + sizes, sizes) + np.arange(ends[-1])]
            kind = rng.random(ids.size)
            ids = np.where(kind < 0.1, rng.choice(flat, ids.size), ids)
            ids = np.where(kind < 0.01, len(words) + rng.integers(_N_NEW_WORDS, size=ids.size), ids)
            chosen_words = [spellings[index] for index in ids.tolist()]
            first = 0
            for number, end in enumerate(ends.tolist()):
                # A blank line ends a paragraph of ten lines.
                separator = "\n\n" if number % 10 == 9 else "\n"
                written += file.write(" ".join(chosen_words[first:end]) + separator)
                first = end


def _lines(data: Path | None) -> list[str]:
    texts = [document.text for document in load_corpus("kjv").train]
    files = [data / name for name in ("tinyshakespeare.txt", "brown-by-sentence/train.txt")] if data else []
    texts += [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    return [line for text in texts for line in text.split("\n") if line.strip()]


def _changed(words: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Yields each word with one letter replaced, and one inserted, at random positions."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    places, new = rng.random(len(words)), rng.integers(len(letters), size=(len(words), 2))
    for word, place, (first, second) in zip(words, places.tolist(), new.tolist(), strict=True):
        at = int(place * len(word))
        yield word[:at] + letters[first] + letters[second] + word[at + 1 :]


class Watch:
    """Records the memory of a process and its children, and the changes of its progress bar, while the process runs."""

    def __init__(self, process: psutil.Process, terminal: int) -> None:
        self.peak_memory = 0.0
        """In bytes, the largest sum over the process and its children."""
        self.longest_pause = 0.0
        """In seconds, the longest time in which the progress bar showed nothing new besides its clock."""
        self._process, self._terminal = process, terminal
        self._threads = [threading.Thread(target=self._watch_memory), threading.Thread(target=self._watch_bar)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Waits until the process has ended."""
        for thread in self._threads:
            thread.join()

    def _watch_memory(self) -> None:
        while True:
            try:
                processes = [self._process, *self._process.children(recursive=True)]
                # Shared pages count once: a child that is about to start another program shares those of its parent.
                memory = sum(process.memory_full_info().pss for process in processes)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                return
            if not memory:
                return
            self.peak_memory = max(self.peak_memory, memory)
            time.sleep(0.1)

    def _watch_bar(self) -> None:
        shown, changed = "", time.perf_counter()
        while True:
            try:
                drawn = os.read(self._terminal, 1 << 16).decode(errors="replace")
            except OSError:  # the process has closed its side
                return
            # Without the clock ("0:00:07") and the remaining time, the bar must still change.
            new = re.sub(r"\d+:\d\d:\d\d|-:--:--|\x1b\[[0-9;?]*[A-Za-z]", "", drawn).strip()
            if new and new != shown:
                now = time.perf_counter()
                self.longest_pause = max(self.longest_pause, now - changed)
                shown, changed = new, now


def measure(text: Path, memory: str, out: Path) -> dict[str, float]:
    """Fits an n-gram model to a text file with the command line; returns seconds, megabytes and the longest pause."""
    command = [sys.executable, "-m", "lmzoo", "fit", "ngram", "--corpus", text, "--memory", memory, "--out", out]
    ours, theirs = pty.openpty()
    start = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    watch = Watch(psutil.Process(process.pid), ours)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    watch.join()
    os.close(ours)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return {
        "megabytes_of_text": text.stat().st_size / 1e6,
        "seconds": seconds,
        "peak_megabytes": max(watch.peak_memory / 1e6, usage.ru_maxrss * 1024 / 1e6),
        "longest_pause_of_the_bar": watch.longest_pause,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="time and memory of lmzoo fit ngram on a large text")
    parser.add_argument("--data", type=Path, default=os.environ.get("LMZOO_DATA"))
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--memory", default="500M")
    parser.add_argument("--keep", type=Path, help="file in which the text is kept; an existing text is used again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        short, text = Path(folder) / "short.txt", arguments.keep or Path(folder) / "text.txt"
        # In another process: Linux counts the memory of the parent at the start of a child as memory of the child.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(write_text, short, 100_000, arguments.data).result()
            if not text.exists():
                pool.submit(write_text, text, int(arguments.megabytes * 1e6), arguments.data).result()
        measure(short, arguments.memory, Path(folder) / "short")
        figures = measure(text, arguments.memory, Path(folder) / "model")
    print(
        f"{figures['megabytes_of_text']:.0f} MB of text: {figures['seconds']:.1f} s, "
        f"{figures['peak_megabytes']:.0f} MB peak memory; the progress bar paused for at most "
        f"{figures['longest_pause_of_the_bar']:.1f} s"
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
