"""Losses of a model by kind of token, calibration, and passages on which two models differ.

The functions take a stream of T tokens and their log-probabilities (T,) in nats under a model; no model is read. The
standard error of every mean treats documents as independent samples, but not tokens, since the tokens of one document
are similar (the ratio estimator of cluster samples, Cochran 1977, section 6.3).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmzoo.checks import check_count
from lmzoo.stream import TokenStream

_DEPTHS = (0, 1, 4, 16, 64, 256, 1024, 4096)
_COUNTS = (0, 1, 10, 100, 1000, 10_000)


@dataclass(frozen=True)
class Group:
    """The mean surprisal of the tokens of one kind."""

    name: str
    n: int
    nats: float
    """Mean surprisal, in nats per token."""
    error: float | None
    """Standard error of the mean; None if all tokens are from one document."""


@dataclass(frozen=True)
class ConfidenceBin:
    """The predictions whose most likely token has a probability within one interval."""

    n: int
    confidence: float
    """Mean probability of the most likely token."""
    accuracy: float
    """Share of these predictions for which the most likely token is the observed one."""
    error: float | None
    """Standard error of the accuracy; None if all tokens are from one document."""


@dataclass(frozen=True)
class Passage:
    """The tokens with indices `start` to `stop` - 1 of a token stream, all in one document."""

    start: int
    stop: int
    nats: float
    """Surprisal under one model less that under the other, in nats."""


def by_position(stream: TokenStream, log_probs: NDArray[np.floating]) -> list[Group]:
    """Groups tokens by their position in the document and returns the mean surprisal of each group."""
    return _by_steps(stream, log_probs, _depths(stream), _DEPTHS)


def by_frequency(
    stream: TokenStream, log_probs: NDArray[np.floating], train_counts: NDArray[np.integer]
) -> list[Group]:
    """Groups tokens by their count in the training text and returns the mean surprisal of each group.

    `train_counts` (V,) holds the count of each of the V tokens of the vocabulary.
    """
    return _by_steps(stream, log_probs, train_counts[stream.ids], _COUNTS)


def by_novelty(stream: TokenStream, log_probs: NDArray[np.floating], train_counts: NDArray[np.integer]) -> list[Group]:
    """Groups tokens by first or repeated occurrence in their document, and by their count in the training text.

    Returns the mean surprisal of each group. Rare tokens repeat within documents, while frequent tokens occur
    everywhere, so the effect of repetition shows only at equal counts.
    """
    new = is_new(stream)
    names = [f"{kind}, {step}" for kind in ("first", "repeated") for step in _names(_COUNTS)]
    return _grouped(stream, log_probs, np.where(new, 0, len(_COUNTS)) + _step(train_counts[stream.ids], _COUNTS), names)


def by_tag(stream: TokenStream, log_probs: NDArray[np.floating], tags: NDArray[np.str_]) -> list[Group]:
    """Groups tokens by their tags (T,) and returns the mean surprisal of each group, the most frequent tag first."""
    names, group, n_each = np.unique(tags, return_inverse=True, return_counts=True)
    order = np.argsort(-n_each, kind="stable")
    return _grouped(stream, log_probs, np.argsort(order)[group], names[order].tolist())


def is_new(stream: TokenStream) -> NDArray[np.bool_]:
    """Returns a mask (T,) of the T tokens of a stream: True where a token occurs for the first time in its document."""
    pairs = _documents(stream) * (int(stream.ids.max(initial=0)) + 1) + stream.ids  # (document, token) as one number
    new = np.zeros(len(stream), np.bool_)
    new[np.unique(pairs, return_index=True)[1]] = True
    return new


def calibration(
    stream: TokenStream, top_log_probs: NDArray[np.floating], hits: NDArray[np.bool_], *, n_bins: int = 15
) -> list[ConfidenceBin]:
    """Groups predictions by the probability of the most likely token, in bins of equal width (Guo et al. 2017).

    `top_log_probs` (T,) holds the log-probability of the most likely token, and `hits` (T,) is True where this token
    was observed. Bins without predictions are left out.
    """
    check_count(1, n_bins=n_bins)
    confidence = np.exp(np.asarray(top_log_probs, np.float64))
    bins = np.clip((confidence * n_bins).astype(np.intp), 0, n_bins - 1)
    n, accuracy, error = _means(stream, hits.astype(np.float64), bins, n_bins)
    _, mean, _ = _means(stream, confidence, bins, n_bins)
    return [ConfidenceBin(*of_bin) for of_bin in zip(n, mean, accuracy, error, strict=True) if of_bin[0]]


def calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """Returns the expected calibration error: the mean of |confidence - accuracy| over tokens (Guo et al. 2017)."""
    n = sum(one.n for one in bins)
    return sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / n if n else 0.0


def disagreements(
    stream: TokenStream,
    log_probs: NDArray[np.floating],
    others: NDArray[np.floating],
    *,
    length: int = 40,
    n_passages: int = 2,
) -> list[Passage]:
    """Returns the passages of `length` tokens on which one model is worse than another, the largest difference first.

    `log_probs` (T,) are the log-probabilities of the T tokens under the worse model, `others` (T,) under the better
    one. Passages do not overlap. A document with fewer tokens is one passage. Fewer than `n_passages` are returned if
    the first model is worse on fewer passages.
    """
    check_count(1, length=length, n_passages=n_passages)
    total = np.append(0.0, np.cumsum(np.asarray(others, np.float64) - log_probs))
    ends = stream.ends[_documents(stream)]
    starts = np.arange(len(stream))
    stops = np.minimum(starts + length, ends)
    nats = total[stops] - total[:-1]
    nats[(ends - starts < length) & ~np.isin(starts, stream.starts)] = -np.inf  # a window that starts too late
    passages: list[Passage] = []
    while len(passages) < n_passages and nats.max(initial=0) > 0:
        best = int(np.argmax(nats))
        passages.append(Passage(best, int(stops[best]), float(nats[best])))
        nats[(starts < stops[best]) & (stops > best)] = -np.inf
    return passages


# ---- Means and their errors ---------------------------------------------------------------------------


def _documents(stream: TokenStream) -> NDArray[np.intp]:
    """Returns the index of the document that contains each of the T tokens of a stream, an array (T,)."""
    return np.repeat(np.arange(stream.n_documents), stream.ends - stream.starts)


def _depths(stream: TokenStream) -> NDArray[np.int64]:
    return np.arange(len(stream)) - stream.starts[_documents(stream)]


def _step(values: NDArray[np.integer], steps: Sequence[int]) -> NDArray[np.intp]:
    return np.searchsorted(steps, values, side="right") - 1


def _names(steps: Sequence[int]) -> list[str]:
    """Returns names of ranges of numbers, such as "0", "1–9", "10 or more"; `steps` are the starts of the ranges."""
    ranges = [f"{low:,}" if high == low + 1 else f"{low:,}–{high - 1:,}" for low, high in itertools.pairwise(steps)]
    return [*ranges, f"{steps[-1]:,} or more"]


def _by_steps(
    stream: TokenStream, log_probs: NDArray[np.floating], values: NDArray[np.integer], steps: Sequence[int]
) -> list[Group]:
    return _grouped(stream, log_probs, _step(values, steps), _names(steps))


def _grouped(
    stream: TokenStream, log_probs: NDArray[np.floating], group: NDArray[np.integer], names: Sequence[str]
) -> list[Group]:
    """Returns the mean surprisal of each group of tokens, for all groups that contain tokens.

    `log_probs` (T,) are the log-probabilities of the T tokens of the stream. `group` (T,) holds the group of each
    token, as an index in `names`, the names of the groups.
    """
    n, nats, error = _means(stream, -np.asarray(log_probs, np.float64), group, len(names))
    return [Group(*of_group) for of_group in zip(names, n, nats, error, strict=True) if of_group[1]]


def _means(
    stream: TokenStream, values: NDArray[np.float64], group: NDArray[np.integer], n_groups: int
) -> tuple[list[int], list[float], list[float | None]]:
    """Returns, for each group, the number of tokens, the mean of their values (T,), and its standard error.

    `group` (T,) holds the index of each token's group. Standard errors are over documents.
    """
    shape = n_groups, stream.n_documents
    cells = group * stream.n_documents + _documents(stream)
    n_each = np.bincount(cells, minlength=n_groups * stream.n_documents).reshape(shape)  # (G, documents)
    sums = np.bincount(cells, values, minlength=n_groups * stream.n_documents).reshape(shape)
    n = n_each.sum(1)
    means = sums.sum(1) / np.maximum(n, 1)
    n_documents = np.count_nonzero(n_each, axis=1)
    squares = ((sums - means[:, None] * n_each) ** 2).sum(1)
    errors = np.sqrt(squares * n_documents / np.maximum(n_documents - 1, 1)) / np.maximum(n, 1)
    known = [error if documents > 1 else None for error, documents in zip(errors.tolist(), n_documents, strict=True)]
    return n.tolist(), means.tolist(), known
