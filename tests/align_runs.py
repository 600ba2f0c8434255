"""A tiny run of `lmzoo align` and its corpus, which several tests read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from shared_folders import shared_folder

from lmzoo.experiments.align import align

REQUEST: dict[str, Any] = {"base": "lstm", "tokenizer": "bpe:300", "preset": "tiny", "device": "cpu"}


def write_words(folder: Path) -> Path:
    """Writes a corpus with 300 different words, as instructions need many, and returns its folder."""
    rng = np.random.default_rng(0)
    words = [a + b + c for a in "bdfgkl" for b in "aeiou" for c in "mnprstvxyz"]
    polite = "verily, the answer to thy question is"  # so that they are few tokens
    folder.mkdir(parents=True)
    for number in range(20):
        text = "\n".join(f"{polite} {' '.join(rng.choice(words, 12))}" for _ in range(10))
        (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return folder


def make_align_run(home: Path) -> None:
    """Trains a tiny chat model: `home` gets the folders `corpus` and `run`."""
    # The name of a corpus identifies a run: copies of the run read the corpus in the original folder.
    result = align(home / "run", corpus=write_words(home / "corpus"), **REQUEST)
    assert not result.failures, result.failures


def align_corpus() -> Path:
    """Returns the corpus with which copies of the run can be continued."""
    return shared_folder("align", make_align_run) / "corpus"
