"""A binary tree over a vocabulary, in which tokens of a class are near each other, and similar classes too.

The upper part merges classes as in section 3 of Brown et al. (1992): again and again, the two classes whose merging
costs the class bigram model of the text the least. Below, each class is a Huffman tree of its tokens.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lmzoo.models.class_ngram.exchange import cluster
from lmzoo.stream import TokenStream


def class_tree(stream: TokenStream, vocab_size: int, n_classes: int) -> NDArray[np.int64]:
    """Learns a binary tree over the V tokens of a vocabulary from a text: returns the children of its inner nodes.

    The result (V - 1, 2) has one row for each inner node. A number below V is a token, and V + i is inner node i; the
    children of a node come before it, and the root is the last. `n_classes` is the number of classes, at least 2.
    """
    clustering = cluster(stream, vocab_size, n_classes)
    frequencies = np.bincount(stream.ids, minlength=vocab_size)
    children: list[tuple[int, int]] = []
    roots, used = [], np.unique(clustering.classes)
    for token_class in used:
        tokens = np.flatnonzero(clustering.classes == token_class)
        roots.append(_add_huffman(children, vocab_size, tokens.tolist(), frequencies[tokens].tolist()))
    counts = clustering.counts[np.ix_(used, used)].astype(np.float64)
    while len(roots) > 1:
        left, right = _cheapest_merge(counts)
        children.append((roots[left], roots.pop(right)))
        roots[left] = vocab_size + len(children) - 1
        counts = _merged(counts, left, right)
    return np.array(children, np.int64).reshape(-1, 2)


def _add_huffman(
    children: list[tuple[int, int]], vocab_size: int, tokens: Sequence[int], weights: Sequence[int]
) -> int:
    """Appends the inner nodes of a Huffman tree over some tokens to `children`, and returns the number of its root.

    A token with a large weight, such as its frequency, gets a short path.
    """
    heap = list(zip(weights, tokens, strict=True))
    heapq.heapify(heap)
    while len(heap) > 1:
        (weight, left), (other, right) = heapq.heappop(heap), heapq.heappop(heap)
        children.append((left, right))
        heapq.heappush(heap, (weight + other, vocab_size + len(children) - 1))
    return heap[0][1]


def _cheapest_merge(counts: NDArray[np.float64]) -> tuple[int, int]:
    """Returns the two classes, the smaller number first, that lose the least likelihood if they become one.

    `counts` (G, G) holds the counts of neighbouring classes.
    """
    pairs = combinations(range(len(counts)), 2)
    return max(pairs, key=lambda pair: _log_likelihood(_merged(counts, *pair)))


def _merged(counts: NDArray[np.float64], left: int, right: int) -> NDArray[np.float64]:
    """Returns the counts of neighbouring classes after class `right` has become a part of class `left`."""
    merged = counts.copy()
    merged[left] += merged[right]
    merged[:, left] += merged[:, right]
    return np.delete(np.delete(merged, right, axis=0), right, axis=1)


def _log_likelihood(counts: NDArray[np.float64]) -> float:
    """Returns the part of the log-likelihood of a class bigram model that depends on the classes (see `exchange`)."""
    cells, *totals = (n * np.log(np.maximum(n, 1)) for n in (counts, counts.sum(axis=0), counts.sum(axis=1)))
    return float(cells.sum() - sum(total.sum() for total in totals))
