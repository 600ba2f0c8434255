"""Reads a text with a tree of contexts, in compiled code: finds matches, and computes the probabilities of tokens.

The match at a position of a text is the longest sequence of tokens that ends there and occurs in the training text. It
is stored as two numbers: the shortest node or leaf of the tree whose context ends with the match, and the length of the
match.

If a match is shorter than the context of its node or leaf, its restaurant is one of those that the tree leaves out
between this node and its parent. It has as many tables as the restaurant of the node. The number of its customers for a
token is c^e, where c is the number of customers for the token in the node, and e the product of the exponents of all
lengths that are longer than the match, up to the length of the node's context.
"""

from __future__ import annotations

import numpy as np
from numba import types

from lmzoo.models.sequence_memoizer.seating import (
    DISCOUNT,
    EXPONENT,
    PARAMETERS,
    SEATING,
    add_slope,
    concentration_of,
    parent_length,
    power,
    product,
)
from lmzoo.models.sequence_memoizer.tree import ROOT, TREE
from lmzoo.stream import EOT
from lmzoo.system.compiled import kernel, read_only, writable

_I32, _I64, _U16, _F64 = types.int32, types.int64, types.uint16, types.float64
_INDEX = (read_only(_I32), read_only(_I64), read_only(_U16))
"""The types of `by_next`, `starts` and `shared`, arrays of the index of the training text."""


_SMALLEST = 1e-300
"""The smallest probability of a token. In texts that repeat one token, there are hundreds of contexts, and the product
of their factors could be 0 in floating point."""


# ---- Matches ----------------------------------------------------------------------------------------


@kernel(read_only(_I32), _I64, _I64, _I64, returns=_I64)
def _first_at_least(by_next, begin, end, row):
    """Returns the first index in [begin, end) at which `by_next`, sorted there, is at least `row`, or `end`."""
    while begin < end:
        middle = (begin + end) >> 1
        if by_next[middle] < row:
            begin = middle + 1
        else:
            end = middle
    return begin


@kernel(TREE, *_INDEX, _I64, _I64, _I64, _I64, returns=types.UniTuple(_I64, 2))
def _extend(tree, by_next, starts, shared, max_context, node, length, token):
    """Returns the match after one more token, as a node or leaf and a length.

    `node` and `length` are the match before the token; `max_context` is the largest length of a match. After the
    end-of-text token, the match is the start of a document.
    """
    n_nodes = tree.lengths.size
    if token == EOT:
        node, length = ROOT, 0
    elif length == max_context:
        length -= 1
        while parent_length(tree, node) >= length:
            node = np.int64(tree.parents[node])
    while True:
        low, high = node - n_nodes, node - n_nodes + 1
        if node < n_nodes:
            low, high = np.int64(tree.bounds[node, 0]), np.int64(tree.bounds[node, 1])
        begin = _first_at_least(by_next, starts[token], starts[token + 1], low)
        end = _first_at_least(by_next, begin, starts[token + 1], high)
        if end - begin == 1:
            return n_nodes + begin, length + 1
        if begin < end:
            return np.int64(tree.nodes_at[begin if shared[begin] >= shared[end] else end - 1]), length + 1
        if node == ROOT:
            return node, length
        node = np.int64(tree.parents[node])
        length = np.int64(tree.lengths[node])


@kernel(TREE, *_INDEX, _I64, read_only(_I32), writable(_I64, 2))
def match(tree, by_next, starts, shared, max_context, ids, matches):
    """Finds the matches before each of the T tokens `ids` and after the last one.

    The first row of `matches` (T + 1, 2) is the match before the first token; the others are written. Each row is a
    node or leaf and a length.
    """
    node, length = matches[0]
    for t in range(ids.size):
        node, length = _extend(tree, by_next, starts, shared, max_context, node, length, np.int64(ids[t]))
        matches[t + 1, 0], matches[t + 1, 1] = node, length


# ---- Contexts that are not in the tree --------------------------------------------------------------


@kernel(TREE, _I64, _I64, returns=types.boolean)
def _is_between(tree, node, length):
    """Returns True if a match ends between a node or leaf and its parent, False if it is the context of the node."""
    return node >= tree.lengths.size or length < tree.lengths[node]


