"""Where a loss lies: what a model's tokens cost, told apart by what kind of tokens they are.

Functions of a stream of T tokens and of what a model gave them, log_probs (T,) in nats; they read no model. Every mean
has its standard error, for which documents are drawn independently of each other, and tokens are not: those of one
document are alike (the ratio estimator of cluster samples, Cochran 1977, section 6.3).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmzoo.checks import check_whole
from lmzoo.stream import TokenStream

_DEPTHS = (0, 1, 4, 16, 64, 256, 1024, 4096)
_COUNTS = (0, 1, 10, 100, 1000, 10_000)


@dataclass(frozen=True)
class Group:
    """Tokens of one kind."""

    name: str
    n: int
    nats: float
    """Mean surprisal."""
    error: float | None
    """Standard error of the mean; None if all are from one document."""


@dataclass(frozen=True)
class ConfidenceBin:
    """Tokens before which a model was about as sure of its first guess."""

    n: int
    confidence: float
    """Mean probability of the most likely token."""
    accuracy: float
    """How often it came."""
    error: float | None
    """Standard error of the accuracy; None if all are from one document."""


@dataclass(frozen=True)
class Passage:
    """Tokens `start` to `stop` of a stream, all in one document."""

    start: int
    stop: int
    nats: float
    """What they cost one model more than the other."""


def by_position(stream: TokenStream, log_probs: NDArray[np.floating]) -> list[Group]:
    """By the number of tokens before it in its document."""
    return _by_steps(stream, log_probs, _depths(stream), _DEPTHS)


def by_frequency(
    stream: TokenStream, log_probs: NDArray[np.floating], train_counts: NDArray[np.integer]
) -> list[Group]:
    """By how often the training text has the token, `train_counts` (V,)."""
    return _by_steps(stream, log_probs, train_counts[stream.ids], _COUNTS)


def by_novelty(stream: TokenStream, log_probs: NDArray[np.floating], train_counts: NDArray[np.integer]) -> list[Group]:
    """New in its document, or said in it before; and each by how often the training text has it.

    Rare tokens come again where they came once, frequent ones everywhere: apart, they tell what repetition is worth.
    """
    new = is_new(stream)
    names = [f"{kind}, {step}" for kind in ("new", "again") for step in _names(_COUNTS)]
    return _grouped(stream, log_probs, np.where(new, 0, len(_COUNTS)) + _step(train_counts[stream.ids], _COUNTS), names)


def by_tag(stream: TokenStream, log_probs: NDArray[np.floating], tags: NDArray[np.str_]) -> list[Group]:
    """By the tag (T,) of each token, the most frequent first."""
    names, own, n_each = np.unique(tags, return_inverse=True, return_counts=True)
    order = np.argsort(-n_each, kind="stable")
    return _grouped(stream, log_probs, np.argsort(order)[own], names[order].tolist())


def is_new(stream: TokenStream) -> NDArray[np.bool_]:
    """(T,) whether each token comes for the first time in its document."""
    own = _documents(stream) * (int(stream.ids.max(initial=0)) + 1) + stream.ids
    new = np.zeros(len(stream), np.bool_)
    new[np.unique(own, return_index=True)[1]] = True
    return new


def calibration(
    stream: TokenStream, top_log_probs: NDArray[np.floating], hits: NDArray[np.bool_], *, n_bins: int = 15
) -> list[ConfidenceBin]:
    """How often the first guess came, by how sure the model was of it, in bins of equal width (Guo et al. 2017).

    `top_log_probs` (T,) is that of the most likely token, and `hits` (T,) whether it was the one.
    """
    check_whole(1, n_bins=n_bins)
    confidence = np.exp(np.asarray(top_log_probs, np.float64))
    own = np.clip((confidence * n_bins).astype(np.intp), 0, n_bins - 1)
    n, accuracy, error = _means(stream, hits.astype(np.float64), own, n_bins)
    _, mean, _ = _means(stream, confidence, own, n_bins)
    return [ConfidenceBin(*of_bin) for of_bin in zip(n, mean, accuracy, error, strict=True) if of_bin[0]]


def calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """How far confidence and accuracy are apart on average (expected calibration error; Guo et al. 2017)."""
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
    """The passages of `length` tokens that cost one model the most more than another, the greatest first.

    `log_probs` (T,) are of the one that does worse there, `others` of the one that does better. Passages never overlap;
    a document with fewer tokens is a passage as a whole. There may be fewer than `n_passages` where one does worse.
    """
    check_whole(1, length=length, n_passages=n_passages)
    total = np.append(0.0, np.cumsum(np.asarray(others, np.float64) - log_probs))
    ends = stream.ends[_documents(stream)]
    starts = np.arange(len(stream))
    stops = np.minimum(starts + length, ends)
    nats = total[stops] - total[:-1]
    nats[(ends - starts < length) & ~np.isin(starts, stream.starts)] = -np.inf  # the ends of others
    found: list[Passage] = []
    while len(found) < n_passages and nats.max(initial=0) > 0:
        best = int(np.argmax(nats))
        found.append(Passage(best, int(stops[best]), float(nats[best])))
        nats[(starts < stops[best]) & (stops > best)] = -np.inf
    return found


# ---- Means and their errors ---------------------------------------------------------------------------


def _documents(stream: TokenStream) -> NDArray[np.intp]:
    """(T,) the number of each token's document."""
    return np.repeat(np.arange(stream.n_documents), stream.ends - stream.starts)


