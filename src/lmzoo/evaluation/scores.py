"""Files with the scores of each token of a split, from which reports compute intervals, breakdowns and examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmzoo.arrays import check_numbers, load_arrays, save_arrays, take_array
from lmzoo.language_model import TokenStats

_COLUMNS = ("log_probs", "entropies", "top_log_probs")


def save_scores(path: str | Path, stats: TokenStats) -> None:
    """Writes the log-probability, entropy, rank and top log-probability of each token to a file, 16 bytes per token."""
    arrays = {name: getattr(stats, name).astype(np.float32) for name in _COLUMNS}
    save_arrays(path, {**arrays, "ranks": stats.ranks})


def load_scores(path: str | Path, n_tokens: int) -> TokenStats:
    """Reads the scores of each token of a text from a file that `save_scores` wrote; the arrays are memory-mapped.

    Raises SavedModelError if the file is missing, damaged, or for a text of another length.
    """
    arrays, _ = load_arrays(path)
    columns = {name: take_array(arrays, name, shape=(n_tokens,), dtype=np.float32) for name in _COLUMNS}
    check_numbers(columns)
    return TokenStats(**columns, ranks=take_array(arrays, "ranks", shape=(n_tokens,), dtype=np.int32))


def load_log_probs(path: str | Path, n_tokens: int) -> NDArray[np.float32]:
    """Reads the log-probability of each token of a text of `n_tokens` tokens from a file; the array is memory-mapped.

    Raises SavedModelError if the file is missing, damaged, or for a text of another length.
    """
    log_probs = take_array(load_arrays(path)[0], "log_probs", shape=(n_tokens,), dtype=np.float32)
    check_numbers({"log_probs": log_probs})
    return log_probs
