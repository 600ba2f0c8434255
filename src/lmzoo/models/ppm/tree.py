"""The contexts of a text as a tree that grows with every token, compiled.

A context is a sequence of at most `order` tokens before a position of the text, read backwards: the path from the root
of the tree begins with the last token. It ends at the end-of-text token before the document (EOT), which stands for
the start of the document. A node holds, for each token that followed its context, a count.

Counts follow update exclusion (Moffat 1990): a token is counted in the longest context, then in each shorter one, up
to and including the first in which it had a count already. The count of a token in a context that is not the longest
is therefore the number of different tokens before the context when the token followed it.

Most long contexts occur once, and many others always have the same token before them. Such a context has no node of its
own (the tree is compressed, Morrison 1968): it lies on the way to the next node, and by update exclusion each token
that has a count in this node has the count 1 in the context. A text of T tokens needs at most 2 T nodes.

Nearly every token of the vocabulary has a count in the root. The counts of the root are stored in a table with a row
for each token, which is read much faster than the linked lists of other nodes.

D. R. Morrison, PATRICIA - Practical Algorithm To Retrieve Information Coded in Alphanumeric, Journal of the ACM 15,
1968. A. Moffat, Implementing the PPM Data Compression Scheme, IEEE Transactions on Communications 38, 1990.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.system.compiled import kernel, writable

PARENT, PLACE, DEPTH, TOTAL, KINDS, FIRST, FIRST_COUNT, OTHERS = range(8)
"""Columns of `Tree.nodes`."""
NEXT, TOKEN, COUNT, OWNER = range(4)
"""Columns of `Tree.others`."""
N_TEXT, N_NODES, N_OTHERS, START, N_LOG, KEPT_TEXT, KEPT_NODES, KEPT_OTHERS = range(8)
"""Entries of `Tree.sizes`."""
_IN_NODES, _IN_OTHERS, _IN_CHILD_SLOTS, _IN_OTHER_SLOTS = range(4)
"""First column of `Tree.log`: the array that was changed."""
_ODD_1, _ODD_2 = 0x1E3779B97F4A7C15, 0x42B2AE3D27D4EB4F


class Tree(NamedTuple):
    """The arrays of a context tree; only the first rows of each are in use, and `sizes` says how many.

    Two hash tables with open addressing find the child of a node by the token before the context, and the count of a
    token in a node.
    """

    text: NDArray[np.int32]
    """The tokens read so far; the first is EOT, for the start of the first document."""
    nodes: NDArray[np.int32]
    """One row per node: its parent, the position after an occurrence of its context, the length of the context, the sum
    of its counts, the number of tokens with counts, the first such token and its count, and the last other one."""
    others: NDArray[np.int32]
    """First, one row for each of the V tokens, with its count in the root. Then, one row for each count in another node
    that is not the first count of the node: the row of the previous count, the token, its count, and the node."""
    child_slots: NDArray[np.int32]
    """Hash table of all nodes but the root; -1 is an empty slot."""
    other_slots: NDArray[np.int32]
    """Hash table of the rows of `others`, except those of the root."""
    sizes: NDArray[np.int64]
    """Numbers of tokens, of nodes and of rows of `others`, position of the EOT before the current document, number of
    log entries, and the numbers of tokens, of nodes and of rows of `others` that `rewind` keeps."""
    log: NDArray[np.int32]
    """Changes since the tree had the sizes to keep: array, index and old value."""


EMPTY_ROOT = np.array([[0, 0, 0, 0, 0, -1, 0, -1]], np.int32)
"""The nodes of an empty tree."""
TREE = types.NamedTuple(
    (
        writable(types.int32), writable(types.int32, 2), writable(types.int32, 2), writable(types.int32),
        writable(types.int32), writable(types.int64), writable(types.int32, 2),
    ),
    Tree,
)  # fmt: skip
"""The numba type of a `Tree`."""
_I64 = types.int64


@kernel(TREE, _I64, _I64, returns=_I64)
def child_slot(tree, node, token):
    """Returns the slot of the child of a node whose context has `token` before that of the node; it may be empty."""
    mask = tree.child_slots.size - 1
    slot = ((node * _ODD_1 + token * _ODD_2) >> 24) & mask
    depth = tree.nodes[node, DEPTH]
    while True:
        child = tree.child_slots[slot]
        if child < 0:
            return slot
        if tree.nodes[child, PARENT] == node and tree.text[tree.nodes[child, PLACE] - 1 - depth] == token:
            return slot
        slot = (slot + 1) & mask


@kernel(TREE, _I64, _I64, returns=_I64)
def other_slot(tree, node, token):
    """Returns the slot of the count of a token in a node that is not the first of the node; it may be empty."""
    mask = tree.other_slots.size - 1
    slot = ((node * _ODD_2 + token * _ODD_1) >> 24) & mask
    while True:
        other = tree.other_slots[slot]
        if other < 0 or (tree.others[other, OWNER] == node and tree.others[other, TOKEN] == token):
            return slot
        slot = (slot + 1) & mask


@kernel(TREE, _I64, _I64, returns=_I64)
def count_of(tree, node, token):
    """Returns the count of a token in a node; 0 if it never followed the context."""
    if node == 0:
        return tree.others[token, COUNT]
    if tree.nodes[node, FIRST] == token:
        return tree.nodes[node, FIRST_COUNT]
    if tree.nodes[node, KINDS] < 2:
        return 0
    other = tree.other_slots[other_slot(tree, node, token)]
    return tree.others[other, COUNT] if other >= 0 else 0


@kernel(TREE, _I64, writable(_I64), returns=types.UniTuple(_I64, 2))
def descend(tree, full, path):
    """Finds the contexts of the next token: suffixes of the last `full` tokens of the text that occurred before.

    Writes to `path` the nodes whose contexts match completely, from the root on, and after them the child on whose edge
    the longest match ends, or -1 if the match ends at a node. Returns the number of nodes that match completely, and
    the length of the longest match.
    """
    end = tree.sizes[N_TEXT]
    node, matched, n = 0, 0, 1
    path[0] = 0
    while matched < full:
        child = tree.child_slots[child_slot(tree, node, tree.text[end - 1 - matched])]
        if child < 0:
            break
        place, depth = tree.nodes[child, PLACE], tree.nodes[child, DEPTH]
        matched += 1
        while matched < depth and matched < full and tree.text[place - 1 - matched] == tree.text[end - 1 - matched]:
            matched += 1
        path[n] = child
        if matched < depth:
            return n, matched
        node = child
        n += 1
    path[n] = -1
    return n, matched


@kernel(TREE, _I64, _I64, _I64)
def _note(tree, array, index, old):
    """Adds a change to the log, if there is anything to keep."""
    if tree.sizes[KEPT_NODES] > 0:
        entry = tree.sizes[N_LOG]
        tree.log[entry, 0], tree.log[entry, 1], tree.log[entry, 2] = array, index, old
        tree.sizes[N_LOG] = entry + 1


@kernel(TREE, _I64, _I64, _I64)
def _set_node(tree, node, column, value):
    """Changes a number of a node."""
    if node < tree.sizes[KEPT_NODES]:
        _note(tree, _IN_NODES, 8 * node + column, tree.nodes[node, column])
    tree.nodes[node, column] = value


@kernel(TREE, _I64, _I64)
def _set_child_slot(tree, slot, node):
    _note(tree, _IN_CHILD_SLOTS, slot, tree.child_slots[slot])
    tree.child_slots[slot] = node


@kernel(TREE, _I64, _I64, _I64, returns=_I64)
def _new_node(tree, parent, place, depth):
    """Adds a node without counts to the tree, and returns its index. The hash table is not changed."""
    node = tree.sizes[N_NODES]
    tree.sizes[N_NODES] = node + 1
    row = tree.nodes[node]
    row[PARENT], row[PLACE], row[DEPTH], row[TOTAL], row[KINDS] = parent, place, depth, 0, 0
    row[FIRST], row[FIRST_COUNT], row[OTHERS] = -1, 0, -1
    return node


@kernel(TREE, _I64, _I64, returns=types.boolean)
def add_count(tree, node, token):
    """Adds 1 to the count of a token in a node. Returns True if the token had a count already."""
    _set_node(tree, node, TOTAL, tree.nodes[node, TOTAL] + 1)
    kinds = tree.nodes[node, KINDS]
    if node == 0:
        count = tree.others[token, COUNT]
        _note(tree, _IN_OTHERS, 4 * token + COUNT, count)
        tree.others[token, COUNT] = count + 1
        if count == 0:
            _set_node(tree, node, KINDS, kinds + 1)
        return count > 0
    if tree.nodes[node, FIRST] == token:
        _set_node(tree, node, FIRST_COUNT, tree.nodes[node, FIRST_COUNT] + 1)
        return True
    if kinds == 0:
        _set_node(tree, node, FIRST, token)
        _set_node(tree, node, FIRST_COUNT, 1)
        _set_node(tree, node, KINDS, 1)
        return False
    slot = other_slot(tree, node, token)
    other = tree.other_slots[slot]
    if other >= 0:
        if other < tree.sizes[KEPT_OTHERS]:
            _note(tree, _IN_OTHERS, 4 * other + COUNT, tree.others[other, COUNT])
        tree.others[other, COUNT] += 1
        return True
    other = tree.sizes[N_OTHERS]
    tree.sizes[N_OTHERS] = other + 1
    tree.others[other, NEXT], tree.others[other, TOKEN] = tree.nodes[node, OTHERS], token
    tree.others[other, COUNT], tree.others[other, OWNER] = 1, node
    _note(tree, _IN_OTHER_SLOTS, slot, -1)
    tree.other_slots[slot] = other
    _set_node(tree, node, OTHERS, other)
    _set_node(tree, node, KINDS, kinds + 1)
    return False


@kernel(TREE, _I64, writable(_I64), _I64, _I64, _I64)
def learn(tree, full, path, n_path, matched, token):
    """Counts a token after the contexts that `descend` found, and adds nodes for the new ones."""
    end = tree.sizes[N_TEXT]
    node, below = path[n_path - 1], path[n_path]
    if matched < full:
        if below >= 0:  # a node between `node` and `below`, for the context in which the two texts part
            middle = _new_node(tree, node, tree.nodes[below, PLACE], matched)
            depth = tree.nodes[node, DEPTH]
            _set_child_slot(tree, child_slot(tree, node, tree.text[end - 1 - depth]), middle)
            _set_node(tree, below, PARENT, middle)
            add_count(tree, middle, tree.nodes[below, FIRST])
            other = tree.nodes[below, OTHERS]
            while other >= 0:
                add_count(tree, middle, tree.others[other, TOKEN])
                other = tree.others[other, NEXT]
            token_below = tree.text[tree.nodes[below, PLACE] - 1 - matched]
            _set_child_slot(tree, child_slot(tree, middle, token_below), below)
            node = middle
        leaf = _new_node(tree, node, end, full)
        _set_child_slot(tree, child_slot(tree, node, tree.text[end - 1 - matched]), leaf)
        node = leaf
    while not add_count(tree, node, token) and node > 0:
        node = tree.nodes[node, PARENT]


@kernel(_I64, _I64, returns=_I64)
def room_for_counts(order, vocab_size):
    """Returns the largest number of counts that one token can add to a tree.

    A new node may have the counts of another, and each of `order` + 1 contexts may get one.
    """
    return vocab_size + order + 1


@kernel(TREE, _I64, _I64, returns=types.boolean)
def has_room(tree, order, vocab_size):
    """Returns True if the arrays of the tree have room for one more token, at most two nodes, and their counts."""
    n_counts = room_for_counts(order, vocab_size)
    return (
        tree.sizes[N_TEXT] < tree.text.size
        and tree.sizes[N_NODES] + 2 <= tree.nodes.shape[0]
        and tree.sizes[N_OTHERS] + n_counts <= tree.others.shape[0]
        and (tree.sizes[KEPT_NODES] == 0 or tree.sizes[N_LOG] + 4 * n_counts + 4 <= tree.log.shape[0])
    )


@kernel(TREE)
def keep(tree):
    """Marks the present tree as the one that `rewind` restores."""
    tree.sizes[KEPT_TEXT], tree.sizes[KEPT_NODES] = tree.sizes[N_TEXT], tree.sizes[N_NODES]
    tree.sizes[KEPT_OTHERS] = tree.sizes[N_OTHERS]


@kernel(TREE)
def rewind(tree):
    """Restores the tree that was marked by `keep`, which ended with a document."""
    nodes, others = tree.nodes.ravel(), tree.others.ravel()
    for entry in range(tree.sizes[N_LOG] - 1, -1, -1):
        array, index, old = tree.log[entry]
        if array == _IN_NODES:
            nodes[index] = old
        elif array == _IN_OTHERS:
            others[index] = old
        elif array == _IN_CHILD_SLOTS:
            tree.child_slots[index] = old
        else:
            tree.other_slots[index] = old
    tree.sizes[N_LOG] = 0
    tree.sizes[N_TEXT], tree.sizes[N_NODES] = tree.sizes[KEPT_TEXT], tree.sizes[KEPT_NODES]
    tree.sizes[N_OTHERS] = tree.sizes[KEPT_OTHERS]
    tree.sizes[START] = tree.sizes[N_TEXT] - 1


@kernel(TREE)
def fill_slots(tree):
    """Fills the two empty hash tables."""
    for node in range(1, tree.sizes[N_NODES]):
        parent = tree.nodes[node, PARENT]
        token = tree.text[tree.nodes[node, PLACE] - 1 - tree.nodes[parent, DEPTH]]
        tree.child_slots[child_slot(tree, parent, token)] = node
    for other in range(tree.sizes[N_OTHERS]):
        owner, token = tree.others[other, OWNER], tree.others[other, TOKEN]
        if owner > 0:
            tree.other_slots[other_slot(tree, owner, token)] = other