@kernel(TREE, read_only(_I32), PARAMETERS, SEATING, _I64, _I64, writable(_I32), writable(_F64, 2),
        returns=types.Tuple((_I64, _F64, _F64)))  # fmt: skip
def _restaurant(tree, next_ids, parameters, seating, node, length, tokens, columns):
    """Computes the restaurant of a match that ends between a node or leaf and its parent.

    Writes its tokens to `tokens`, and for each a row of `columns`: the customers in the restaurant of the node, the
    customers and the tables in the restaurant of the match, and the part of the token's probability that does not come
    from the parent. Returns the number of tokens, the concentration plus the number of all customers, and the factor by
    which the probabilities after the parent are multiplied.
    """
    shorter, a = parent_length(tree, node), concentration_of(parameters, length)
    discount = product(parameters, DISCOUNT, shorter, length)
    if node >= tree.lengths.size:
        tokens[0], columns[0, :3], columns[0, 3] = next_ids[node - tree.lengths.size], 1.0, (1 - discount) / (a + 1)
        return 1, a + 1, (a + discount) / (a + 1)
    whole = product(parameters, EXPONENT, shorter, tree.lengths[node])
    upper = product(parameters, EXPONENT, length, tree.lengths[node])
    total, n_tables, n = a, 0.0, 0
    for entry in range(tree.begins[node], tree.begins[node + 1]):
        customers = seating.customers[entry]
        here, tables = power(customers, upper), power(customers, whole)
        tokens[n], columns[n, 0], columns[n, 1], columns[n, 2] = tree.tokens[entry], customers, here, tables
        total += here
        n_tables += tables
        n += 1
    columns[:n, 3] = (columns[:n, 1] - discount * columns[:n, 2]) / total
    return n, total, (a + discount * n_tables) / total


@kernel(TREE, PARAMETERS, _I64, _I64, _I32, _F64, _F64, _F64, read_only(_I32), read_only(_F64, 2),
        writable(_F64), writable(_F64, 2), writable(_F64))  # fmt: skip
def _restaurant_backwards(tree, parameters, node, length, token, prob, shorter, total, tokens, columns,
                          by_customers, gradient, by_concentration):  # fmt: skip
    """Computes the derivatives of the log-probability of a token after a match whose restaurant is `_restaurant`.

    `prob` is the probability of the token after the match, and `shorter` the one after the parent of the node. `total`
    and the rows of `columns` are results of `_restaurant`. The derivatives with respect to the customers of the node
    are added to `by_customers`, and those with respect to the parameters to `gradient` and `by_concentration`, as in
    `seat_backwards`.
    """
    above, slope = parent_length(tree, node), 1 / (total * prob)
    end = tree.lengths[node] if node < tree.lengths.size else length
    discount = product(parameters, DISCOUNT, above, length)
    upper, whole = product(parameters, EXPONENT, length, end), product(parameters, EXPONENT, above, end)
    by_discount, by_upper, by_whole = 0.0, 0.0, 0.0
    for i in range(tokens.size):
        customers, here, tables, _ = columns[i]
        is_token = 1 if tokens[i] == token else 0
        by_here, by_tables = slope * (is_token - prob) * here, slope * discount * (shorter - is_token) * tables
        by_discount += slope * (shorter - is_token) * tables
        if customers > 1:
            by_customers[i] += (by_here * upper + by_tables * whole) / customers
            by_upper += by_here * np.log(customers)
            by_whole += by_tables * np.log(customers)
    by_a = concentration_of(parameters, length) * slope * (shorter - prob)
    by_concentration[0] += by_a
    gradient[DISCOUNT, length + 1] += by_a
    add_slope(parameters, DISCOUNT, above, length, by_discount, gradient)
    add_slope(parameters, EXPONENT, length, end, by_upper, gradient)
    add_slope(parameters, EXPONENT, above, end, by_whole, gradient)


# ---- Probabilities ----------------------------------------------------------------------------------


@kernel(TREE, _I64, _I32, returns=_I64)
def _entry_of(tree, node, token):
    """Returns the entry of a token in a node, or -1 if the token never followed the context of the node."""
    begin, end = tree.begins[node], tree.begins[node + 1]
    entry = begin + np.searchsorted(tree.tokens[begin:end], token)
    return entry if entry < end and tree.tokens[entry] == token else -1


