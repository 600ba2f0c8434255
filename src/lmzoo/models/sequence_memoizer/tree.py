"""The tree of the contexts of a text, which compiled code builds from a context index.

A node is a context, a sequence of tokens, that occurs at least twice in the text and is not always preceded by the same
token. Its parent is the longest node that is a suffix of it. The root is the empty context. A leaf is a position of the
text, and its context reaches back to the start of the document. Contexts are compared from their last token backwards,
so this is the suffix tree of the reversed text, with at most T nodes for T tokens.

Each position is a row of the index. A node is an interval of rows that have more tokens in common with each other than
with the rows around them (Abouelhoda, Kurtz & Ohlebusch 2004). All are found in one pass over the index, with a stack.

An entry is a token that followed the context of a node. The entries of a node are sorted by token. Each entry knows the
entry of the same token in the parent of its node.

M. I. Abouelhoda, S. Kurtz, E. Ohlebusch, Replacing Suffix Trees with Enhanced Suffix Arrays, Journal of Discrete
Algorithms 2, 2004.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.errors import SavedModelError
from lmzoo.models.infinigram.index import ContextIndex
from lmzoo.system.compiled import kernel, read_only, writable

ROOT = 0
"""The node of the empty context."""
_I32, _I64, _U16 = types.int32, types.int64, types.uint16


class ContextTree(NamedTuple):
    """The arrays of a tree of contexts with N nodes and E entries, for a text of T tokens.

    Nodes have the numbers 0 to N - 1, and leaves N to N + T - 1, in the order of the rows of the index. A node comes
    after its parent.
    """

    bounds: NDArray[np.int32]
    """(N, 2) the first row of the index with the context of each node, and the row after the last one."""
    lengths: NDArray[np.int32]
    """(N,) the length of the context of each node."""
    parents: NDArray[np.int32]
    """(N + T,) the parent of each node and leaf; for the root, the root."""
    nodes_at: NDArray[np.int32]
    """(T,) the node that is stored at each row of the index. A node is stored at its first or last row, by the rule of
    `ContextIndex.n_types`."""
    begins: NDArray[np.int64]
    """(N + 1,) the first entry of each node; the last element is E."""
    tokens: NDArray[np.int32]
    """(E,) the token of each entry."""
    parent_entries: NDArray[np.int64]
    """(E,) the entry of the same token in the parent of the node; for an entry of the root, itself."""
    counts: NDArray[np.int32]
    """(E,) the number of leaves whose parent is the node and whose context is followed by the token."""


TREE = types.NamedTuple(
    (writable(_I32, 2), writable(_I32), writable(_I32), writable(_I32), writable(_I64), writable(_I32),
     writable(_I64), writable(_I32)),
    ContextTree,
)  # fmt: skip
"""The numba type of a `ContextTree`."""


def build_tree(index: ContextIndex, vocab_size: int) -> ContextTree:
    """Returns the tree of the contexts of a text, given its index.

    Raises SavedModelError if the numbers of different tokens in the index are wrong.
    """
    n_rows = len(index)
    bounds, lengths, parents = np.empty((n_rows, 2), np.int32), np.empty(n_rows, np.int32), np.empty(n_rows, np.int32)
    leaf_parents = np.empty(n_rows, np.int32)
    n_nodes = _find_nodes(index.shared, bounds, lengths, parents, leaf_parents)
    order = np.lexsort((lengths[:n_nodes], bounds[:n_nodes, 0]))  # parents first
    new_ids = np.empty(n_nodes, np.int32)
    new_ids[order] = np.arange(n_nodes, dtype=np.int32)
    bounds, lengths = bounds[order], lengths[order]
    parents = new_ids[np.concatenate([parents[order], leaf_parents])]
    nodes_at = np.zeros(n_rows, np.int32)
    begins = np.zeros(n_nodes + 1, np.int64)
    _place_nodes(bounds, index.shared, index.n_types, nodes_at, begins[1:])
    begins = np.cumsum(begins)
    tokens, counts = np.empty(begins[-1], np.int32), np.zeros(begins[-1], np.int32)
    parent_entries = np.arange(begins[-1])
    if not _fill_entries(index.next_ids, parents, begins, vocab_size, tokens, parent_entries, counts):
        raise SavedModelError("the saved context index is damaged: its numbers of different tokens are wrong")
    return ContextTree(bounds, lengths, parents, nodes_at, begins, tokens, parent_entries, counts)


@kernel(read_only(_U16), writable(_I32, 2), writable(_I32), writable(_I32), writable(_I32), returns=_I64)
def _find_nodes(shared, bounds, lengths, parents, leaf_parents):
    """Finds the nodes of a tree of contexts: writes their bounds, lengths and parents, and the parent of each leaf.

    `shared` (T + 1,) is the number of tokens that each row of the index has in common with the row before. The nodes
    are numbered in the order in which they are found. Returns their number.
    """
    stack = np.empty(np.int64(shared.max()) + 2, np.int32)  # all nodes with the current row, from the root
    n_rows, n_nodes, top = leaf_parents.size, 1, 0
    stack[0], bounds[0, 0], bounds[0, 1], lengths[0], parents[0] = 0, 0, n_rows, 0, 0
    for row in range(1, n_rows + 1):
        depth, low, popped = np.int32(shared[row]), np.int32(row - 1), -1
        leaf_parents[row - 1] = stack[top]
        while lengths[stack[top]] > depth:
            popped = stack[top]
            low = bounds[popped, 0]
            bounds[popped, 1] = row
            top -= 1
            parents[popped] = stack[top]
        if lengths[stack[top]] < depth:
            node, n_nodes = np.int32(n_nodes), n_nodes + 1
            bounds[node, 0], lengths[node], parents[node] = low, depth, stack[top]
            if popped < 0:
                leaf_parents[row - 1] = node
            else:
                parents[popped] = node
            top += 1
            stack[top] = node
    return n_nodes


@kernel(read_only(_I32, 2), read_only(_U16), read_only(_I32), writable(_I32), writable(_I64))
def _place_nodes(bounds, shared, n_types, nodes_at, n_entries):
    """Writes each node to its row in `nodes_at` (T,), and its number of entries to `n_entries` (N,).

    `bounds` (N, 2) are the rows of each node; `shared` and `n_types` are arrays of the index.
    """
    n_entries[ROOT] = n_types[n_types.size - 1]
    for node in range(1, bounds.shape[0]):
        low, high = bounds[node, 0], bounds[node, 1]
        row = low if shared[low] >= shared[high] else high - 1
        nodes_at[row], n_entries[node] = node, n_types[row]


@kernel(read_only(_I32), read_only(_I32), read_only(_I64), _I64, writable(_I32), writable(_I64), writable(_I32),
        returns=types.boolean)  # fmt: skip
def _fill_entries(next_ids, parents, begins, vocab_size, tokens, parent_entries, counts):
    """Writes the entries of all nodes: `tokens`, `parent_entries` and `counts`, each (E,).

    `next_ids` (T,) is the token after each row of the index; `parents` (N + T,) and `begins` (N + 1,) are arrays of the
    tree. Nodes are filled from the last to the first, so that a node comes after its children. Returns False if the
    number of entries of a node in `begins` is not the number of different tokens that followed it.
    """
    n_nodes = begins.size - 1
    last_children, earlier = np.full(n_nodes, -1, np.int64), np.full(parents.size, -1, np.int64)
    for child in range(1, parents.size):
        parent = parents[child]
        earlier[child], last_children[parent] = last_children[parent], child
    entry_of, owner = np.empty(vocab_size, np.int64), np.full(vocab_size, -1, np.int64)
    for node in range(n_nodes - 1, -1, -1):
        begin, end = begins[node], begins[node + 1]
        n, child = begin, last_children[node]
        while child >= 0:
            after, first, last = next_ids, child - n_nodes, child - n_nodes + 1
            if child < n_nodes:
                after, first, last = tokens, begins[child], begins[child + 1]
            for token in after[first:last]:
                if owner[token] != node:
                    if n == end:
                        return False
                    owner[token], tokens[n] = node, token
                    n += 1
            child = earlier[child]
        if n != end:
            return False
        tokens[begin:end] = np.sort(tokens[begin:end])
        for entry in range(begin, end):
            entry_of[tokens[entry]] = entry
        child = last_children[node]
        while child >= 0:
            if child >= n_nodes:
                counts[entry_of[next_ids[child - n_nodes]]] += 1
            else:
                for entry in range(begins[child], begins[child + 1]):
                    parent_entries[entry] = entry_of[tokens[entry]]
            child = earlier[child]
    return True
