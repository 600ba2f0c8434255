"""Context-tree weighting: worked by hand, by a slow implementation of the definition, and by its theorem."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.models.bitwise.code import leaf_of
from lmzoo.models.context_tree_weighting import context_tree_weighting, reader
from lmzoo.sources import source
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

A, B = 1, 2
Context = tuple[int, ...]
WORDS = {3: {A: "0", B: "10", EOT: "11"}, 6: {1: "00", 2: "01", 3: "100", 4: "101", 5: "110", EOT: "111"}}
"""The code words of small vocabularies, by hand."""


# ---- Worked by hand -----------------------------------------------------------------------------


def test_worked_by_hand() -> None:
    """Predicts the document "a a a" with contexts of up to one token.

    The code words are a: 0, b: 10, EOT: 11, so that the first bit of every token is 0. Its tree has the empty context,
    and the contexts "start" and "a".
        First bit: nothing is known: 1/2.
        Second bit: the empty context has seen one 0, and predicts (1 + 1/2) / (1 + 1) = 3/4; the context "a" is new,
        and predicts 1/2. Both have the weight 1/2: 3/8 + 1/4 = 5/8.
        Third bit: the empty context has predicted 1/2 * 3/4 = 3/8, the contexts below it 1/2 * 1/2 = 1/4, so that its
        share is 3/8 / (3/8 + 1/4) = 3/5. It predicts (2 + 1/2) / (2 + 1) = 5/6, and the context "a" 3/4:
        3/5 * 5/6 + 2/5 * 3/4 = 4/5.
    After "a a", b and EOT have the other fifth. The second bit of a token was not seen yet, and is 1 with 1/2: 1/10.
    """
    model = context_tree_weighting(3, depth=1)
    assert np.exp(model.online_log_probs([A, A, A])) == pytest.approx([1 / 2, 5 / 8, 4 / 5])
    assert np.exp(model.online_log_probs([A, A, B])) == pytest.approx([1 / 2, 5 / 8, 1 / 10])
    assert np.exp(model.online_log_probs([A, A, EOT])) == pytest.approx([1 / 2, 5 / 8, 1 / 10])


def test_without_context_it_is_the_estimator_of_krichevsky_and_trofimov() -> None:
    """With depth 0, the first bits 0 0 1 0 have the probability 1/2 * 3/4 * 1/6 * 5/8."""
    log_probs = context_tree_weighting(3, depth=0).online_log_probs([A, A, B, A])
    assert np.exp(log_probs) == pytest.approx([1 / 2, 3 / 4, 1 / 6 * 1 / 2, 5 / 8])


# ---- By a slow implementation of the definition --------------------------------------------------


def estimated(zeros: int, ones: int) -> Fraction:
    """Returns the probability of a sequence of bits by the estimator of Krichevsky and Trofimov."""
    prob, half = Fraction(1), Fraction(1, 2)
    for count in (zeros, ones):
        for seen in range(count):
            prob *= seen + half
    return prob / math.factorial(zeros + ones)


def weighted(bits: list[tuple[Context, int]], depth: int, length: int = 0) -> Fraction:
    """Returns P_w of bits, each with the tokens before it (the last one first), at a context of `length` tokens."""
    ones = sum(bit for _, bit in bits)
    own = estimated(len(bits) - ones, ones)
    if length == depth:
        return own
    children = defaultdict(list)
    for context, bit in bits:
        children[context[length]].append((context, bit))
    return (
        own / 2 + math.prod((weighted(child, depth, length + 1) for child in children.values()), start=Fraction(1)) / 2
    )


def slowly(ids: list[int], depth: int, vocab_size: int) -> Fraction:
    """Returns the probability of a sequence of token ids, without any learning before."""
    trees: dict[str, list[tuple[Context, int]]] = defaultdict(list)
    history: Context = (EOT,) * depth
    for token_id in ids:
        word = WORDS[vocab_size][token_id]
        for place, bit in enumerate(word):
            trees[word[:place]].append((history, int(bit)))
        history = (EOT,) * depth if token_id == EOT else (token_id, *history)[:depth]
    return math.prod((weighted(bits, depth) for bits in trees.values()), start=Fraction(1))


def sequences(vocab_size: int) -> Any:
    return st.lists(st.integers(0, vocab_size - 1), max_size=25)


@settings(max_examples=60)
@given(st.integers(0, 4), st.sampled_from([3, 6]), st.data())
def test_equals_the_definition(depth: int, vocab_size: int, data: Any) -> None:
    ids = data.draw(sequences(vocab_size))
    log_probs = context_tree_weighting(vocab_size, depth=depth).online_log_probs(ids)
    prefixes = [slowly(ids[:length], depth, vocab_size) for length in range(len(ids) + 1)]
    expected = [float(longer / shorter) for shorter, longer in pairwise(prefixes)]
    np.testing.assert_allclose(np.exp(log_probs), expected, rtol=1e-9, atol=0)


@settings(max_examples=30)
@given(sequences(6), st.lists(st.integers(1, 5), max_size=12))
def test_a_document_is_learned_on_top_of_the_training_text(ids: list[int], document: list[int]) -> None:
    stream = TokenStream(np.array([*ids, EOT], np.int32))
    model = context_tree_weighting(6, depth=3).fit(TrainingData(stream, stream))
    before = slowly(stream.ids.tolist(), 3, 6)
    expected = float(slowly([*stream.ids.tolist(), *document], 3, 6) / before)
    assert math.exp(model.log_probs(document).sum()) == pytest.approx(expected, rel=1e-9)
    row = np.exp(model.next_log_probs(model.state_after(np.array(document, np.int32))))
    nexts = [slowly([*stream.ids.tolist(), *document, token_id], 3, 6) / before for token_id in range(6)]
    np.testing.assert_allclose(row, [float(prob) / expected for prob in nexts], rtol=1e-9)


# ---- The theorem --------------------------------------------------------------------------------


def bound_bits(stream: TokenStream, order: int, vocab_size: int) -> float:
    """Returns the largest possible redundancy, in bits, for a source that sees the last `order` tokens.

    Each node of the code tree has a context tree: 1 bit for each of its nodes down to `order` tokens, and 1/2 log2(n) +
    1 bits for each of its leaves, with n bits. Contexts that do not occur cost nothing.
    """
    nodes: set[tuple[str, Context]] = set()
    leaves: Counter[tuple[str, Context]] = Counter()
    for document in stream.documents():
        history: Context = (EOT,) * order
        for token_id in document.tolist():
            word = f"{leaf_of(token_id, vocab_size):b}"[1:]
            for length in range(len(word)):
                leaves[word[:length], history] += 1
                nodes |= {(word[:length], history[:n]) for n in range(order + 1)}
            history = (token_id, *history)[:order]
    return len(nodes) + sum(math.log2(count) / 2 + 1 for count in leaves.values())


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("n_documents", [20, 150])
def test_redundancy_is_bounded(order: int, n_documents: int) -> None:
    text_source = source(f"markov-{order}")
    stream = text_source.sample(n_documents, np.random.default_rng(order))
    log_probs = context_tree_weighting(text_source.vocab_size, depth=order + 1).online_log_probs(stream)
    redundancy = (text_source.log_probs(stream).sum() - log_probs.sum()) / math.log(2)
    bound = bound_bits(stream, order, text_source.vocab_size)
    assert 0.2 * bound < redundancy < bound
    # With much text, the bound does not hold for contexts that are shorter than those of the source.
    too_short = context_tree_weighting(text_source.vocab_size, depth=order - 1).online_log_probs(stream)
    assert n_documents < 150 or too_short.sum() < text_source.log_probs(stream).sum() - bound * math.log(2)


def test_excess_goes_to_zero() -> None:
    """With much text, the loss on new documents is that of the source."""
    text_source = source("markov-2")
    train, test = (text_source.sample(n, np.random.default_rng(n)) for n in (2500, 60))
    model = context_tree_weighting(text_source.vocab_size).fit(TrainingData(train, test))
    excess = (text_source.log_probs(test) - model.log_probs(test)).mean()
    assert excess < 0.01


# ---- Tables -------------------------------------------------------------------------------------


def test_tables_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_data(12)
    usual = context_tree_weighting(12).fit(data)
    monkeypatch.setattr(reader, "_FIRST_ROWS", 1)
    grown = context_tree_weighting(12).fit(data)
    np.testing.assert_array_equal(grown.log_probs(data.valid), usual.log_probs(data.valid))
    arrays = {name: array[np.argsort(usual.arrays()["keys"])] for name, array in usual.arrays().items()}
    shuffled = context_tree_weighting(12).load_arrays(arrays)
    np.testing.assert_array_equal(shuffled.log_probs(data.valid), usual.log_probs(data.valid))


def test_distributions_of_bytes() -> None:
    model = context_tree_weighting(257, depth=3)
    text = TokenStream.from_documents([np.frombuffer(b"in the beginning was the word", np.uint8) + 1])
    model.fit(TrainingData(text, text))
    stats = model.token_stats(text)
    np.testing.assert_allclose(stats.log_probs, model.log_probs(text), atol=1e-12)
    probs = model.predict_distribution(np.frombuffer(b"in th", np.uint8) + 1).probs
    assert probs.sum() == pytest.approx(1, abs=1e-12)
    assert chr(int(probs.argmax()) - 1) == "e"


# ---- The laws, bad settings ----------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "adaptive"), [(0, True), (2, False), (6, True)])
def test_laws(depth: int, adaptive: bool) -> None:
    check_language_model(lambda vocab_size: context_tree_weighting(vocab_size, depth=depth, adaptive=adaptive))


@pytest.mark.parametrize("wrong", [-1, 65, 1.5, True])
def test_bad_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="depth must be a whole number from 0 to 64"):
        context_tree_weighting(3, depth=wrong)


@pytest.mark.parametrize(("name", "value"), [("keys", 0), ("odds", np.nan)])
def test_damaged_trees_are_refused(name: str, value: float) -> None:
    arrays = context_tree_weighting(12).fit(toy_data(12)).arrays()
    arrays[name][3] = value
    with pytest.raises(SavedModelError, match="context trees are damaged"):
        context_tree_weighting(12).load_arrays(arrays)
