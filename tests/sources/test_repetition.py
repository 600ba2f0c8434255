"""Copying, induction and recall: probabilities and entropies by enumeration of all texts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
from source_texts import all_texts

from lmzoo.sources import Source
from lmzoo.sources.copying import Copying, Induction
from lmzoo.sources.recall import Recall


def words_of(made: Source[Any]) -> dict[str, float]:
    return {made.text(text): prob for text, prob in all_texts(made).items()}


def check_all_texts(made: Source[Any], expected: Iterator[tuple[str, float]]) -> None:
    """Compares the texts of a source, their probabilities and its entropy with an enumeration of all texts."""
    found, wanted = words_of(made), dict(expected)
    assert found.keys() == wanted.keys()
    assert found == pytest.approx(wanted)
    assert sum(found.values()) == pytest.approx(1)
    nats = -sum(prob * math.log(prob) for prob in found.values())
    assert made.entropy == pytest.approx(nats / sum(prob * (len(text.split()) + 1) for text, prob in found.items()))


def test_copying_is_all_lists_twice() -> None:
    def texts() -> Iterator[tuple[str, float]]:
        for length in (1, 2, 3):
            for words in itertools.product("ab", repeat=length):
                yield f"{' '.join(words)} | {' '.join(words)}", 1 / 3 / 2**length

    check_all_texts(Copying(["a", "b", "|"], range(1, 4)).load_arrays({}), texts())


def test_induction_is_all_orders_and_their_tails() -> None:
    def texts() -> Iterator[tuple[str, float]]:
        for length in (2, 3):
            orders = list(itertools.permutations("abc", length))
            for order in orders:
                for seam in range(length - 1):
                    yield " ".join(order + order[seam:]), 1 / 2 / len(orders) / (length - 1)

    check_all_texts(Induction(["a", "b", "c"], range(2, 4)).load_arrays({}), texts())


def test_recall_is_all_facts_asked_for() -> None:
    def texts() -> Iterator[tuple[str, float]]:
        for length in (1, 2, 3):
            for names in itertools.product(["ann", "bob"], repeat=length):
                told = sorted(set(names))
                for things in itertools.product(["red", "blue"], repeat=len(told)):
                    facts = dict(zip(told, things, strict=True))
                    text = " ".join(f"{name} {facts[name]}" for name in names)
                    yield text, 1 / 3 / 2**length / 2 ** len(told)

    check_all_texts(Recall(["ann", "bob"], ["red", "blue"], range(1, 4)).load_arrays({}), texts())
