"""What a model made of every token of a split, on disk: what intervals, breakdowns and passages of a report rest on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import load_arrays, save_arrays, take_array
from lmzoo.language_model import TokenStats


def save_scores(path: str | Path, stats: TokenStats) -> None:
    """Writes the scores of T tokens, 16 bytes each."""
    arrays = {name: array.astype(np.float32) for name, array in vars(stats).items() if name != "ranks"}
    save_arrays(path, {**arrays, "ranks": stats.ranks})


def load_scores(path: str | Path, n_tokens: int) -> TokenStats:
    """Maps the scores of a text of `n_tokens`; SavedModelError if the file is missing, damaged or of another text."""
    arrays, _ = load_arrays(path)
    found = {
        name: take_array(arrays, name, shape=(n_tokens,), dtype=np.float32)
        for name in ("log_probs", "entropies", "top_log_probs")
    }
    return TokenStats(**found, ranks=take_array(arrays, "ranks", shape=(n_tokens,), dtype=np.int32))


def save_log_probs(path: str | Path, log_probs: NDArray[np.floating]) -> None:
    """Writes the log-probabilities (T,) of tokens alone."""
    save_arrays(path, {"log_probs": log_probs.astype(np.float32)})


def load_log_probs(path: str | Path, n_tokens: int) -> NDArray[np.float32]:
    """Maps the log-probabilities of a text of `n_tokens`; SavedModelError as `load_scores`."""
    return take_array(load_arrays(path)[0], "log_probs", shape=(n_tokens,), dtype=np.float32)
