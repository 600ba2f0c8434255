"""Cuts a text into the n-grams of each partition, and sorts and counts those of one partition.

A record is the longest n-gram that ends at one position of the text: n tokens, or fewer after the start of a document.
Records are stored backwards, so that sorting puts all n-grams with the same suffix next to each other. The trie that
`sorting.py` builds from them has a node for each n-gram. The parent of a node is the suffix of its n-gram, and its
children are the n-grams with one more token in front. The number of children is therefore the number of different
tokens that precede an n-gram, which Kneser-Ney smoothing counts. For example, with n = 3:

    records            backwards          trie of "sat"
    the cat sat        sat cat the        sat -> cat -> the
    the dog sat        sat dog the            -> dog -> the, a          "dog sat" is preceded by 2 different tokens
    a dog sat          sat dog a

The model needs the n-grams of each length sorted by their tokens from the first to the last. Those of length k are
obtained from the sorted ones of length k - 1: each suffix is replaced by its children, and the children are then sorted
by their first token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.ngram.counting.sorting import build_levels
from lmzoo.models.ngram.counting.workspace import Workspace
from lmzoo.models.ngram.partitions.plan import Plan, find_owners
from lmzoo.models.ngram.smoothing import N_FREQUENCIES, Smoothing, counts_of_counts
from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable
from lmzoo.system.executors import Arrays

_I32, _I64 = types.int32, types.int64


def cut(shard: Arrays, first: int, order: int, plan: Plan) -> Iterator[Arrays]:
    """Yields, for each partition, the records of those n-grams in a part of a text that belong to the partition.

    `shard["ids"]` are the token ids of the part. The n-grams end at position `first` or later; the tokens before it are
    those `order` - 1 that precede the part, or EOT at the start of the text. Each array "records" (N, `order`) holds
    the tokens of N n-grams from the last to the first, padded with the id V beyond the start of a document. It has 16
    bits per token if V allows it.
    """
    ids, vocab_size = shard["ids"], plan.owners.size
    owners = np.empty(ids.size - first, np.int32)
    find_owners(ids, first, order, plan.owners, plan.pair_owners, owners)
    ends = np.cumsum(np.bincount(owners, minlength=plan.n_partitions))
    records = np.empty(owners.size * order, np.int32)
    _write_records(ids, first, order, vocab_size, owners, np.concatenate([[0], ends[:-1]]), records)
    narrow = np.uint16 if vocab_size < 2**16 else np.int32
    for part in np.split(records.reshape(-1, order), ends[:-1]):
        yield {"records": part.astype(narrow)}


@kernel(read_only(_I32), _I64, _I64, _I64, read_only(_I32), writable(_I64), writable(_I32))
def _write_records(ids, first, order, vocab_size, owners, free, records):
    for position in range(first, ids.size):
        owner = owners[position - first]
        place = free[owner] * order
        free[owner] += 1
        records[place] = ids[position]
        length = 1
        while length < order:
            records[place + length] = ids[position - length]
            length += 1
            if ids[position - length + 1] == EOT:
                break
        for k in range(length, order):
            records[place + k] = vocab_size


@dataclass(frozen=True, eq=False)
class LevelCounts:
    """The counts of N n-grams of one length; implements the interface `Counts` of smoothing methods for this length."""

    order: int
    n_at_document_start: Sequence[int]
    n_observed: NDArray[np.int32]
    """(N,) the number of occurrences of each n-gram."""
    n_before: NDArray[np.int32]
    """(N,) the number of different tokens before each n-gram; empty for the highest order."""

    def observed(self, order: int) -> NDArray[np.int32]:
        return self.n_observed

    def continuations(self, order: int) -> NDArray[np.int32]:
        n_starts = self.n_at_document_start[order]
        if order == self.order:
            return self.n_observed
        return np.concatenate([self.n_observed[:n_starts], self.n_before[n_starts:]])


def sort(
    order: int, vocab_size: int, smoothing: Smoothing, split: NDArray[np.int32], min_count: int, *pieces: Arrays
) -> Iterator[Arrays]:
    """Sorts and counts the n-grams of one partition, given as the records of all parts of the text.

    Yields arrays for each length 2 .. `order`. They describe N n-grams, sorted by their tokens, and their H contexts:

    - "counts" (N,): the counts that the smoothing method uses. "last" (N,): the last tokens.
    - "starts" (H + 1,): the index of the first n-gram of each context, and N.
    - "suffixes" (N,), "context_suffixes" (H,): the suffixes of the n-grams and of the contexts, as indices of the
      n-grams and contexts of this partition that are one token shorter; for bigrams, the suffix is the last token.
    - "context_tokens" (H,): the first token of each context.
    - "observed" (N,): the numbers of occurrences, only if `min_count` is above 1.

    The counts of bigrams that begin with one of the `split` tokens are only those in this partition. At the end, yields
    the numbers of this partition that are to be summed over all partitions:

    - "n_before" (V,): the number of different tokens before each token, in this partition.
    - "counts_of_counts" (`order` - 1, 7): the numbers of n-grams of each length with the counts 0 .. 6.
    - "sizes" (`order` - 1,): the numbers of n-grams of each length.
    - "head_keys", "head_counts": the keys and the counts of the bigrams that begin with a split token, which
      "n_before" and "counts_of_counts" leave out. The key of the bigram "v w" is v V + w.
    """
    n_records = sum(len(piece["records"]) for piece in pieces)
    records = np.full((n_records + 1, order), vocab_size, np.int32)
    done = 0
    for piece in pieces:
        records[done : done + len(piece["records"])] = piece["records"]
        done += len(piece["records"])
    levels, tokens, observed, first_child = build_levels(
        records.ravel(), n_records, order, vocab_size, order, Workspace(), lambda step: None
    )
    del records, pieces
    nodes, last = np.arange(1, 1 + vocab_size, dtype=np.int32), np.arange(vocab_size, dtype=np.int32)
    contexts = np.zeros(vocab_size, np.int32)  # of the n-grams one token shorter
    sums = {"n_before": np.zeros(vocab_size, np.int32), "head_keys": np.empty(0, np.int64)}
    sums["head_counts"] = np.empty(0, np.int32)
    frequencies, sizes = np.zeros((order - 1, N_FREQUENCIES), np.int64), np.zeros(order - 1, np.int64)
    for k in range(2, order + 1):
        level = slice(int(levels[k]), int(levels[k + 1]))
        n_firsts = np.bincount(tokens[level], minlength=vocab_size)
        longer, suffixes = (np.empty(level.stop - level.start, np.int32) for _ in range(2))
        _sort_by_first(nodes, tokens, first_child, np.cumsum(n_firsts) - n_firsts, longer, suffixes)
        firsts, nodes, last = np.repeat(np.arange(vocab_size, dtype=np.int32), n_firsts), longer, last[suffixes]
        shorter = contexts[suffixes]
        is_new = np.diff(firsts, prepend=-1) != 0
        is_new[1:] |= np.diff(shorter) != 0
        contexts = np.cumsum(is_new, dtype=np.int32) - np.int32(1)
        starts = np.append(np.flatnonzero(is_new), nodes.size).astype(np.int32)
        n_starts = [0] * k + [int(n_firsts[EOT])]
        n_before = first_child[nodes + 1] - first_child[nodes] if k < order else np.empty(0, np.int32)
        counts = smoothing.counts(LevelCounts(order, n_starts, observed[nodes], n_before), k)
        arrays = {
            "counts": counts,
            "last": last,
            "starts": starts,
            "suffixes": suffixes,
            "context_tokens": firsts[starts[:-1]],
            "context_suffixes": shorter[starts[:-1]],
        }
        if min_count > 1:
            arrays["observed"] = observed[nodes]
        if k == 2:
            in_head = np.isin(firsts, split)
            sums["head_keys"] = firsts[in_head] * np.int64(vocab_size) + last[in_head]
            sums["head_counts"] = counts[in_head]
            sums["n_before"] = np.bincount(last[~in_head], minlength=vocab_size)
            counts = counts[~in_head]
        frequencies[k - 2], sizes[k - 2] = counts_of_counts(counts), nodes.size
        yield arrays
    yield {**sums, "counts_of_counts": frequencies, "sizes": sizes}


@kernel(read_only(_I32), read_only(_I32), read_only(_I32), writable(_I64), writable(_I32), writable(_I32))
def _sort_by_first(nodes, tokens, first_child, free, longer, suffixes):
    """Sorts the n-grams of one length by their tokens, given the sorted n-grams that are one token shorter.

    - `nodes`: the trie nodes of the sorted shorter n-grams; the children of each have one more token in front.
    - `tokens`, `first_child`: the arrays of the trie.
    - `free` (V,): for each first token, the index at which its next n-gram is written; updated.
    - `longer`, `suffixes`: receive the node of each n-gram in order, and the index of its suffix in `nodes`.
    """
    for number in range(nodes.size):
        for node in range(first_child[nodes[number]], first_child[nodes[number] + 1]):
            place = free[tokens[node]]
            free[tokens[node]] += 1
            longer[place], suffixes[place] = node, number
