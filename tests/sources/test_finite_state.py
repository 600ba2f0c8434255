"""Finite-state sources: entropies and limits worked by hand, by enumeration, and by theorems."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from source_texts import all_texts, binary, sampled

from lmzoo import zoo
from lmzoo.sources import FiniteState, source
from lmzoo.sources.chains import weather
from lmzoo.sources.rules import Rules
from lmzoo.stream import EOT, TrainingData


def test_entropy_of_a_chain_by_hand() -> None:
    # "a", then with even chances the end or the other letter, and so on: 2 even choices a document on average, in
    # 3 tokens: 2 ln 2 / 3. Who sees one token knows the state; who sees nothing meets, per document, the start once,
    # a and b: lengths 1, 2, 3, ... with 1/2, 1/4, ...; a at odd places: 1 + 1/4 + 1/16 + ... = 4/3, b 2/3, and the
    # end once. Frequencies 4/9, 2/9, 3/9.
    transitions = np.zeros((4, 3, 3))
    transitions[2, 0, 1] = 1
    transitions[EOT, 1, 0] = transitions[EOT, 2, 0] = 0.5
    transitions[3, 1, 2] = transitions[2, 2, 1] = 0.5
    made = FiniteState(["a", "b"], transitions, np.array([1.0, 0, 0])).load_arrays({})
    assert made.visits.tolist() == pytest.approx([1, 4 / 3, 2 / 3])
    assert made.entropy == pytest.approx(2 * math.log(2) / 3)
    assert made.limit(1) == pytest.approx(made.entropy)
    assert made.limit(0) == pytest.approx(-sum(p * math.log(p) for p in (4 / 9, 2 / 9, 3 / 9)))
    assert np.exp(made.log_probs(made.ids("a b a"))).tolist() == pytest.approx([1, 0.5, 0.5])


@pytest.mark.parametrize("n", [1, 3, 8])
def test_agreement_by_hand(n: int) -> None:
    # the NOUN (PREPOSITION the NOUN) x n today VERB ADJECTIVE end: 6 nouns, 2 prepositions, 2 verbs of a number, 3
    # adjectives, all alike. 6 + 3 n tokens.
    made, n_tokens = source(f"agreement-{3 * n + 1}"), 6 + 3 * n
    nats = (n + 1) * math.log(6) + n * math.log(2) + math.log(2) + math.log(3)
    assert isinstance(made, FiniteState)
    assert made.entropy == pytest.approx(nats / n_tokens)
    # Who sees one token does not know after a noun which one it was: n of n + 1 go on with a preposition, one with
    # "today", and after that not the number of the first.
    lost = (n + 1) * binary(1 / (n + 1)) + math.log(2)
    assert made.limit(1) - made.entropy == pytest.approx(lost / n_tokens)


def test_limits_fall_to_the_entropy() -> None:
    for order in (1, 2, 3):
        made = source(f"markov-{order}")
        assert isinstance(made, FiniteState)
        limits = [made.limit(n) for n in range(5)]
        assert limits[order:] == pytest.approx([made.entropy] * (5 - order))
        assert all(less > more + 0.05 for less, more in itertools.pairwise(limits[: order + 1]))
    near, far = source("agreement-4"), source("agreement-10")
    assert isinstance(near, FiniteState)
    assert isinstance(far, FiniteState)
    # 6 back from the verb: adjacent to the noun are 4 tokens and the verb itself is the next.
    assert near.limit(5) == pytest.approx(near.entropy)
    assert near.limit(4) - near.entropy == pytest.approx(math.log(2) / 9)
    assert far.limit(5) - far.entropy > math.log(2) / 15


def test_limits_are_those_of_exact_frequencies() -> None:
    """Compares the limits with the conditional frequencies in all texts of a source that has finitely many."""
    rules = Rules({"S": "0.3 a X b | 0.2 b X | 0.5 X X", "X": "0.5 a | 0.25 b b | 0.25"})
    made = FiniteState.of_rules(rules, targets="b", baseline_nats=1.0).load_arrays({})
    texts = all_texts(made)
    assert sum(texts.values()) == pytest.approx(1)
    mean_length = sum(prob * len(text) for text, prob in texts.items())
    for n in range(4):
        following: defaultdict[Any, Counter[int]] = defaultdict(Counter)
        for text, prob in texts.items():
            for place, token_id in enumerate(text):
                following[text[max(0, place - n) : place], place < n][token_id] += prob
        nats = 0.0
        for counts in following.values():
            total = sum(counts.values())
            nats -= sum(count * math.log(count / total) for count in counts.values())
        assert made.limit(n) == pytest.approx(nats / mean_length), n


def test_a_markov_chain_loses_what_theory_says() -> None:
    """Compares the excess of a Markov chain, fitted on enough text for its few parameters, with the limit."""
    made = source("agreement-4")
    assert isinstance(made, FiniteState)
    assert made.entropy is not None
    assert made.baseline_nats is not None
    rng = np.random.default_rng(1)
    data = TrainingData(made.sample(4000, rng), made.sample(400, rng))
    test = made.sample(2000, rng)
    species = zoo.create("markov", made.vocab_size).fit(data)
    excess = made.log_probs(test) - species.log_probs(test)
    by_document = np.add.reduceat(excess, test.starts)
    error = by_document.std() / math.sqrt(len(by_document)) / 9
    assert excess.mean() == pytest.approx(made.limit(1) - made.entropy, abs=4 * error + 0.003)
    assert excess[made.target_mask(test)].mean() == pytest.approx(made.baseline_nats, abs=0.02), "it guesses the number"


def test_hidden_states_are_those_of_the_species() -> None:
    """Compares the filter of the source with the filter of the hidden Markov model, which works in float32."""
    made = source("hmm")
    transitions = weather()._transitions
    arrays = {
        "startprob": np.array([0.25, 0.25, 0.25, 0.25, 0]),
        "transmat": transitions.sum(axis=0),
        "emissionprob": transitions.sum(axis=2).T,
    }
    species = zoo.create("hmm", made.vocab_size, n_states=5).load_arrays(arrays)
    np.testing.assert_allclose(made.log_probs(sampled("hmm")), species.log_probs(sampled("hmm")), atol=1e-5)


def test_hidden_entropy_lies_between_its_bounds() -> None:
    """Checks the bounds of Cover & Thomas, theorem 4.5.1.

    The entropy is above the conditional entropy given the hidden state, and below that given the last tokens.
    """
    made = weather().load_arrays({})
    text = made.sample(3000, np.random.default_rng(0))
    paid = -made.log_probs(text)
    error = 4 * paid.std() / math.sqrt(len(paid))
    emissions = made._transitions.sum(axis=2).T
    of_states = -(emissions * np.log(np.where(emissions > 0, emissions, 1))).sum(axis=1)
    assert made.entropy is None
    assert made.visits @ of_states / made.visits.sum() < paid.mean() - error
    limits = [made.limit(n) for n in range(4)]
    assert limits == sorted(limits, reverse=True)
    assert paid.mean() < limits[3] + error
