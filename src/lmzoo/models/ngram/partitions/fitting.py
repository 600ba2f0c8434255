"""Fits an n-gram model in partitions: runs the stages and adds their sums."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmzoo.mapped import drop_read_only_pages
from lmzoo.models.ngram.counting.workspace import Workspace, blocks
from lmzoo.models.ngram.partitions.counting import cut, sort
from lmzoo.models.ngram.partitions.estimating import SharedEstimates, Totals, estimate
from lmzoo.models.ngram.partitions.joining import Part, Read, join
from lmzoo.models.ngram.partitions.leaving_out import leave_out
from lmzoo.models.ngram.partitions.plan import Plan, count_pairs, count_tokens, too_frequent
from lmzoo.models.ngram.smoothing import Smoothing
from lmzoo.models.ngram.trie import Trie
from lmzoo.models.ngram.weights import Weights
from lmzoo.stream import EOT, TokenStream
from lmzoo.system.executors import Executor, local_processes
from lmzoo.system.progress import StepProgress
from lmzoo.system.ray_executor import ray_cluster

_logger = logging.getLogger(__name__)

_PROGRAM = 160 * 2**20
"""The memory of a worker without arrays, in bytes: Python, numpy, numba and the compiled code."""
_LEAST_TASKS = 4
"""Least number of shards and of partitions for each worker, so that all workers finish at about the same time."""


@dataclass(frozen=True, eq=False)
class Partitions:
    """All n-grams of a text with their estimates, in partitions, as long as the executor that made them keeps them."""

    plan: Plan
    totals: Totals
    shared: SharedEstimates
    parameters: NDArray[np.float64]
    """(n, P) the parameters that the smoothing method has learned for each order."""
    read: Read
    end: NDArray[np.int32]
    """The last tokens of the text, if its last document has no EOT; see `join`."""


def executor_for(n_workers: int, cluster: str) -> AbstractContextManager[Executor[Any]]:
    """Returns a context manager that yields an executor, and closes it at the end of the `with` block.

    The executor has `n_workers` processes of this computer, or is a Ray cluster if `cluster` is its address. With 0
    workers and no cluster, it runs everything in this process.
    """
    return ray_cluster(cluster, n_workers) if cluster else local_processes(n_workers)


def fit_in_partitions(
    text: TokenStream,
    vocab_size: int,
    order: int,
    smoothing: Smoothing,
    executor: Executor[Any],
    *,
    min_count: int,
    memory: int,
    workspace: Workspace,
    progress: StepProgress,
) -> tuple[Trie, Weights, NDArray[np.float64]]:
    """Fits the n-grams of length 1 to `order` of a text; returns their trie, weights and learned parameters (n, P).

    `workspace` allocates the arrays of the result; the other arguments are those of `estimate_partitions`. There are
    `order` + 4 steps, or one more if `min_count` is above 1.
    """
    parts = estimate_partitions(
        text, vocab_size, order, smoothing, executor, min_count=min_count, memory=memory, progress=progress
    )
    trie, weights = join(parts.plan, parts.totals, parts.shared, parts.end, parts.read, workspace, progress.start)
    return trie, weights, parts.parameters


def estimate_partitions(
    text: TokenStream,
    vocab_size: int,
    order: int,
    smoothing: Smoothing,
    executor: Executor[Any],
    *,
    min_count: int,
    memory: int,
    progress: StepProgress,
) -> Partitions:
    """Counts all n-grams of length 1 to `order` of a text and estimates their probabilities, in partitions.

    - `smoothing`: the method, which must not be learned from the validation set (`Smoothing.tuned`).
    - `executor`: runs the stages. `memory` is the number of bytes that each of its workers may use.
    - `min_count`: n-grams of three or more tokens that occur fewer times are left out.
    - `progress`: receives reports of five steps, or six if `min_count` is above 1.
    """
    memory = max(memory - _PROGRAM, memory // 4)  # of arrays
    n_partitions = count_partitions(len(text), order, memory, executor.n_workers)

    def all_of(stage: Callable[..., Any], tasks: list[tuple[Any, ...]], n_results: int = 1) -> Iterator[list[Any]]:
        for n_done, handles in enumerate(executor.map(stage, tasks, n_results), 1):
            yield handles
            progress.report(n_done / len(tasks))

    def total_of(stage: Callable[..., Any], *arguments: Any) -> NDArray[np.int64]:
        total: Any = 0
        for (handle,) in all_of(stage, [(*shard, *arguments) for shard in shards]):
            total = total + executor.get(handle)["counts"].astype(np.int64)
            executor.free([handle])
        return total

    progress.start("counting tokens")
    shards = list(_shards(text, order, memory, executor))
    counts = total_of(count_tokens, vocab_size)
    split = too_frequent(counts, n_partitions)
    progress.start("planning partitions")
    pairs, owners = np.empty((0, vocab_size), np.int64), np.zeros(vocab_size, np.int32)
    if split.size:
        owners[split] = -1 - np.arange(split.size)
        pairs = total_of(count_pairs, order, owners, split.size)
    plan = Plan.of(counts, split, pairs, n_partitions)
    mean = max(1.0, float(plan.sizes.mean()))
    _logger.info(
        "%d partitions; the largest is %.2f times the mean, %d tokens", n_partitions, plan.sizes.max() / mean, mean
    )
    progress.start("cutting n-grams")
    pieces = [*all_of(cut, [(*shard, order, plan) for shard in shards], n_partitions)]
    executor.free(handle for handle, _ in shards)
    progress.start("sorting n-grams")
    tasks = [(order, vocab_size, smoothing, split, min_count, *part) for part in zip(*pieces, strict=True)]
    levels = [*all_of(sort, tasks, order)]
    tasks.clear()
    while pieces:
        executor.free(pieces.pop())
    progress.start("estimating probabilities")
    totals = Totals.of(order, smoothing, counts, split, (executor.get(handles.pop()) for handles in levels))
    parameters = smoothing.parameters_from(totals.counts_of_counts)
    shared = SharedEstimates.of(totals, split, smoothing, parameters)
    handle = executor.put(shared.arrays)
    tasks = [(smoothing, parameters, min_count, handle, *handles) for handles in levels]
    estimates = [*all_of(estimate, tasks, order - 1)]
    tasks.clear()
    if min_count > 1:
        progress.start("leaving out rare n-grams")
        tasks = [(min_count, *level, *of_level) for level, of_level in zip(levels, estimates, strict=True)]
        levels = estimates = [*all_of(leave_out, tasks, order)]
        totals = totals.with_sizes([executor.get(handles.pop())["sizes"] for handles in levels])

    def read(partition: int, length: int) -> Part:
        return Part(*(executor.get(handles[partition][length - 2]) for handles in (levels, estimates)))

    return Partitions(plan, totals, shared, parameters, read, _open_end(text, order - 1))


def count_partitions(n_tokens: int, order: int, memory: int, n_workers: int) -> int:
    """Returns a number of partitions with which even a partition of twice the mean size fits the memory of a worker.

    `memory` is the number of bytes that each worker may use. There are at least four partitions for each worker.
    """
    # Each record needs two copies, 12 bytes in the trie for each of its n-grams, and the arrays of one length.
    n_bytes = 6 * order + 12 * (order - 1) + 50
    return max(math.ceil(2 * n_bytes * n_tokens / memory), _LEAST_TASKS * n_workers)


def _shards(text: TokenStream, order: int, memory: int, executor: Executor[Any]) -> Iterator[tuple[Any, int]]:
    """Stores the text in shards; yields the handle of each shard, and the position of the first token of its own part.

    The tokens of the shard before this position are the `order` - 1 tokens that precede its part of the text. Near the
    start of the text, they are EOT and all tokens that precede the part.
    """
    n_bytes = 6 * order + 8  # for each token while n-grams are cut
    size = max(1, min(memory // n_bytes, math.ceil(len(text) / (_LEAST_TASKS * executor.n_workers))))
    for part in blocks(slice(0, len(text)), size):
        if part.start < order:
            ids, first = np.concatenate([np.array([EOT], np.int32), text.ids[: part.stop]]), 1 + part.start
        else:
            ids, first = text.ids[part.start - order + 1 : part.stop], order - 1
        yield executor.put({"ids": ids}), first
        drop_read_only_pages(text.ids)


def _open_end(text: TokenStream, n_tokens: int) -> NDArray[np.int32]:
    """Returns the last tokens of a text whose last document has no EOT, after an EOT if they are the whole document.

    At most `n_tokens` tokens are returned, and none if the text ends with EOT.
    """
    if text.ids[-1] == EOT:
        return text.ids[:0]
    start, first = int(text.starts[-1]), len(text) - n_tokens
    return text.ids[first:] if first >= start else np.append(np.int32(EOT), text.ids[start:])
