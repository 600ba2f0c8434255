"""The restaurants of the sequence memoizer: customers, tables and probabilities, compiled.

Each node of a tree of contexts is a restaurant. An entry of the node is a dish: a token that followed the context. Its
customers are the occurrences of the token that belong to no child of the node, and the tables of the token in the
children. With c customers at t = c^e tables for a token w, and the sums C and T of these numbers over all tokens,

    P(w | node) = (c - d t) / (a + C) + (a + d T) / (a + C) P(w | parent)

Here d is the discount of the node, e its exponent and a its concentration. The discount of a node is the product of the
discounts of all lengths that are longer than the context of its parent, up to the length of its own context. Its
exponent is the product of the exponents of the same lengths. Its concentration is that of the model, times the
discounts of all lengths up to its own. So all contexts between a node and its parent can be left out (Wood et al.
2009), even if the concentration is above 0 (Gasthaus & Teh 2010).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from lmzoo.models.sequence_memoizer.tree import ROOT, TREE, ContextTree
from lmzoo.system.compiled import kernel, writable

_I64, _F64 = types.int64, types.float64


class Parameters(NamedTuple):
    """The parameters of a sequence memoizer for contexts of up to M tokens."""

    sums: NDArray[np.float64]
    """(2, M + 2) element k of the first row is the sum of the logarithms of the discounts of the lengths 0, .. k - 1.
    The second row holds these sums for the exponents."""
    concentration: float
    """The concentration of the model."""
    base: float
    """The probability of each token in the uniform distribution, the mean for the empty context."""


class Seating(NamedTuple):
    """The customers in a tree of contexts with N nodes and E entries, and the probabilities that follow from them."""

    customers: NDArray[np.float64]
    """(E,) the number of customers of each entry."""
    probs: NDArray[np.float64]
    """(E,) the probability of the token of each entry after the context of its node."""
    left: NDArray[np.float64]
    """(N,) the factor by which the probabilities of the parent are multiplied in those of each node."""


PARAMETERS = types.NamedTuple((writable(_F64, 2), _F64, _F64), Parameters)
"""The numba type of `Parameters`."""
SEATING = types.NamedUniTuple(writable(_F64), 3, Seating)
"""The numba type of a `Seating`."""
DISCOUNT, EXPONENT = 0, 1
"""Rows of `Parameters.sums`."""


def empty_seating(tree: ContextTree) -> Seating:
    """Returns a seating for a tree of contexts, with zeros in its arrays."""
    n_entries, n_nodes = tree.tokens.size, tree.lengths.size
    return Seating(np.zeros(n_entries), np.zeros(n_entries), np.zeros(n_nodes))


@kernel(TREE, _I64, returns=_I64)
def parent_length(tree, node):
    """Returns the length of the context of the parent of a node or leaf; -1 for the root."""
    return -1 if node == ROOT else tree.lengths[tree.parents[node]]


@kernel(PARAMETERS, _I64, _I64, _I64, returns=_F64)
def product(parameters, kind, shorter, length):
    """Returns the product of the discounts of the lengths from `shorter` + 1 to `length`, or of the exponents.

    `kind` is DISCOUNT or EXPONENT.
    """
    return np.exp(parameters.sums[kind, length + 1] - parameters.sums[kind, shorter + 1])


@kernel(PARAMETERS, _I64, _I64, _I64, _F64, writable(_F64, 2))
def add_slope(parameters, kind, shorter, length, slope, gradient):
    """Adds the derivatives of a function to `gradient`, given its derivative `slope` with respect to a `product`."""
    change = slope * product(parameters, kind, shorter, length)
    gradient[kind, length + 1] += change
    gradient[kind, shorter + 1] -= change


@kernel(PARAMETERS, _I64, returns=_F64)
def concentration_of(parameters, length):
    """Returns the concentration of a context of `length` tokens."""
    return parameters.concentration * np.exp(parameters.sums[DISCOUNT, length + 1])


@kernel(_F64, _F64, returns=_F64)
def power(customers, exponent):
    """Returns `customers` to the power of `exponent`, without computing it for one customer, the most frequent case."""
    return 1.0 if customers == 1 else customers**exponent


@kernel(TREE, PARAMETERS, SEATING)
def seat(tree, parameters, seating):
    """Computes the customers and the probabilities of all entries, and writes them to `seating`.

    Customers are counted from the longest contexts to the shortest, because the tables of a node are customers of its
    parent. Probabilities are computed in the other direction.
    """
    customers, probs, left = seating
    customers[:] = tree.counts
    totals = np.empty(left.size)
    for node in range(left.size - 1, -1, -1):
        shorter, length = parent_length(tree, node), tree.lengths[node]
        discount = product(parameters, DISCOUNT, shorter, length)
        exponent = product(parameters, EXPONENT, shorter, length)
        a = concentration_of(parameters, length)
        total, n_tables = a, 0.0
        for entry in range(tree.begins[node], tree.begins[node + 1]):
            tables = power(customers[entry], exponent)
            total += customers[entry]
            n_tables += tables
            probs[entry] = customers[entry] - discount * tables
            if node != ROOT:
                customers[tree.parent_entries[entry]] += tables
        totals[node], left[node] = total, (a + discount * n_tables) / total
    for node in range(left.size):
        for entry in range(tree.begins[node], tree.begins[node + 1]):
            below = parameters.base if node == ROOT else probs[tree.parent_entries[entry]]
            probs[entry] = probs[entry] / totals[node] + left[node] * below


@kernel(TREE, PARAMETERS, SEATING, SEATING, writable(_F64, 2), writable(_F64))
def seat_backwards(tree, parameters, seating, slopes, gradient, by_concentration):
    """Computes the derivatives of a function of `seating` with respect to the parameters from which `seat` computed it.

    - `slopes`: the derivatives with respect to the elements of `seating`. They are overwritten.
    - `gradient` (2, M + 2): array to which the derivatives with respect to `Parameters.sums` are added.
    - `by_concentration` (1,): array to which the derivative with respect to the logarithm of the concentration is
      added.
    """
    customers, probs, left = seating
    by_customers, by_probs, by_left = slopes
    by_tables = np.empty(probs.size)
    for node in range(left.size - 1, -1, -1):
        shorter, length = parent_length(tree, node), tree.lengths[node]
        discount = product(parameters, DISCOUNT, shorter, length)
        exponent = product(parameters, EXPONENT, shorter, length)
        a = concentration_of(parameters, length)
        total, n_tables, by_total, by_discount = a, 0.0, 0.0, 0.0
        for entry in range(tree.begins[node], tree.begins[node + 1]):
            slope, tables = by_probs[entry], power(customers[entry], exponent)
            total += customers[entry]
            n_tables += tables
            by_total -= slope * (customers[entry] - discount * tables)
            by_discount -= slope * tables
            if node == ROOT:
                by_left[node] += slope * parameters.base
            else:
                by_left[node] += slope * probs[tree.parent_entries[entry]]
                by_probs[tree.parent_entries[entry]] += slope * left[node]
        by_total = by_total / total**2 - by_left[node] * left[node] / total
        for entry in range(tree.begins[node], tree.begins[node + 1]):
            by_customers[entry] += by_probs[entry] / total + by_total
            by_tables[entry] = discount * (by_left[node] - by_probs[entry]) / total
        by_a = a * (by_total + by_left[node] / total)
        by_concentration[0] += by_a
        gradient[DISCOUNT, length + 1] += by_a
        add_slope(
            parameters, DISCOUNT, shorter, length, (by_discount + by_left[node] * n_tables) / total, gradient
        )  # fmt: skip
    for node in range(left.size):
        shorter, length, by_exponent = parent_length(tree, node), tree.lengths[node], 0.0
        exponent = product(parameters, EXPONENT, shorter, length)
        for entry in range(tree.begins[node], tree.begins[node + 1]):
            if node != ROOT:
                by_tables[entry] += by_customers[tree.parent_entries[entry]]
            if customers[entry] != 1:
                slope = by_tables[entry] * power(customers[entry], exponent)
                by_customers[entry] += slope * exponent / customers[entry]
                by_exponent += slope * np.log(customers[entry])
        add_slope(parameters, EXPONENT, shorter, length, by_exponent, gradient)
