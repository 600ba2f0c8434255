"""Grammars: entropies worked by hand, probabilities by enumeration and by a chart parser."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from nltk.grammar import PCFG
from nltk.parse.pchart import InsideChartParser
from source_texts import all_texts, binary, sampled

from lmzoo.errors import ConfigurationError
from lmzoo.sources import source
from lmzoo.sources.agreement import agreement_rules, tense_rules
from lmzoo.sources.grammar import Grammar
from lmzoo.sources.nesting import counting
from lmzoo.sources.rules import Rules
from lmzoo.stream import EOT, TokenStream


def test_counting_by_hand() -> None:
    # n steps up and n down, n geometric with 0.15: h(0.15) / 0.15 nats for n, ln 3 for each of 2 / 0.15 words, and the
    # end comes for nothing.
    made, mean = counting(), 1 / 0.15
    assert made.entropy == pytest.approx((binary(0.15) * mean + 2 * mean * math.log(3)) / (2 * mean + 1))
    # Who does not count pays -ln 0.85 for every step down but the first, and -ln 0.15 for the end, on n + 1 tokens.
    assert made.baseline_nats == pytest.approx((-(mean - 1) * math.log(0.85) - math.log(0.15)) / (mean + 1))


def test_brackets_by_hand() -> None:
    # 4 times MORE; 4 pairs outside; each pair has one INSIDE and each INSIDE 0.4 pairs and INSIDEs more: 12 pairs, 20
    # INSIDEs. 24 brackets and the end.
    nats = 4 * binary(0.25) + 12 * math.log(3) + 20 * binary(0.4)
    assert source("brackets").entropy == pytest.approx(nats / 25)


def written(rows: Mapping[str, list[tuple[float, str]]], n_words: int) -> dict[str, float]:
    """Returns every text of at most `n_words` words with its probability, by enumerating all derivations."""
    texts: defaultdict[str, float] = defaultdict(float)
    todo: list[tuple[tuple[str, ...], float]] = [(("S",), 1.0)]
    while todo:
        symbols, prob = todo.pop()
        place = next((place for place, one in enumerate(symbols) if one in rows), None)
        if place is None:
            texts[" ".join(symbols)] += prob
            continue
        for share, row in rows[symbols[place]]:
            after = (*symbols[:place], *row.split(), *symbols[place + 1 :])
            if sum(one not in rows for one in after) <= n_words:
                todo.append((after, prob * share))
    return texts


def grammar_of(rows: Mapping[str, list[tuple[float, str]]], **kind: Any) -> Grammar:
    rules = Rules({symbol: " | ".join(f"{share} {row}" for share, row in some) for symbol, some in rows.items()})
    return Grammar(rules, targets="", baseline_nats=1.0, **kind).load_arrays({})


AMBIGUOUS = {
    "S": [(1.0, "NP v NP PP"), ],
    "NP": [(0.7, "n"), (0.3, "n PP")],
    "PP": [(0.25, ""), (0.75, "p NP")],
}  # fmt: skip


def test_a_text_is_as_likely_as_all_its_derivations() -> None:
    made = grammar_of(AMBIGUOUS, ambiguous=True)
    texts = written(AMBIGUOUS, 11)
    # "n v n p n": the phrase may belong to either, as PP may be nothing.
    assert len(texts) > 10
    for text, prob in texts.items():
        assert math.exp(made.log_probs([*made.ids(text), EOT]).sum()) == pytest.approx(prob), text
    assert made.entropy is None


def test_the_next_word_is_that_of_all_texts_that_begin_so() -> None:
    """Compares predictions with prefix probabilities by enumeration, on a grammar with ambiguous texts."""
    rows = {
        "S": [(0.4, "A B"), (0.35, "a A"), (0.25, "B A B")],
        "A": [(0.5, "a"), (0.3, "a b"), (0.2, "")],
        "B": [(0.6, "b"), (0.4, "A b")],
    }
    made = grammar_of(rows, ambiguous=True)
    texts = written(rows, 20)
    assert sum(texts.values()) == pytest.approx(1)
    for text in texts:
        words = [*text.split(), "end"]
        for n in range(len(words)):
            own = sum(prob for other, prob in texts.items() if [*other.split(), "end"][: n + 1] == words[: n + 1])
            prefix = sum(prob for other, prob in texts.items() if [*other.split(), "end"][:n] == words[:n])
            token_id = EOT if words[n] == "end" else made.id_of[words[n]]
            predicted = made.predict_distribution(made.ids(" ".join(words[:n]))).prob(token_id)
            assert predicted == pytest.approx(own / prefix), (words[:n], words[n])


def test_a_text_is_as_likely_as_a_chart_parser_says() -> None:
    rows = {
        "S": [(1.0, "NP VP")],
        "NP": [(0.6, "the N"), (0.4, "the N PP")],
        "VP": [(0.5, "sees NP"), (0.3, "sees NP PP"), (0.2, "sleeps")],
        "PP": [(1.0, "near NP")],
        "N": [(0.5, "dog"), (0.5, "cat")],
    }
    lines = [
        f"{symbol} -> {' '.join(one if one in rows else repr(one) for one in row.split())} [{share}]"
        for symbol, some in rows.items()
        for share, row in some
    ]
    parser = InsideChartParser(PCFG.fromstring("\n".join(lines)))
    made = grammar_of(rows, ambiguous=True)
    for text, is_ambiguous in (
        ("the dog sleeps", False),
        ("the dog sees the cat near the dog", True),
        ("the dog near the cat sees the dog near the cat near the dog", True),
    ):
        trees = list(parser.parse(text.split()))
        assert (len(trees) > 1) == is_ambiguous
        likely = sum(tree.prob() for tree in trees)
        assert math.exp(made.log_probs([*made.ids(text), EOT]).sum()) == pytest.approx(likely), text


def test_entropy_of_rules_is_that_of_their_texts() -> None:
    rows = {"S": [(0.4, "a S b"), (0.5, "c"), (0.1, "d d")]}
    made = grammar_of(rows)
    texts = all_texts(made, least=1e-14)
    nats = -sum(prob * math.log(prob) for prob in texts.values())
    assert made.entropy == pytest.approx(nats / sum(prob * len(text) for text, prob in texts.items()), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "rules"),
    [("agreement-4", agreement_rules(1)), ("agreement-25", agreement_rules(8)), ("tense", tense_rules())],
)
def test_states_and_stacks_are_the_same(name: str, rules: Rules) -> None:
    """Compares a grammar with few stacks as a finite-state source and as a grammar."""
    made, grammar = source(name), Grammar(rules, targets="", baseline_nats=1.0).load_arrays({})
    assert grammar.words == made.words
    assert grammar.entropy == pytest.approx(made.entropy)
    few = TokenStream(sampled(name).ids[: sampled(name).starts[50]])
    np.testing.assert_allclose(grammar.log_probs(few), made.log_probs(few), atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"A": "a"}, "no rule for its start symbol S"),
        ({"S": "0.5 a | 0.6 b"}, "must be above 0 and sum to 1, got the sum 1.1"),
        ({"S": "0.5 a | b"}, "to all alternatives or to none"),
        ({"S": "S a | b"}, "must not be left-recursive.*: S -> S"),
        ({"S": "A b", "A": "E S | a", "E": "e |"}, "must not be left-recursive"),
        ({"S": "0.5 a S S | 0.5 b"}, "no finite mean length"),
    ],
)
def test_rules_that_cannot_be_followed(rows: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Rules(rows)
