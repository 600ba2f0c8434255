"""Prediction of tokens from the contexts of a tree, and learning after every token, compiled.

A context of the tree has n counts, of u different tokens. Its distribution is blended with that of the next shorter
context, from the empty context, which is blended with the uniform distribution, to the longest context that occurred:

    P(x | context) = (max(n_x - b, 0) + (a + u b) P(x | next shorter context)) / (n + a)

The parameters a and b depend on the cell of the context: its length and u.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from lmzoo.models.ppm.tree import (
    COUNT,
    DEPTH,
    FIRST,
    FIRST_COUNT,
    KEPT_NODES,
    KINDS,
    N_TEXT,
    NEXT,
    OTHERS,
    START,
    TOKEN,
    TOTAL,
    TREE,
    count_of,
    descend,
    has_room,
    learn,
    rewind,
)  # fmt: skip
from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable

N_LENGTHS, N_KINDS = 13, 10
"""Cells are for contexts of 0, 1, .. 11, and 12 or more tokens that were followed by 1, 2, .. 9, and 10 or more
different tokens (Steinruecken et al. 2015)."""
A, B, A_SQUARES, B_SQUARES = range(4)
"""Columns of the array of parameters, which has a row for each cell: a, b, and the sums of their squared gradients."""
SMALLEST, LARGEST = 1e-3, 1e4
"""Smallest value of a + b, and largest value of a. With a + b above 0, every context leaves some probability to the
tokens that have not followed it."""
_CELL, _TOTAL, _KINDS, _HAS_COUNT, _A, _B, _BELOW, _PROB = range(8)
"""Columns of the array `levels`."""
_I32, _I64, _F64 = types.int32, types.int64, types.float64
_PARAMETERS, _PATH = writable(_F64, 2), writable(_I64)


@kernel(_I64, _I64, returns=_I64)
def cell_of(length, kinds):
    """Returns the cell of a context of `length` tokens that was followed by `kinds` different tokens."""
    return min(length, N_LENGTHS - 1) * N_KINDS + min(kinds, N_KINDS) - 1


@kernel(TREE, _PARAMETERS, _F64, _PATH, _I64, _I64, _I64, _F64, writable(_F64, 2), returns=types.Tuple((_F64, _I64)))
def blend(tree, parameters, per_kind, path, n_path, matched, token, prob, levels):
    """Returns the probability of a token after the contexts that `descend` found, and the number of these contexts.

    `prob` is its probability in the uniform distribution. `per_kind` is added to a for each different token. The terms
    of the formula are written to `levels`, one row for each context: its cell, n, u, 1 or 0 for a token with or without
    a count, a, b, and the probability after the next shorter context and after this one.
    """
    length, n_levels = 0, 0
    for k in range(n_path + (path[n_path] >= 0)):
        node = path[k]
        kinds = tree.nodes[node, KINDS]
        if kinds == 0:  # the root before the first token
            break
        count = count_of(tree, node, token)
        last = tree.nodes[node, DEPTH] if k < n_path else matched
        while length <= last:
            # A context on the way to a node: each token with a count in the node has the count 1.
            total, here = kinds, min(count, 1)
            if k < n_path and length == last:
                total, here = tree.nodes[node, TOTAL], count
            cell = cell_of(length, kinds)
            a, b = parameters[cell, A] + per_kind * kinds, parameters[cell, B]
            level = levels[n_levels]
            level[_CELL], level[_TOTAL], level[_KINDS], level[_HAS_COUNT] = cell, total, kinds, here > 0
            level[_A], level[_B], level[_BELOW] = a, b, prob
            prob = (max(here - b, 0.0) + (a + kinds * b) * prob) / (total + a)
            level[_PROB] = prob
            n_levels += 1
            length += 1
    return prob, n_levels


@kernel(_PARAMETERS, writable(_F64, 2), _I64, _F64)
def adjust(parameters, levels, n_levels, rate):
    """Changes the parameters by a step of gradient ascent on the log-probability of the token of `levels`.

    The step is that of AdaGrad: `rate` times the gradient, divided by the root of the sum of its squares so far.
    """
    slope = 1 / levels[n_levels - 1, _PROB] if n_levels > 0 else 0.0
    for k in range(n_levels - 1, -1, -1):
        level = levels[k]
        row = parameters[int(level[_CELL])]
        slope /= level[_TOTAL] + level[_A]
        slope_a = slope * (level[_BELOW] - level[_PROB])
        slope_b = slope * (level[_KINDS] * level[_BELOW] - level[_HAS_COUNT])
        row[A_SQUARES] += slope_a * slope_a
        row[B_SQUARES] += slope_b * slope_b
        row[B] = min(max(row[B] + rate * slope_b / math.sqrt(row[B_SQUARES]), 0.0), 1.0)
        row[A] = min(max(row[A] + rate * slope_a / math.sqrt(row[A_SQUARES]), SMALLEST - row[B]), LARGEST)
        slope *= level[_A] + level[_KINDS] * level[_B]


@kernel(TREE, _PARAMETERS, _F64, _PATH, _I64, _I64, writable(_F64))
def fill_row(tree, parameters, per_kind, path, n_path, matched, row):
    """Writes the probability of each of V tokens after the contexts that `descend` found to `row` (V,).

    `per_kind` is added to a for each different token.
    """
    row[:] = 0
    weight, length = 1.0, matched
    for k in range(n_path if path[n_path] >= 0 else n_path - 1, -1, -1):
        node = path[k]
        kinds = tree.nodes[node, KINDS]
        if kinds == 0:
            break
        scale, shift = 0.0, 0.0  # a token with count c gets scale * c + shift
        if k < n_path:
            cell, total = cell_of(length, kinds), tree.nodes[node, TOTAL]
            a, b = parameters[cell, A] + per_kind * kinds, parameters[cell, B]
            scale = weight / (total + a)
            shift = -scale * b
            weight = scale * (a + kinds * b)
            length -= 1
        above = tree.nodes[path[k - 1], DEPTH] if k > 0 else -1
        while length > above:
            cell = cell_of(length, kinds)
            a, b = parameters[cell, A] + per_kind * kinds, parameters[cell, B]
            weight /= kinds + a
            shift += weight * (1 - b)
            weight *= a + kinds * b
            length -= 1
        if node == 0:
            for token in range(row.size):
                count = tree.others[token, COUNT]
                row[token] += scale * count + (shift if count > 0 else 0.0)
            break
        row[tree.nodes[node, FIRST]] += scale * tree.nodes[node, FIRST_COUNT] + shift
        other = tree.nodes[node, OTHERS]
        while other >= 0:
            row[tree.others[other, TOKEN]] += scale * tree.others[other, COUNT] + shift
            other = tree.others[other, NEXT]
    row += weight / row.size


@kernel(TREE, _PARAMETERS, _F64, _I64, writable(_F64))
def predict(tree, parameters, per_kind, order, row):
    """Writes the probability of each of V tokens after the text of the tree to `row` (V,)."""
    path = np.empty(order + 2, np.int64)
    n_path, matched = descend(tree, min(order, tree.sizes[N_TEXT] - tree.sizes[START]), path)
    fill_row(tree, parameters, per_kind, path, n_path, matched, row)


@kernel(TREE, _PARAMETERS, read_only(_F64, 2), _F64, _F64, _I64, _I64, types.boolean,
        read_only(_I32), writable(_F64), writable(_F64, 2), returns=_I64)  # fmt: skip
def read(tree, parameters, kept_parameters, rate, per_kind, order, vocab_size, learns, ids, log_probs, rows):
    """Reads T tokens after the text of the tree, and stops if the memory of the tree is full.

    - `kept_parameters`: the parameters to which the model returns at the start of each document, when it also returns
    to the tree that was kept; used only if a tree was kept.
    - `rate`: step size of the parameters. `per_kind`: what is added to a for each different token.
    - `learns`: True if the tree learns after every token.
    - `log_probs` (T,): array to which the log-probability of each token is written, unless it is empty.
    - `rows` (T, V): array to which the distribution before each token is written, unless it is empty.

    Returns the number of tokens that were read.
    """
    path, levels = np.empty(order + 2, np.int64), np.empty((order + 1, 8))
    adjusts = learns and rate > 0
    for t in range(ids.size):
        if not has_room(tree, order, vocab_size):
            return t
        token, end = ids[t], tree.sizes[N_TEXT]
        full = min(order, end - tree.sizes[START])
        n_path, matched = descend(tree, full, path)
        if rows.size > 0:
            fill_row(tree, parameters, per_kind, path, n_path, matched, rows[t])
        if log_probs.size > 0 or adjusts:
            prob, n_levels = blend(tree, parameters, per_kind, path, n_path, matched, token, 1 / vocab_size, levels)
            if log_probs.size > 0:
                log_probs[t] = math.log(prob)
            if adjusts:
                adjust(parameters, levels, n_levels, rate)
        if token == EOT and tree.sizes[KEPT_NODES] > 0:
            rewind(tree)
            parameters[:] = kept_parameters
            continue
        if learns:
            learn(tree, full, path, n_path, matched, token)
        tree.text[end] = token
        tree.sizes[N_TEXT] = end + 1
        if token == EOT:
            tree.sizes[START] = end
    return ids.size
