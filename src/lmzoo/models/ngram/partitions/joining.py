"""Joins the n-grams of all partitions into one trie.

The n-grams of a partition have the same order as in the trie, and so have its contexts. A context is itself an n-gram,
which belongs to another partition, but its last two tokens determine which partition has its continuations. Therefore
the trie can be built level by level. The nodes of one level are distributed to the partitions that have their
continuations; there they are the contexts, in the same order. The numbers of their continuations then determine the
positions of the nodes of the next level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.ngram.counting.protocol import add_counts
from lmzoo.models.ngram.counting.sorting import check_n_nodes, group
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
        vocab_size = self.trie.vocab_size
        # The trie nodes of the n-grams of the last level, partition by partition, and where each partition begins.
        self._nodes = np.arange(1, 1 + vocab_size, dtype=np.int32)
        self._starts = np.zeros(self.plan.n_partitions, np.int64)

    def add_level(self, length: int) -> None:
        """Adds the n-grams of one length to the trie, which already has all shorter n-grams."""
        contexts = self._contexts_of_bigrams() if length == 2 else self._contexts(length)
        trie, level = self.trie, self.trie.level(length - 1)
        n_children = trie.first_child[level]
        n_children[:1] = 0
        starts = np.zeros(len(contexts) + 1, np.int64)
        for partition, nodes in enumerate(contexts):
            sizes = self.read(partition, length).sizes
            starts[partition + 1] = starts[partition] + sizes.sum()
            n_children[nodes[nodes >= 0] - level.start] = sizes[nodes >= 0]
        head = self.totals.head
        if length == 2:
            n_children[self.plan.split] = np.diff(head.starts)
        first = int(trie.levels[length])
        for block in blocks(slice(0, n_children.size)):
            ends = first + np.cumsum(n_children[block], dtype=np.int64)
            n_children[block] = ends - n_children[block]
            first = int(ends[-1])
            self.workspace.release()
        placed, shorter, shorter_starts = self.workspace.empty(starts[-1], np.int32), self._nodes, self._starts
        in_head = np.empty(head.counts.size, np.int32)
        if length == 2:
            self._place(
                1 + self.plan.split, head.starts, head.suffixes, head.suffixes,
                self.shared.head_log_probs, self.shared.head_backoffs, shorter, in_head,
            )  # fmt: skip

        def work(partition: int) -> None:
            arrays, estimates = self.read(partition, length)
            here = placed[starts[partition] : starts[partition + 1]]
            self._place(
                contexts[partition], arrays["starts"], arrays["last"], arrays["suffixes"],
                estimates["log_probs"], estimates["backoffs"], shorter[shorter_starts[partition] :], here,
            )  # fmt: skip
            if length == 2:
                elsewhere = estimates["in_head"] >= 0
                here[elsewhere] = in_head[estimates["in_head"][elsewhere]]

        self.workspace.run(work, range(self.plan.n_partitions))
        self._nodes, self._starts = placed, starts

    def _place(self, *arrays: NDArray[Any]) -> None:
        trie, weights = self.trie, self.weights
        _place(*arrays, trie.first_child, trie.tokens, trie.suffixes, weights.values, weights.backoffs)

    def _contexts_of_bigrams(self) -> list[NDArray[np.int32]]:
        """Returns, for each partition, the trie nodes of the first tokens of its bigrams; -1 for a split token."""
        tokens = [self.read(partition, 2).level["context_tokens"] for partition in range(self.plan.n_partitions)]
        return [np.where(self.plan.owners[found] < 0, -1, 1 + found).astype(np.int32) for found in tokens]

    def _contexts(self, length: int) -> list[NDArray[np.int32]]:
        """Returns, for each partition, the trie nodes of the contexts of its n-grams of one length, in order."""
        trie, plan, workspace = self.trie, self.plan, self.workspace
        level, before = trie.level(length - 1), trie.level(length - 2)
        owners = workspace.empty(level.stop - level.start, np.int32)
        for block in blocks(before):
            _find_context_owners(
                trie.tokens, trie.first_child, block.start, block.stop, level.start, plan.owners, plan.pair_owners,
                plan.n_partitions, owners,
            )  # fmt: skip
            workspace.release()
        self._leave_out_end(length, owners)
        counts = np.zeros(plan.n_partitions + 1, np.int32)
        for block in blocks(slice(0, owners.size)):
            add_counts(owners[block], 0, counts)
        ends = np.cumsum(counts, dtype=np.int64)
        nodes, free = workspace.empty(owners.size, np.int32), ends - counts
        for block in blocks(slice(0, owners.size)):
            group(owners[block], level.start + block.start, 1, free, nodes)
            workspace.release()
        return np.split(nodes, ends[:-1])[:-1]

    def _leave_out_end(self, length: int, owners: NDArray[np.int32]) -> None:
        """Leaves the last tokens of the text out of the contexts if nothing follows them anywhere in the text.

        `owners` are the partitions of the contexts of `length` - 1 tokens; the element for the last tokens is updated.
        """
        if self.end.size < length - 1:
            return
        node = 1 + int(self.end[self.end.size - length + 1])
        for token in self.end[self.end.size - length + 2 :].tolist():
            child = self.trie.child(node, token)
            assert child is not None
            node = child
        index = node - self.trie.level(length - 1).start
        partition = int(owners[index])
        if np.count_nonzero(owners == partition) > self.read(partition, length).sizes.size:
            owners[index] = self.plan.n_partitions


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


@kernel(
    read_only(_I32), read_only(_I32), read_only(_I32), read_only(_I32), read_only(_F32), read_only(_F32),
    read_only(_I32), writable(_I32), read_only(_I32), writable(_I32), writable(_I32), writable(_F32), writable(_F32),
)  # fmt: skip
def _place(
    contexts, starts, last, suffixes, log_probs, part_backoffs, shorter, nodes, first_child, tokens, links, values,
    backoffs,
):  # fmt: skip
    """Writes the n-grams of one length of a partition to the trie, and their nodes to `nodes`.

    - `contexts` (H,): the trie nodes of the contexts; the n-grams of a context with the node -1 are left out.
    - `starts`, `last`, `suffixes`, `log_probs`, `part_backoffs`: the arrays of the partition.
    - `shorter`: the trie nodes of the n-grams one token shorter in the partition.
    - `first_child`, `tokens`, `links`, `values`, `backoffs`: the arrays of the trie; `links` are the suffix links.
    """
    for context in range(contexts.size):
        if contexts[context] < 0:
            continue
        backoffs[contexts[context]] = part_backoffs[context]
        node = first_child[contexts[context]]
        for number in range(starts[context], starts[context + 1]):
            tokens[node], values[node] = last[number], log_probs[number]
            links[node] = shorter[suffixes[number]]
            nodes[number] = node
            node += 1
