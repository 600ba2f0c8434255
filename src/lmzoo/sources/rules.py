"""Rules that write text: a probabilistic context-free grammar, and the stack of what is still to be written.

    Rules({"S": "0.6 up S down | 0.4 up down"})

Each symbol stands for one of several rows of symbols and words, with the probabilities given, or all alike if none are.
A symbol that has no rule is a word. Text is written from the left: the stack holds what must still come, the next on
top, and where a symbol is on top, one of its rows takes its place (a top-down parser: Roark 2001, Probabilistic
Top-Down Parsing and Language Modeling, Computational Linguistics 27).
"""

from __future__ import annotations

import graphlib
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import final

import numpy as np
from numpy.typing import NDArray

from lmzoo.errors import ConfigurationError

Stack = tuple[str, ...]
"""Symbols and words, the next one first; () = the text ends here."""

START: Stack = ("S",)


@final
class Rules:
    """A grammar whose start is the symbol S.

    ConfigurationError if probabilities do not sum to 1, if a symbol can begin with itself (which a parser from the left
    never finishes), or if texts have no finite mean length.
    """

    def __init__(self, rows: Mapping[str, str]) -> None:
        self._rows = {symbol: _parsed(symbol, text) for symbol, text in rows.items()}
        if START[0] not in self._rows:
            raise ConfigurationError(f"a grammar begins with the symbol {START[0]}, which has no rule here")
        self._check_beginnings()
        self._ways: dict[Stack, dict[Stack, float]] = {}
        self.counts = self._expected_counts()
        """How often each symbol is expected in the writing of a text."""

    @property
    def words(self) -> list[str]:
        """All words, in the order in which they first stand in the rules."""
        written = (one for rows in self._rows.values() for _, symbols in rows for one in symbols)
        return list(dict.fromkeys(one for one in written if one not in self._rows))

    @property
    def mean_length(self) -> float:
        """Words of a text, on average."""
        return sum(
            self.counts[symbol] * prob * sum(one not in self._rows for one in symbols)
            for symbol, rows in self._rows.items()
            for prob, symbols in rows
        )

    @property
    def entropy(self) -> float:
        """Nats of all choices in the writing of a text (Grenander 1976).

        That is the entropy of the text if no text can be written in two ways.
        """
        return sum(
            -self.counts[symbol] * prob * math.log(prob) for symbol, rows in self._rows.items() for prob, _ in rows
        )

    def ways(self, stack: Stack) -> Mapping[Stack, float]:
        """The stacks, each empty or with a word on top, that this one can become, with their probabilities."""
        if not stack or stack[0] not in self._rows:
            return {stack: 1.0}
        if stack not in self._ways:
            found: defaultdict[Stack, float] = defaultdict(float)
            for prob, symbols in self._rows[stack[0]]:
                for way, share in self.ways(symbols + stack[1:]).items():
                    found[way] += prob * share
            self._ways[stack] = dict(found)
        return self._ways[stack]

    def _check_beginnings(self) -> None:
        empty: set[str] = set()  # symbols that can be written as nothing
        for _ in self._rows:
            empty |= {symbol for symbol, rows in self._rows.items() if any(empty.issuperset(row) for _, row in rows)}
        first: dict[str, set[str]] = {symbol: set() for symbol in self._rows}
        for symbol, rows in self._rows.items():
            for _, row in rows:
                n_empty = len(list(itertools.takewhile(empty.__contains__, row)))
                first[symbol].update(one for one in row[: n_empty + 1] if one in self._rows)
        try:
            graphlib.TopologicalSorter(first).prepare()
        except graphlib.CycleError as error:
            circle = " - ".join(reversed(error.args[1]))
            raise ConfigurationError(
                f"a grammar for reading from the left must not begin in circles: {circle}"
            ) from error

    def _expected_counts(self) -> dict[str, float]:
        order = list(self._rows)
        children = np.zeros((len(order), len(order)))  # (N, N): of each symbol in one writing of another
        for symbol, rows in self._rows.items():
            for prob, symbols in rows:
                for one in symbols:
                    if one in self._rows:
                        children[order.index(symbol), order.index(one)] += prob
        if abs(np.linalg.eigvals(children)).max() >= 1:
            raise ConfigurationError("texts of this grammar have no finite mean length: let it end more often")
        at_start: NDArray[np.float64] = np.array([float(symbol == START[0]) for symbol in order])
        counts = np.linalg.solve(np.eye(len(order)) - children.T, at_start)
        return dict(zip(order, counts.tolist(), strict=True))


def _parsed(symbol: str, text: str) -> list[tuple[float, Stack]]:
    """The rows of a symbol with their probabilities."""
    rows = [part.split() for part in text.split("|")]
    weighted = [bool(row) and _is_number(row[0]) for row in rows]
    if any(weighted) != all(weighted):
        raise ConfigurationError(f"the rule of {symbol} gives probabilities to some rows and not to others: '{text}'")
    if not all(weighted):
        return [(1 / len(rows), tuple(row)) for row in rows]
    parsed = [(float(row[0]), tuple(row[1:])) for row in rows]
    total = sum(prob for prob, _ in parsed)
    if not (math.isclose(total, 1) and all(prob > 0 for prob, _ in parsed)):
        raise ConfigurationError(f"the probabilities of {symbol} must be above 0 and sum to 1, not {total:g}: '{text}'")
    return parsed


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
