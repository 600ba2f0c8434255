"""Estimates the probabilities of the n-grams of one partition, and those of single tokens and the head of the model.

The head of a model is the set of bigrams that begin with a split token; see `lmzoo.models.ngram.partitions`. All
partitions need the estimates for single tokens and for the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.ngram.counting.workspace import Workspace
from lmzoo.models.ngram.partitions.counting import LevelCounts
from lmzoo.models.ngram.smoothing import (
    N_FREQUENCIES,
    Estimated,
    Estimator,
    Level,
    Smoothing,
    counts_of_counts,
    left_out,
    uniform,
)
from lmzoo.system.executors import Arrays


@dataclass(frozen=True, eq=False)
class Totals:
    """The sums over all partitions of a text with V different tokens, from which smoothing parameters are learned."""

    unigrams: NDArray[np.int32]
    """(V,) the count of each token, as the smoothing method uses it."""
    sizes: NDArray[np.int64]
    """(n,) the numbers of n-grams of each length 1 .. n."""
    parts: NDArray[np.int64]
    """(P, n - 1) the numbers of n-grams of each length 2 .. n in each of P partitions, with those of the head."""
    counts_of_counts: NDArray[np.int64]
    """(n, 7) the numbers of n-grams of each length with the counts 0 .. 6."""
    head: Level
    """The bigrams that begin with a split token."""
    head_keys: NDArray[np.int64]
    """The key v V + w of each bigram "v w" of the head, in increasing order."""

    @classmethod
    def of(
        cls,
        order: int,
        smoothing: Smoothing,
        observed: NDArray[np.int64],
        split: NDArray[np.int32],
        partitions: Iterable[Arrays],
    ) -> Self:
        """Adds up the sums that the stage `sort` has yielded for all partitions.

        - `observed` (V,): the number of occurrences of each token.
        - `split`: the tokens whose n-grams are divided among several partitions.
        """
        n_before, parts = np.zeros(observed.size, np.int64), []
        frequencies = np.zeros((order - 1, N_FREQUENCIES), np.int64)
        keys, counts = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
        for sums in partitions:
            n_before += sums["n_before"]
            frequencies += sums["counts_of_counts"]
            parts.append(sums["sizes"])
            keys.append(sums["head_keys"])
            counts.append(sums["head_counts"])
        head_keys, places = np.unique(np.concatenate(keys), return_inverse=True)
        head_counts = np.zeros(head_keys.size, np.int32)
        np.add.at(head_counts, places, np.concatenate(counts))
        last = (head_keys % observed.size).astype(np.int32)
        starts = np.append(np.searchsorted(head_keys, split * np.int64(observed.size)), head_keys.size)
        n_before += np.bincount(last, minlength=observed.size)
        frequencies[0] += counts_of_counts(head_counts)
        sizes = np.sum(parts, axis=0)
        sizes[0] += head_keys.size - sum(map(len, keys))
        unigrams = LevelCounts(order, (0, 0), observed.astype(np.int32), n_before.astype(np.int32))
        used = smoothing.counts(unigrams, 1)
        return cls(
            used,
            np.append(observed.size, sizes),
            np.array(parts),
            np.vstack([counts_of_counts(used), frequencies]),
            Level(head_counts, starts.astype(np.int32), last, np.zeros(split.size, np.int32)),
            head_keys,
        )

    def with_sizes(self, parts: Sequence[NDArray[np.int64]]) -> Self:
        """Returns the same sums with other numbers of n-grams of each length 2 .. n in each of P partitions.

        The bigrams must be the same.
        """
        sizes = np.concatenate([self.sizes[:2], np.sum(parts, axis=0)[1:]])
        return replace(self, parts=np.array(parts), sizes=sizes)


@dataclass(frozen=True, eq=False)
class SharedEstimates:
    """The estimates that all partitions need: those for single tokens, and those for the head."""

    log_probs: NDArray[np.float32]
    """(V,) log-probabilities of the tokens."""
    backoff: NDArray[np.float32]
    """(1,) the log back-off weight of the empty context."""
    head_log_probs: NDArray[np.float32]
    head_backoffs: NDArray[np.float32]
    """Log-probabilities of the bigrams of the head, and log back-off weights of the split tokens."""
    arrays: Arrays
    """The arrays that the stage `estimate` reads."""

    @classmethod
    def of(
        cls, totals: Totals, split: NDArray[np.int32], smoothing: Smoothing, parameters: NDArray[np.float64]
    ) -> Self:
        """Estimates the probabilities of single tokens and of the head; `parameters` (n, P) are those of each order."""
        vocab_size, head, workspace = totals.unigrams.size, totals.head, Workspace()
        zero = np.zeros(1, np.int32)
        level = Level(totals.unigrams, np.array([0, vocab_size], np.int32), np.zeros(vocab_size, np.int32), zero)
        log_probs, backoff = np.empty(vocab_size, np.float32), np.empty(1, np.float32)
        unigrams = Estimator(vocab_size, smoothing, parameters[0], workspace).estimate(
            level, uniform(vocab_size), log_probs, backoff, highest=False
        )
        head_log_probs, head_backoffs = np.empty(head.counts.size, np.float32), np.empty(split.size, np.float32)
        bigrams = Estimator(vocab_size, smoothing, parameters[1], workspace).estimate(
            head, unigrams, head_log_probs, head_backoffs, highest=False
        )
        arrays = {
            "probs": unigrams.probs,
            "sums": unigrams.sums,
            "split": split,
            "head_keys": totals.head_keys,
            "head_probs": bigrams.probs,
            "head_sums": bigrams.sums,
        }
        return cls(log_probs, backoff, head_log_probs, head_backoffs, arrays)


def estimate(
    smoothing: Smoothing, parameters: NDArray[np.float64], min_count: int, shared: Arrays, *levels: Arrays
) -> Iterator[Arrays]:
    """Estimates the n-grams of one partition, given as the arrays that the stage `sort` yielded for each length 2 .. n.

    Yields for each length, with N n-grams and H contexts in the order of `sort`:

    - "log_probs" (N,), "backoffs" (H,): the log-probabilities of the n-grams and the log back-off weights of the
      contexts, in nats.
    - "in_head" (N,), for bigrams only: the index of each bigram in the head, or -1 if the bigram is not in the head.
      The estimates for bigrams in the head are not used.

    `parameters` (n, P) are the smoothing parameters of each order, and `shared` the arrays of `SharedEstimates`.
    N-grams of three or more tokens that occur fewer than `min_count` times are left out later.
    """
    vocab_size, workspace = shared["probs"].size, Workspace()
    lower = Estimated(shared["probs"], shared["sums"])
    for order, arrays in enumerate(levels, 2):
        rare = left_out(arrays["observed"], order, min_count) if min_count > 1 else None
        level = Level(arrays["counts"], arrays["starts"], arrays["suffixes"], arrays["context_suffixes"], left_out=rare)
        highest = order == len(levels) + 1
        log_probs, backoffs = (np.empty(size, np.float32) for size in (level.counts.size, level.starts.size - 1))
        estimator = Estimator(vocab_size, smoothing, parameters[order - 1], workspace)
        lower = estimator.estimate(level, lower, log_probs, backoffs, highest=highest)
        results: dict[str, NDArray[Any]] = {"log_probs": log_probs, "backoffs": backoffs}
        if order == 2:
            results["in_head"] = in_head = _in_head(shared, arrays)
            if not highest:
                lower.probs[in_head >= 0] = shared["head_probs"][in_head[in_head >= 0]]
            if lower.sums.size:
                rows = np.searchsorted(shared["split"], arrays["context_tokens"])
                is_split = np.isin(arrays["context_tokens"], shared["split"])
                lower.sums[is_split] = shared["head_sums"][rows[is_split]]
        yield results


def _in_head(shared: Arrays, arrays: Arrays) -> NDArray[np.int32]:
    """Returns the index (N,) in the head of each of N bigrams of a partition, or -1 if it is not in the head."""
    contexts = np.repeat(arrays["context_tokens"], np.diff(arrays["starts"]))
    keys = contexts * np.int64(shared["probs"].size) + arrays["last"]
    numbers = np.searchsorted(shared["head_keys"], keys)
    return np.where(np.isin(contexts, shared["split"]), numbers, -1).astype(np.int32)
