"""Measures `lmzoo fit ngram` on a large text: the time and the peak memory of the whole command.

    python benchmarks/bulk.py [--data DIR] [--megabytes 100] [--memory 500M] [--keep FILE]

The text is made from the King James Bible and, if they are in the folder DIR (default: $LMZOO_DATA), from
`tinyshakespeare.txt` and `brown-by-sentence/train.txt`: lines in random order, where one word in ten is replaced by a
random word, and one in a hundred by a word with a changed letter, so that new words and n-grams keep appearing. The
text is the same in every run.

The command runs as a process of its own, from text on disk to a model on disk, in a pseudo-terminal, so that it draws
its progress bar. Its memory is the sum over the process and its children, sampled ten times per second, and the peak
that the system reports for the process. The longest time without a change of the progress bar (other than its clock) is
measured, too. Run nothing else at the same time. A first fit of a short text, which compiles code, is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
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
    words, flat = np.unique(np.array([word for line in lines for word in line.split()], object), return_inverse=True)
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
    for name in ("tinyshakespeare.txt", "brown-by-sentence/train.txt"):
        if data and (data / name).is_file():
            texts.append((data / name).read_text(encoding="utf-8"))
    return [line for text in texts for line in text.split("\n") if line.strip()]


def _changed(words: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Yields each word with one letter replaced, and one inserted, at random positions."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    for word, place, first, second in zip(words, rng.random(len(words)), *rng.integers(26, size=(2, len(words)))):
        at = int(place * len(word))
        yield word[:at] + letters[first] + letters[second] + word[at + 1 :]