def _depths(stream: TokenStream) -> NDArray[np.int64]:
    return np.arange(len(stream)) - stream.starts[_documents(stream)]


def _step(values: NDArray[np.integer], steps: Sequence[int]) -> NDArray[np.intp]:
    return np.searchsorted(steps, values, side="right") - 1


def _names(steps: Sequence[int]) -> list[str]:
    """Those of the ranges between the steps: "0", "1–9", "10 or more"."""
    ranges = [f"{low:,}" if high == low + 1 else f"{low:,}–{high - 1:,}" for low, high in itertools.pairwise(steps)]
    return [*ranges, f"{steps[-1]:,} or more"]


def _by_steps(
    stream: TokenStream, log_probs: NDArray[np.floating], values: NDArray[np.integer], steps: Sequence[int]
) -> list[Group]:
    return _grouped(stream, log_probs, _step(values, steps), _names(steps))


def _grouped(
    stream: TokenStream, log_probs: NDArray[np.floating], own: NDArray[np.integer], names: Sequence[str]
) -> list[Group]:
    """One group for each name that has tokens; `own` (T,) is the place of each token's name."""
    n, nats, error = _means(stream, -np.asarray(log_probs, np.float64), own, len(names))
    return [Group(*of_group) for of_group in zip(names, n, nats, error, strict=True) if of_group[1]]


def _means(
    stream: TokenStream, values: NDArray[np.float64], own: NDArray[np.integer], n_groups: int
) -> tuple[list[int], list[float], list[float | None]]:
    """Of each group: how many tokens, the mean of their values (T,), and its standard error over documents."""
    shape = n_groups, stream.n_documents
    cells = own * stream.n_documents + _documents(stream)
    n_each = np.bincount(cells, minlength=n_groups * stream.n_documents).reshape(shape)  # (G, documents)
    sums = np.bincount(cells, values, minlength=n_groups * stream.n_documents).reshape(shape)
    n = n_each.sum(1)
    means = sums.sum(1) / np.maximum(n, 1)
    n_documents = np.count_nonzero(n_each, axis=1)
    squares = ((sums - means[:, None] * n_each) ** 2).sum(1)
    errors = np.sqrt(squares * n_documents / np.maximum(n_documents - 1, 1)) / np.maximum(n, 1)
    known = [error if documents > 1 else None for error, documents in zip(errors.tolist(), n_documents, strict=True)]
    return n.tolist(), means.tolist(), known
