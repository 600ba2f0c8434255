"""The rules of a probabilistic context-free grammar, and the stacks of its derivations.

    Rules({"S": "0.6 up S down | 0.4 up down"})

Each symbol is replaced by one of several alternatives, which are sequences of symbols and words, with the given
probabilities (equal ones if none are given). A symbol without a rule is a word. Text is derived from left to right: a
stack holds the symbols and words that are still to be written, the next one first. If its first element is a symbol,
one of the symbol's alternatives takes its place (a top-down parser: Roark 2001, Probabilistic Top-Down Parsing and
Language Modeling, Computational Linguistics 27).
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
"""Symbols and words that are still to be written, the next one first; the empty stack ends the text."""

START: Stack = ("S",)


@final
class Rules:
    """A probabilistic context-free grammar with the start symbol S.

    Raises ConfigurationError if probabilities do not sum to 1, if the grammar is left-recursive (a symbol can start
    with itself, so that a derivation from the left never ends), or if its texts have no finite mean length.
    """

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._rules = {symbol: _parse(symbol, text) for symbol, text in rules.items()}
        if START[0] not in self._rules:
            raise ConfigurationError(f"the grammar has no rule for its start symbol {START[0]}: add one")
        self._check_left_recursion()
        self._expansions: dict[Stack, dict[Stack, float]] = {}
        self.counts = self._expected_counts()
        """Expected number of occurrences of each symbol in the derivation of a text."""

    @property
    def words(self) -> list[str]:
        """The words of the grammar, in the order of their first occurrence in the rules."""
        elements = (one for alternatives in self._rules.values() for _, sequence in alternatives for one in sequence)
        return list(dict.fromkeys(one for one in elements if one not in self._rules))

    @property
    def mean_length(self) -> float:
        """Mean number of words of the texts that the grammar generates."""
        return sum(
            self.counts[symbol] * prob * sum(one not in self._rules for one in sequence)
            for symbol, alternatives in self._rules.items()
            for prob, sequence in alternatives
        )

    @property
    def entropy(self) -> float:
        """Entropy, in nats, of the derivation of a text that the grammar generates (Grenander 1976).

        This is the entropy of the text if the grammar is unambiguous.
        """
        return sum(
            -self.counts[symbol] * prob * math.log(prob)
            for symbol, alternatives in self._rules.items()
            for prob, _ in alternatives
        )

    def expansions(self, stack: Stack) -> Mapping[Stack, float]:
        """Expands a stack of the grammar until its next word is known; returns the possible results with probabilities.

        A stack holds the symbols and words that are still to be written, the next one first. Its first symbol is
        replaced by each alternative of its rule, repeatedly, until a word is first or the stack is empty.
        """
        if not stack or stack[0] not in self._rules:
            return {stack: 1.0}
        if stack not in self._expansions:
            probs: defaultdict[Stack, float] = defaultdict(float)
            for prob, sequence in self._rules[stack[0]]:
                for expansion, share in self.expansions(sequence + stack[1:]).items():
                    probs[expansion] += prob * share
            self._expansions[stack] = dict(probs)
        return self._expansions[stack]

    def _check_left_recursion(self) -> None:
        """Raises ConfigurationError if a symbol of the grammar can start with itself."""
        empty: set[str] = set()  # symbols that can be written as nothing
        for _ in self._rules:
            empty |= {
                symbol
                for symbol, alternatives in self._rules.items()
                if any(empty.issuperset(sequence) for _, sequence in alternatives)
            }
        first: dict[str, set[str]] = {symbol: set() for symbol in self._rules}
        for symbol, alternatives in self._rules.items():
            for _, sequence in alternatives:
                n_empty = len(list(itertools.takewhile(empty.__contains__, sequence)))
                first[symbol].update(one for one in sequence[: n_empty + 1] if one in self._rules)
        try:
            graphlib.TopologicalSorter(first).prepare()
        except graphlib.CycleError as error:
            cycle = " -> ".join(reversed(error.args[1]))
            raise ConfigurationError(
                f"the grammar must not be left-recursive, but a symbol can start with itself: {cycle}"
            ) from error

    def _expected_counts(self) -> dict[str, float]:
        order = list(self._rules)
        children = np.zeros((len(order), len(order)))  # (N, N): expected symbols in one replacement of each symbol
        for symbol, alternatives in self._rules.items():
            for prob, sequence in alternatives:
                for one in sequence:
                    if one in self._rules:
                        children[order.index(symbol), order.index(one)] += prob
        if abs(np.linalg.eigvals(children)).max() >= 1:
            raise ConfigurationError(
                "the texts of this grammar have no finite mean length: lower the probabilities of recursive rules"
            )
        at_start: NDArray[np.float64] = np.array([float(symbol == START[0]) for symbol in order])
        counts = np.linalg.solve(np.eye(len(order)) - children.T, at_start)
        return dict(zip(order, counts.tolist(), strict=True))


def _parse(symbol: str, text: str) -> list[tuple[float, Stack]]:
    """Parses the rule of a symbol, and returns its alternatives with their probabilities.

    Raises ConfigurationError if only some alternatives have probabilities, or if these do not sum to 1.
    """
    alternatives = [part.split() for part in text.split("|")]
    weighted = [bool(sequence) and _is_number(sequence[0]) for sequence in alternatives]
    if any(weighted) != all(weighted):
        raise ConfigurationError(
            f"the rule of {symbol} must give probabilities to all alternatives or to none: '{text}'"
        )
    if not all(weighted):
        return [(1 / len(alternatives), tuple(sequence)) for sequence in alternatives]
    parsed = [(float(sequence[0]), tuple(sequence[1:])) for sequence in alternatives]
    total = sum(prob for prob, _ in parsed)
    if not (math.isclose(total, 1) and all(prob > 0 for prob, _ in parsed)):
        raise ConfigurationError(
            f"the probabilities of {symbol} must be above 0 and sum to 1, got the sum {total:g}: '{text}'"
        )
    return parsed


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
