"""Joins the n-grams of all partitions into one trie.

The n-grams of a partition have the same order as in the trie, and so have its contexts. A context is itself an n-gram,
which belongs to another partition, but its last two tokens determine which partition has its continuations. Therefore
the trie can be built level by level. The nodes of one level are read in order; the continuations of each are the next
ones in the partition that has them. So the partitions and the trie are read and written from front to back, like sorted
files that are merged, and only small parts of them need to be in memory. Suffixes are looked up in one partition at a
time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.ngram.counting.sorting import check_n_nodes
from lmzoo.models.ngram.counting.workspace import Workspace, blocks
from lmzoo.models.ngram.partitions.estimating import SharedEstimates, Totals
from lmzoo.models.ngram.partitions.plan import Plan
from lmzoo.models.ngram.trie import Trie
from lmzoo.models.ngram.weights import Weights
from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable
from lmzoo.system.executors import Arrays

_I32, _I64, _F32 = types.int32, types.int64, types.float32


class Part(NamedTuple):
    """The arrays of one partition for N n-grams of one length: the results of the stages `sort` and `estimate`."""

    level: Arrays
    estimates: Arrays

    @property
    def sizes(self) -> NDArray[np.int32]:
        """The number (H,) of n-grams that continue each of H contexts."""
        return np.diff(self.level["starts"])


Read = Callable[[int, int], Part]
"""A function that returns the arrays of a partition for the n-grams of one length, given both numbers."""


def join(
    plan: Plan,
    totals: Totals,
    shared: SharedEstimates,
    end: NDArray[np.int32],
    read: Read,
    workspace: Workspace,
    on_step: Callable[[str], None],
) -> tuple[Trie, Weights]:
    """Returns the trie of all partitions, and the log-probabilities and back-off weights of its n-grams.

    - `end`: the last tokens of the text, at most n - 1, if its last document has no EOT; otherwise empty.
    - `read`: returns the arrays of a partition for n-grams of a given length.
    - `workspace`: allocates large arrays.
    - `on_step`: called with a message at the start of each order.

    Raises CorpusError if there are too many n-grams.
    """
    levels = np.concatenate([[0, 1], 1 + np.cumsum(totals.sizes)])
    check_n_nodes(int(levels[-1]))
    vocab_size, order = totals.unigrams.size, totals.sizes.size
    tokens, suffixes = (workspace.empty(levels[-1], np.int32) for _ in range(2))
    trie = Trie(levels, tokens, workspace.zeros(levels[order] + 1, np.int32), suffixes)
    values, backoffs = workspace.empty(levels[-1], np.float32), workspace.zeros(levels[order], np.float32)
    tokens[0], tokens[1 : 1 + vocab_size], suffixes[: 1 + vocab_size] = 0, np.arange(vocab_size), 0
    values[0], values[1 : 1 + vocab_size], backoffs[:1] = -math.log(vocab_size), shared.log_probs, shared.backoff
    trie.first_child[levels[:-1]] = levels[1:]  # the first node of each level, and the end of the last level
    joiner = _Joiner(trie, Weights(values, backoffs), plan, totals, shared, end, read, workspace)
    for length in range(2, order + 1):
        on_step(f"joining the partitions, order {length}")
        joiner.add_level(length)
    return trie, joiner.weights


class _Columns:
    """The N n-grams of one length and their H contexts, partition by partition; the last partition is the head."""

    def __init__(self, n_contexts: NDArray[np.integer], n_ngrams: NDArray[np.integer], workspace: Workspace) -> None:
        """Allocates the arrays, given the numbers of contexts and of n-grams in each partition."""
        self.context_bounds = np.append(0, np.cumsum(n_contexts))
        self.bounds = np.append(0, np.cumsum(n_ngrams))
        n, h = int(self.bounds[-1]), int(self.context_bounds[-1])
        self.starts, self.sizes = workspace.empty(h, np.int64), workspace.empty(h, np.int32)
        """(H,) the index of the first n-gram of each context, and the number of its n-grams."""
        self.backoffs = workspace.empty(h, np.float32)
        """(H,) the log back-off weight of each context."""
        self.last, self.log_probs = workspace.empty(n, np.int32), workspace.empty(n, np.float32)
        """(N,) the last token and the log-probability of each n-gram."""
        self.nodes = workspace.empty(n, np.int32)
        """(N,) the trie node of the suffix of each n-gram; once the n-gram has been added to the trie, its own node."""

    def write(
        self,
        partition: int,
        starts: NDArray[np.int32],
        kept: NDArray[np.bool_],
        backoffs: NDArray[np.float32],
        *of_ngrams: NDArray[np.int32] | NDArray[np.float32],
    ) -> None:
        """Writes the `kept` contexts of a partition, and its n-grams: last tokens, log-probabilities and suffixes."""
        contexts = slice(*self.context_bounds[partition : partition + 2])
        ngrams = slice(*self.bounds[partition : partition + 2])
        self.starts[contexts] = starts[:-1][kept] + self.bounds[partition]
        self.sizes[contexts], self.backoffs[contexts] = np.diff(starts)[kept], backoffs[kept]
        self.last[ngrams], self.log_probs[ngrams], self.nodes[ngrams] = of_ngrams

    def of(self, partition: int) -> NDArray[np.int32]:
        """Returns the trie nodes of the n-grams of a partition."""
        return self.nodes[self.bounds[partition] : self.bounds[partition + 1]]


@dataclass(eq=False)
class _Joiner:
    """A trie under construction; the arguments are those of `join`."""

    trie: Trie
    weights: Weights
    plan: Plan
    totals: Totals
    shared: SharedEstimates
    end: NDArray[np.int32]
    read: Read
    workspace: Workspace

    def __post_init__(self) -> None:
        # The trie nodes of the n-grams of the last level, partition by partition, and where each partition begins.
        self._nodes = np.arange(1, 1 + self.trie.vocab_size, dtype=np.int32)
        self._starts = np.zeros(self.plan.n_partitions, np.int64)

    def add_level(self, length: int) -> None:
        """Adds the n-grams of one length to the trie, which already has all shorter n-grams."""
        trie, weights, level = self.trie, self.weights, self.trie.level(length - 1)
        owners = self._owners_of_bigrams() if length == 2 else self._owners(length)
        head = self.totals.head if length == 2 else None
        # For each block of nodes: the number of contexts in each partition.
        pieces = list(blocks(slice(0, owners.size)))
        counts = self.workspace.run(
            lambda block: np.bincount(owners[block], minlength=self.plan.n_partitions + 2), pieces, (0.1, 0.2)
        )
        counts = np.array(counts, np.int64).reshape(-1, self.plan.n_partitions + 2)[:, :-1]
        n_ngrams = np.append(self.totals.parts[:, length - 2], head.counts.size if head else 0)
        columns = _Columns(counts.sum(axis=0), n_ngrams, self.workspace)
        if head:
            columns.write(
                self.plan.n_partitions, head.starts, np.ones(self.plan.split.size, bool), self.shared.head_backoffs,
                head.suffixes, self.shared.head_log_probs, 1 + head.suffixes,
            )  # fmt: skip

        def collect(partition: int) -> None:
            arrays, estimates = self.read(partition, length)
            kept = self.plan.owners[arrays["context_tokens"]] >= 0 if head else np.ones(arrays["starts"].size - 1, bool)
            shorter = self._nodes[self._starts[partition] :]
            columns.write(
                partition, arrays["starts"], kept, estimates["backoffs"],
                arrays["last"], estimates["log_probs"], shorter[arrays["suffixes"]],
            )  # fmt: skip

        self.workspace.run(collect, range(self.plan.n_partitions), (0.2, 0.4))
        # For each block of nodes: the index of its first context in each partition, and its first child.
        ends = columns.context_bounds[:-1] + np.cumsum(counts, axis=0)
        contexts = np.subtract(ends, counts, out=counts)
        n_children = self.workspace.run(
            lambda place: _sum_of_ranges(columns.sizes, *place), zip(contexts, ends, strict=True), (0.4, 0.5)
        )
        nodes = trie.levels[length] + np.append(0, np.cumsum(n_children, dtype=np.int64))

        def interleave(task: tuple[slice, NDArray[np.int64], int]) -> None:
            block, contexts, node = task
            here = slice(level.start + block.start, level.start + block.stop)
            _interleave(
                owners[block], columns.starts, columns.sizes, columns.backoffs, columns.last, columns.log_probs,
                columns.nodes, contexts, node, trie.tokens, trie.suffixes, weights.values, trie.first_child[here],
                weights.backoffs[here],
            )  # fmt: skip

        self.workspace.run(interleave, zip(pieces, contexts, nodes[:-1].tolist(), strict=True), (0.5, 1.0))
        if head:
            in_head = columns.of(self.plan.n_partitions)
            for partition in range(self.plan.n_partitions):
                numbers = self.read(partition, length).estimates["in_head"]
                columns.of(partition)[numbers >= 0] = in_head[numbers[numbers >= 0]]
        self._nodes, self._starts = columns.nodes, columns.bounds

    def _owners_of_bigrams(self) -> NDArray[np.int32]:
        """Returns the partition (V,) of the bigrams that begin with each token, as `_owners` does for longer n-grams.

        The number after those of the partitions stands for the head.
        """
        n_partitions = self.plan.n_partitions
        owners = np.full(self.trie.vocab_size, n_partitions + 1, np.int32)
        for partition in range(n_partitions):
            owners[self.read(partition, 2).level["context_tokens"]] = partition
        owners[self.plan.split] = n_partitions
        return owners

    def _owners(self, length: int) -> NDArray[np.int32]:
        """Returns the partition of the continuations of each n-gram of `length` - 1 tokens, in the order of the trie.

        The number of partitions + 1 stands for n-grams that nothing follows.
        """
        trie, plan = self.trie, self.plan
        level, before = trie.level(length - 1), trie.level(length - 2)
        owners = self.workspace.empty(level.stop - level.start, np.int32)

        def find(block: slice) -> None:
            _find_context_owners(
                trie.tokens, trie.first_child, block.start, block.stop, level.start, plan.owners, plan.pair_owners,
                plan.n_partitions + 1, owners,
            )  # fmt: skip

        self.workspace.run(find, blocks(before), (0.0, 0.1))
        self._leave_out_end(length, owners)
        return owners

    def _leave_out_end(self, length: int, owners: NDArray[np.int32]) -> None:
        """Removes the last tokens of the text from the contexts if nothing follows them anywhere in the text.

        `owners` are the partitions of the contexts of `length` - 1 tokens; the element for the last tokens is updated.
        """
        if self.end.size < length - 1:
            return
        node = 1 + int(self.end[self.end.size - length + 1])
        for token in self.end[self.end.size - length + 2 :].tolist():
            child = self.trie.child(node, token)
            if child is None:  # it is rare, and was left out
                return
            node = child
        index = node - self.trie.level(length - 1).start
        partition = int(owners[index])
        if np.count_nonzero(owners == partition) > self.read(partition, length).sizes.size:
            owners[index] = self.plan.n_partitions + 1


@kernel(
    read_only(_I32), read_only(_I32), _I64, _I64, _I64, read_only(_I32), read_only(_I32, 2), _I64, writable(_I32)
)  # fmt: skip
def _find_context_owners(tokens, first_child, start, stop, first, owners, pair_owners, nobody, result):
    """Finds the partition of the continuations of all children of the trie nodes `start` to `stop` - 1.

    - `tokens`, `first_child`: the arrays of the trie.
    - `owners`, `pair_owners`: the plan of the partitions.
    - `result`: receives the partition of each node, at the index node - `first`; it is `nobody` for n-grams that end
      with EOT, which have no continuations.
    """
    for context in range(start, stop):
        for node in range(first_child[context], first_child[context + 1]):
            owner = owners[tokens[node]]
            if tokens[node] == EOT:
                owner = nobody
            elif owner < 0:
                owner = pair_owners[-1 - owner, tokens[context]]
            result[node - first] = owner


@kernel(read_only(_I32), read_only(_I64), read_only(_I64), returns=_I64)
def _sum_of_ranges(values, starts, stops):
    """Returns the sum of the values in several ranges of an array."""
    total = 0
    for number in range(starts.size):
        for index in range(starts[number], stops[number]):
            total += values[index]
    return total


@kernel(
    read_only(_I32), read_only(_I64), read_only(_I32), read_only(_F32), read_only(_I32), read_only(_F32),
    writable(_I32), writable(_I64), _I64, writable(_I32), writable(_I32), writable(_F32), writable(_I32),
    writable(_F32),
)  # fmt: skip
def _interleave(
    owners, starts, sizes, part_backoffs, last, log_probs, nodes, contexts, node,
    tokens, suffixes, values, first_child, backoffs,
):  # fmt: skip
    """Writes the children of a block of nodes to the trie, from the partitions that have them.

    - `owners`: the partition that has the children of each node; a number beyond the partitions stands for no children.
    - `contexts`: the next context of each partition; updated.
    - `node`: the first child of the block.
    - `starts`, `sizes`, `part_backoffs`, `last`, `log_probs`, `nodes`: the arrays of `_Columns`; `nodes` is updated.
    - `tokens`, `suffixes`, `values`: the arrays of the trie and of its weights.
    - `first_child`, `backoffs`: receive the first children and the back-off weights of the block.
    """
    for i in range(owners.size):
        first_child[i] = node
        if owners[i] < contexts.size:
            context = contexts[owners[i]]
            contexts[owners[i]] += 1
            backoffs[i] = part_backoffs[context]
            for number in range(starts[context], starts[context] + sizes[context]):
                tokens[node], values[node], suffixes[node] = last[number], log_probs[number], nodes[number]
                nodes[number] = node
                node += 1