@kernel(TREE, read_only(_I32), PARAMETERS, SEATING, read_only(_I64, 2), read_only(_I32), writable(_F64), SEATING,
        writable(_F64, 2), writable(_F64))  # fmt: skip
def score(tree, next_ids, parameters, seating, matches, ids, log_probs, slopes, gradient, by_concentration):
    """Computes the log-probability of each of T tokens, given the match before it, and derivatives of their sum.

    - `next_ids`: the token after each row of the index.
    - `matches` (T or more, 2): the matches, from `match`.
    - `ids`, `log_probs` (T,): the tokens, and the array to which their log-probabilities are written.
    - `slopes`: the derivatives with respect to the elements of `seating` are added to these arrays.
    - `gradient`, `by_concentration`: the derivatives with respect to the parameters, where the parameters are used
      directly, are added to these arrays, as in `seat_backwards`. If `gradient` is empty, no derivatives are computed.

    The probability of a token is that of its entry in the longest context that it followed, times the factors of all
    longer contexts.
    """
    tokens, columns = np.empty(tree.begins[1], np.int32), np.empty((tree.begins[1], 4))
    for t in range(ids.size):
        first, length, token = matches[t, 0], matches[t, 1], ids[t]
        node, n, total, scale, own = first, 0, 1.0, 1.0, 0.0
        if _is_between(tree, node, length):
            n, total, scale = _restaurant(tree, next_ids, parameters, seating, node, length, tokens, columns)
            for i in range(n):
                if tokens[i] == token:
                    own = columns[i, 3]
            node = np.int64(tree.parents[node])
        nearest, factor, entry = node, 1.0, _entry_of(tree, node, token)
        while entry < 0 and node != ROOT:
            factor *= seating.left[node]
            node = np.int64(tree.parents[node])
            entry = _entry_of(tree, node, token)
        if entry < 0:
            factor *= seating.left[ROOT]
        shorter = factor * (seating.probs[entry] if entry >= 0 else parameters.base)
        prob = max(own + scale * shorter, _SMALLEST)
        log_probs[t] = np.log(prob)
        if gradient.size == 0:
            continue
        last = node
        if entry >= 0:
            slopes.probs[entry] += scale * factor / prob
        else:
            slopes.left[ROOT] += scale * shorter / seating.left[ROOT] / prob
        node = nearest
        while node != last:
            slopes.left[node] += scale * shorter / seating.left[node] / prob
            node = np.int64(tree.parents[node])
        if n > 0:
            begin = tree.begins[first] if first < tree.lengths.size else 0
            _restaurant_backwards(
                tree, parameters, first, length, token, prob, shorter, total, tokens[:n], columns[:n],
                slopes.customers[begin : begin + n], gradient, by_concentration,
            )  # fmt: skip


@kernel(TREE, read_only(_I32), PARAMETERS, SEATING, read_only(_F64), read_only(_I64, 2), writable(_F64, 2))
def fill_rows(tree, next_ids, parameters, seating, root_probs, matches, rows):
    """Writes the distribution over V tokens after each of T matches (T, 2) to `rows` (T, V).

    `root_probs` (V,) is the distribution after the empty context, and `next_ids` the token after each row of the index.
    """
    tokens, columns = np.empty(tree.begins[1], np.int32), np.empty((tree.begins[1], 4))
    path = np.empty(tree.lengths.max() + 1, np.int64)
    scales = np.empty(path.size)
    for t in range(rows.shape[0]):
        row, node, length = rows[t], matches[t, 0], matches[t, 1]
        n, n_path, scale = 0, 0, 1.0
        if _is_between(tree, node, length):
            n, _, scale = _restaurant(tree, next_ids, parameters, seating, node, length, tokens, columns)
            node = np.int64(tree.parents[node])
        while node != ROOT:
            path[n_path], scales[n_path] = node, scale
            scale *= seating.left[node]
            node = np.int64(tree.parents[node])
            n_path += 1
        row[:] = scale * root_probs
        for k in range(n_path - 1, -1, -1):
            for entry in range(tree.begins[path[k]], tree.begins[path[k] + 1]):
                row[tree.tokens[entry]] = scales[k] * seating.probs[entry]
        for i in range(n):
            row[tokens[i]] += columns[i, 3]
        np.maximum(row, _SMALLEST, row)
