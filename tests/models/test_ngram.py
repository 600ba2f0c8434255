"""The n-gram model: reading text, smaller models, settings and saving."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmzoo.errors import ConfigurationError, SavedModelError, UnknownNameError
from lmzoo.language_model import LanguageModel, Progress
from lmzoo.models.ngram import NgramModel, ngram, ranking, scoring
from lmzoo.models.ngram import model as ngram_model
from lmzoo.models.ngram.compression import _kept
from lmzoo.models.ngram.weights import N_CODES
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

A, B = 1, 2

SINGLE = 1e-6  # log-probabilities are stored in single precision

HAND_MADE = TokenStream.from_documents([[B, B, B], [A], [A], [A, B], [A]])


def fitted(stream: TokenStream, vocab_size: int, valid: TokenStream | None = None, **args: Any) -> NgramModel:
    return ngram(vocab_size, **args).fit(TrainingData(stream, valid or stream))


# ---- Reading text --------------------------------------------------------------------------------


streams = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(lambda ids: TokenStream(np.array(ids, np.int32)))


@given(stream=streams, text=streams, order=st.integers(1, 6))
@settings(max_examples=40)
def test_walking_climbing_and_hashing_match_the_same_ngrams(stream: TokenStream, text: TokenStream, order: int) -> None:
    model = fitted(stream, 5, order=order)
    state, walked, states = model.initial_state(), [], []
    for token in text.ids.tolist():
        walked.append((model.matched_order(state, token), model.next_log_probs(state)[token]))
        states.append(state)
        state = model.advance(state, token)
    assert model.states(text).tolist() == states
    np.testing.assert_allclose(
        model.next_log_probs_batch(states), [model.next_log_probs(state) for state in states], atol=1e-12
    )
    with pytest.MonkeyPatch.context() as patch:
        for pays_off, table_bytes, block in ((1000, 1 << 20, 1000), (-1, 1 << 20, 1000), (-1, 1 << 20, 3), (-1, 1, 3)):
            patch.setattr(scoring, "_PAYS_OFF", pays_off)
            patch.setattr(scoring, "_TABLE_BYTES", table_bytes)
            patch.setattr(scoring, "_BLOCK", block)
            model.load_arrays(model.arrays())  # forgets the hash table
            assert model.matched_orders(text).tolist() == [order for order, _ in walked]
            np.testing.assert_allclose(model.log_probs(text), [log_prob for _, log_prob in walked], atol=1e-12)


def test_a_text_can_be_read_while_another_thread_fills_the_hash_table(monkeypatch: pytest.MonkeyPatch) -> None:
    model, fill = fitted(HAND_MADE, 3, order=3), scoring._fill_table
    expected, found = model.log_probs(HAND_MADE), list[Any]()

    def filled_slowly(*arrays: Any) -> None:
        if not found:  # another thread reads a text at this moment
            found.append(None)
            found.append(model.log_probs(HAND_MADE))
        fill(*arrays)

    monkeypatch.setattr(scoring, "_fill_table", filled_slowly)
    monkeypatch.setattr(scoring, "_PAYS_OFF", 0)
    model.load_arrays(model.arrays())  # forgets the hash table
    np.testing.assert_array_equal(model.log_probs(HAND_MADE), expected)
    np.testing.assert_array_equal(found[1], expected)


def test_a_state_holds_the_longest_context_that_occurs_in_training() -> None:
    """By hand for a trigram model of the documents A B A and B B; every document starts with EOT as a context."""
    model = fitted(TokenStream.from_documents([[1, 2, 1], [2, 2]]), 5, order=3)
    text = [1, 2, 2, 1, 1, 3, 2, EOT, 2]  # the longest context of each:
    found = [(EOT,), (EOT, 1), (1, 2), (2, 2), (2, 1), (1,), (3,), (2,), (EOT,)]
    assert model.context_lengths(model.states(text)).tolist() == [len(context) for context in found]
    alone = fitted(TokenStream.from_documents([[1, 2]]), 5, order=1)
    assert alone.context_lengths(alone.states(text)).tolist() == [0] * len(text)


@pytest.mark.parametrize(
    "more",
    [{}, {"order": 1}, {"order": 4, "quantise": True}, {"smoothing": "katz", "prune": 0.001}, {"smoothing": "mle"}],
)
def test_ranks_and_entropies_without_the_distributions(more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_data(30, n_documents=100)
    model = ngram(30, **{"order": 3, **more}).fit(data)
    text = TokenStream.from_documents([*(ids[:-1] for ids in data.valid.documents()), [28, 29, 1, 28], [5] * 9])
    token_set = np.random.default_rng(0).random(30) < 0.3
    expected = LanguageModel.token_stats(model, text, token_set=token_set)  # from whole distributions
    monkeypatch.setattr(ngram_model, "_BLOCK", 7)
    reports: list[Progress] = []
    found = model.token_stats(text, reports.append, token_set=token_set)
    np.testing.assert_array_equal(found.ranks, expected.ranks)
    np.testing.assert_allclose(found.entropies, expected.entropies, atol=SINGLE)
    np.testing.assert_allclose(found.top_log_probs, expected.top_log_probs, atol=SINGLE)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-12)
    assert found.set_log_probs is not None
    assert expected.set_log_probs is not None
    np.testing.assert_allclose(np.exp(found.set_log_probs), np.exp(expected.set_log_probs), atol=SINGLE)
    assert reports[-1].done == len(text)
    assert len(np.unique(expected.ranks)) > 10
    monkeypatch.setattr(ranking, "_CHILDREN", 3)
    in_blocks = model.token_stats(text, token_set=token_set)
    np.testing.assert_array_equal(in_blocks.entropies, found.entropies)
    np.testing.assert_array_equal(in_blocks.set_log_probs, found.set_log_probs)


def test_no_ngram_crosses_a_document_end() -> None:
    model = fitted(TokenStream.from_documents([[A, B], [A, B]]), 4, order=4)
    np.testing.assert_array_equal(model.matched_orders([A, B, EOT, A, B, A]), [2, 3, 4, 2, 3, 1])


# ---- Smaller models ------------------------------------------------------------------------------


def test_ngrams_are_worth_the_relative_entropy_that_their_loss_costs() -> None:
    """Removes each n-gram alone and compares the distributions after its context, weighted by p(context)."""
    data = toy_data(8)
    model = ngram(8, order=3).fit(data)
    trie, weights = model._trie, model._weights
    for context in range(1, trie.n_contexts):
        path = [context]
        while (parent := int(np.searchsorted(trie.first_child, path[-1], side="right")) - 1) > 0:
            path.append(parent)
        p_context = math.exp(float(weights.values[path].sum()))
        before = model.next_log_probs(context)
        lower = model.next_log_probs(int(trie.suffixes[context]))
        family = range(trie.children(context).start, trie.children(context).stop)
        for node in family:
            others = [int(trie.tokens[other]) for other in family if other != node]
            after = lower + math.log((1 - np.exp(before[others]).sum()) / (1 - np.exp(lower[others]).sum()))
            after[others] = before[others]
            cost = math.expm1(p_context * float(np.exp(before) @ (before - after)))
            for threshold, stays in ((cost - 1e-6, True), (cost + 1e-6, False)):
                keep = _kept(trie, weights, threshold)
                needed = (
                    node < trie.n_contexts
                    or node
                    in trie.suffixes[trie.levels[trie.order_of(node)] :][keep[trie.levels[trie.order_of(node)] :]]
                )
                assert keep[node] == stays or (needed and keep[node]), (context, node)


def test_pruning_makes_a_smaller_model_that_says_nearly_the_same() -> None:
    data = toy_data(30, n_documents=400)
    full, pruned = (ngram(30, order=4, prune=prune).fit(data) for prune in (0, 1e-4))
    assert pruned._trie.tokens.size < 0.8 * full._trie.tokens.size
    assert pruned.log_probs(data.valid).mean() > full.log_probs(data.valid).mean() - 0.02
    check_language_model(lambda vocab_size: ngram(vocab_size, order=4, prune=0.01), tolerance=2 * SINGLE)
    with pytest.raises(ConfigurationError, match="prune"):
        ngram(30, prune=1.5)


def test_quantising_takes_a_byte_and_says_nearly_the_same() -> None:
    data = toy_data(30, n_documents=400)
    full, small = (ngram(30, order=4, quantise=quantise).fit(data) for quantise in (False, True))
    saved = small.arrays()
    assert (saved["codes"].dtype, saved["codes"].size, saved["codebook"].size) == (
        np.uint8,
        small._trie.tokens.size,
        287,
    )
    assert small.log_probs(data.valid).mean() == pytest.approx(full.log_probs(data.valid).mean(), abs=0.01)
    children = small._trie.level(4)
    rounding = full._weights.log_probs(children) - small._weights.log_probs(children)
    assert rounding.min() >= 0
    assert 0 < rounding.max() < 0.5
    for settings_ in ({"quantise": True}, {"quantise": True, "prune": 0.01}, {"quantise": True, "order": 1}):
        check_language_model(lambda vocab_size, more=settings_: ngram(vocab_size, **more), tolerance=2 * SINGLE)


def test_a_quantised_model_sums_to_1_after_contexts_that_every_token_follows() -> None:
    rng = np.random.default_rng(0)
    stream = TokenStream.from_documents(rng.integers(1, 4, size) for size in rng.integers(0, 9, 60))
    model = fitted(stream, 4, order=5, quantise=True)
    trie = model._trie
    assert (np.diff(trie.first_child)[trie.level(1)] == 4).sum() > 1
    assert N_CODES + trie.levels[3] <= model.arrays()["codebook"].size < N_CODES + trie.levels[6]
    assert model.largest_sum_error() < SINGLE
    assert np.isfinite(model.token_stats(stream).entropies).all()
    loaded = ngram(4, order=5, quantise=True).load_arrays(model.arrays())
    np.testing.assert_array_equal(loaded.log_probs(stream), model.log_probs(stream))


# ---- Settings, saving ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kind", "message"),
    [
        ({"order": 0}, ConfigurationError, "order .* from 1 to 100, got 0"),
        ({"order": 101}, ConfigurationError, "got 101"),
        ({"smoothing": "kneserney"}, UnknownNameError, "did you mean 'kneser-ney'"),
        (
            {"smoothing": "additive:0"},
            ConfigurationError,
            "'additive' takes one number above 0, as in 'additive:0.1'",
        ),
        ({"smoothing": "additive:0.1", "prune": 1e-6}, ConfigurationError, "'additive:0.1' cannot be pruned"),
        ({"smoothing": "mle", "prune": 1e-6}, ConfigurationError, "no shorter n-grams to back off to"),
        ({"smoothing": "additive:x"}, ConfigurationError, "smoothing='additive:x' is not allowed"),
        ({"smoothing": "additive:1_0"}, ConfigurationError, "smoothing='additive:1_0' is not allowed"),
        ({"smoothing": "katz:0.5"}, ConfigurationError, "'katz' takes no number; 'additive:0.1', 'absolute:0.75' and"),
        ({"smoothing": "mle:0.5"}, ConfigurationError, "'mle' takes no number"),
        ({"smoothing": "kneser-ney-tuned:0.5"}, ConfigurationError, "'kneser-ney-tuned' takes no number"),
        ({"smoothing": "absolute:"}, ConfigurationError, "between 0 and 1, as in 'absolute:0.75'"),
        ({"smoothing": "absolute:0"}, ConfigurationError, "smoothing='absolute:0' is not allowed"),
        ({"smoothing": "absolute:1"}, ConfigurationError, "one discount between 0 and 1"),
        ({"smoothing": "absolute:nan"}, ConfigurationError, "one discount between 0 and 1"),
        ({"smoothing": "absolute:0.1,0.2,0.3"}, ConfigurationError, "one discount between 0 and 1"),
        ({"smoothing": "kneser-ney:0.5,1"}, ConfigurationError, "or three for the counts 1, 2 and 3 or more"),
        ({"smoothing": "kneser-ney:0.5,1,3"}, ConfigurationError, "each below its count, as in 'kneser-ney:0.5,1,1.5'"),
    ],
)
def test_wrong_settings_are_refused(args: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        ngram(4, **args)


def test_hostile_arrays_are_refused() -> None:
    """Loading a model finds all values for which compiled code would read outside its arrays or never end."""
    model = fitted(HAND_MADE, 4, order=3)
    saved = model.arrays()
    changes = [
        ("tokens", -1, 4), ("tokens", -1, -1), ("tokens", 2, 3),
        ("first_child", 3, 2**31 - 1), ("first_child", 3, -5), ("first_child", 5, 0),
        ("suffixes", -1, len(saved["tokens"]) - 1), ("suffixes", 6, 6), ("suffixes", 3, -1), ("suffixes", 0, 1),
        ("levels", 1, 0), ("levels", 3, 10**6), ("levels", -1, 2**40),
        ("log_probs", 4, np.nan), ("log_probs", 4, 0.5), ("backoffs", 2, np.nan), ("backoffs", 2, np.inf),
    ]  # fmt: skip
    for name, index, value in changes:
        damaged = saved[name].copy()
        damaged[index] = value
        with pytest.raises(SavedModelError):
            ngram(4, order=3).load_arrays({**saved, name: damaged})
    with pytest.raises(SavedModelError):
        ngram(4, order=4).load_arrays(saved)
    with pytest.raises(SavedModelError):
        ngram(5, order=3).load_arrays(saved)
    unaligned = np.frombuffer(b"0" + saved["log_probs"].tobytes(), np.uint8)[1:].view(np.float32)
    loaded = ngram(4, order=3).load_arrays({**saved, "log_probs": unaligned})
    np.testing.assert_array_equal(loaded.log_probs([A, B, B]), model.log_probs([A, B, B]))
