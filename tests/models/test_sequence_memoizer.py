"""The sequence memoizer: by a slow implementation with a restaurant for every context, and as Kneser-Ney smoothing."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lmzoo import Predictor
from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.models.ngram.reference import Reference
from lmzoo.models.sequence_memoizer import SequenceMemoizerModel, sequence_memoizer
from lmzoo.models.sequence_memoizer.model import N_LENGTHS
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

V = 6
A, B = 1, 2
Context = tuple[int, ...]

documents = st.lists(st.lists(st.integers(1, 3), max_size=12), min_size=1, max_size=6)


def stream_of(texts: list[list[int]]) -> TokenStream:
    return TokenStream.from_documents(texts)


def with_parameters(model: SequenceMemoizerModel, **parameters: Any) -> SequenceMemoizerModel:
    """Returns a copy of a fitted model with other parameters: discounts, exponents or concentration."""
    arrays = {name: np.array(values, np.float64) for name, values in parameters.items()}
    return sequence_memoizer(model.vocab_size, max_context=model.max_context).load_arrays({**model.arrays(), **arrays})


def fitted(texts: list[list[int]], max_context: int) -> SequenceMemoizerModel:
    stream = stream_of(texts)
    return sequence_memoizer(V, max_context=max_context).fit(TrainingData(stream, stream))


def random_parameters(seed: int) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    discounts, exponents = rng.uniform(0.1, 0.9, (2, N_LENGTHS))
    return {"discounts": discounts, "exponents": exponents, "concentration": rng.uniform(0, 3, 1)}


# ---- Worked by hand -----------------------------------------------------------------------------


def test_probabilities_worked_by_hand() -> None:
    """Trains on "a b" and "a", with V = 6, contexts of at most one token, d = 1/2 and 1/4, e = 1/2, concentration 8.

    1. The start of a document was followed by "a" twice: c = 2 at 2^(1/2) tables. The context "a" was followed by "b"
       and the end, and "b" by the end, once each: c = 1 at one table.
    2. The customers of the empty context are these tables: sqrt(2) "a", one "b" and two ends (after "a" and "b"), and
       each c sits at sqrt(c) tables. a = 8 * 1/2 = 4.
    3. P(b) = (1 - 1/2) / (4 + C) + (4 + T / 2) / (4 + C) / 6 with C = 3 + sqrt(2), T = 2^(1/4) + 1 + sqrt(2).
    4. After "a", d = 1/4 and a = 8 * 1/2 * 1/4 = 1: P(b | a) = (1 - 1/4) / (1 + 2) + (1 + 1/4 * 2) / (1 + 2) P(b).
    """
    model = with_parameters(
        fitted([[A, B], [A]], 1), discounts=[0.5, *[0.25] * 11], exponents=[0.5] * 12, concentration=[8.0]
    )
    customers, tables = 3 + 2**0.5, 2**0.25 + 1 + 2**0.5
    unigram = 0.5 / (4 + customers) + (4 + tables / 2) / (4 + customers) / 6
    probs = np.exp(model.next_log_probs(model.state_after(np.array([A], np.int32))))
    assert probs[B] == pytest.approx(0.75 / 3 + 1.5 / 3 * unigram)
    unseen = np.exp(model.next_log_probs(model.state_after(np.array([5], np.int32))))
    assert unseen[B] == pytest.approx(unigram)


# ---- By a slow and simple second implementation -------------------------------------------------


class Restaurants:
    """A hierarchical Pitman-Yor process with a restaurant for every context of every length; none is left out."""

    def __init__(self, stream: TokenStream, model: SequenceMemoizerModel) -> None:
        self.model, self.max_context = model, model.max_context
        self.customers: dict[Context, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for document in stream.documents():
            history = (EOT, *document.tolist())
            for t in range(1, len(history)):
                self.customers[history[max(0, t - self.max_context) : t]][history[t]] += 1
        for length in range(self.max_context, 0, -1):
            for context in [context for context in self.customers if len(context) == length]:
                for token, tables in self.tables(context).items():
                    self.customers[context[1:]][token] += tables

    def tables(self, context: Context) -> dict[int, float]:
        exponent = self.model.exponents[min(len(context), N_LENGTHS - 1)]
        return {token: customers**exponent for token, customers in self.customers[context].items()}

    def probs(self, history: Context) -> NDArray[np.float64]:
        probs, concentration = np.full(V, 1 / V), self.model.concentration.item()
        for length in range(min(len(history), self.max_context) + 1):
            context = history[len(history) - length :]
            discount = self.model.discounts[min(length, N_LENGTHS - 1)]
            concentration *= discount
            if context not in self.customers:
                break
            customers, tables = self.customers[context], self.tables(context)
            own = np.array([customers[w] - discount * tables[w] if w in tables else 0 for w in range(V)])
            probs = own + (concentration + discount * sum(tables.values())) * probs
            probs /= concentration + sum(customers.values())
        return probs


@settings(max_examples=60)
@given(documents, documents, st.integers(1, 8) | st.just(40), st.integers(0, 1000))
def test_equals_a_restaurant_for_every_context(
    train: list[list[int]], test: list[list[int]], max_context: int, seed: int
) -> None:
    model = with_parameters(fitted(train, max_context), **random_parameters(seed))
    slow = Restaurants(stream_of(train), model)
    text = stream_of(test)
    rows = np.concatenate([block for _, block in model.stream_log_probs(text)])
    row = 0
    for document in text.documents():
        history: Context = (EOT,)
        for token in document.tolist():
            np.testing.assert_allclose(np.exp(rows[row]), slow.probs(history), atol=1e-12, err_msg=str(history))
            history, row = (*history, token), row + 1
    observed = rows[np.arange(len(text)), text.ids]
    np.testing.assert_allclose(model.log_probs(text), observed, atol=1e-12)


# ---- Kneser-Ney smoothing -----------------------------------------------------------------------


@settings(max_examples=40)
@given(documents, documents, st.integers(1, 6), st.lists(st.floats(0.05, 0.95), min_size=N_LENGTHS, max_size=N_LENGTHS))
def test_with_one_table_for_each_token_it_is_kneser_ney(
    train: list[list[int]], test: list[list[int]], max_context: int, discounts: list[float]
) -> None:
    """Compares with an n-gram model of one discount for each order: c^e is 1 in the limit, a = 0 (Teh 2006)."""
    model = with_parameters(
        fitted(train, max_context), discounts=discounts, exponents=[1e-15] * N_LENGTHS, concentration=[0.0]
    )
    tuned = [[discount] * 3 for discount in discounts[: max_context + 1]]
    ended = [(*text, EOT) for text in train]
    reference = Reference(ended, range(V), max_context + 1, "kneser-ney-tuned", tuned)
    for document in stream_of(test).documents():
        history = (EOT, *document.tolist())
        expected = [reference.prob(history[: t + 1], history[t + 1]) for t in range(len(document))]
        np.testing.assert_allclose(np.exp(model.log_probs(document)), expected, atol=1e-12)


# ---- Learning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("max_context", [3, 1000])
def test_derivatives_equal_difference_quotients(max_context: int) -> None:
    train, valid = (stream_of([np.random.default_rng(s).integers(1, 4, 20).tolist() for s in range(first, first + 25)])
                    for first in (0, 100))  # fmt: skip
    model = sequence_memoizer(V, max_context=max_context).fit(TrainingData(train, valid))
    matches = model._matches(model.initial_state(), valid.ids)
    parameters = np.concatenate(list(random_parameters(1).values()))  # the last is a logarithm
    _, slopes = model._likelihood(parameters, valid.ids, matches)
    for k in range(parameters.size):
        step = 1e-6 * (np.arange(parameters.size) == k)
        above, below = (model._likelihood(parameters + sign * step, valid.ids, matches)[0] for sign in (1, -1))
        assert slopes[k] == pytest.approx((above - below) / 2e-6, abs=1e-5), k
    assert np.count_nonzero(slopes) > 2 * min(max_context, 6)


def test_parameters_are_the_best_on_valid() -> None:
    data = toy_data(V, n_documents=80)
    model = sequence_memoizer(V).fit(data)

    def objective(discounts: NDArray[np.float64], exponents: NDArray[np.float64]) -> float:
        other = with_parameters(model, discounts=discounts, exponents=exponents)
        shares = np.concatenate([discounts, exponents])
        return float(other.log_probs(data.valid).sum() + np.log(shares * (1 - shares)).sum())

    best = objective(model.discounts, model.exponents)
    rng = np.random.default_rng(0)
    for size in (0.02, 0.05, 0.2):
        for _ in range(10):
            changed = [np.clip(values + rng.normal(0, size, N_LENGTHS), 1e-3, 1 - 1e-3)
                       for values in (model.discounts, model.exponents)]  # fmt: skip
            assert objective(*changed) < best


def test_a_text_that_was_seen_is_known_by_heart() -> None:
    rng = np.random.default_rng(0)
    stream = TokenStream.from_documents([rng.integers(1, 50, 400)])
    model = sequence_memoizer(50).fit(TrainingData(stream, stream))
    assert model.log_probs(stream)[5:].mean() > np.log(0.9)


def test_the_same_tokens_are_read_in_a_stream_and_after_one_context() -> None:
    data = toy_data(V)
    model = sequence_memoizer(V).fit(data)
    states = [model.state_after(model.visible(data.valid.ids[:t])) for t in range(30)]
    rows = model.next_log_probs_batch(states)
    np.testing.assert_allclose(rows[np.arange(30), data.valid.ids[:30]], model.log_probs(data.valid)[:30], atol=1e-12)


# ---- Texts that repeat themselves ---------------------------------------------------------------


def test_hundreds_of_contexts_leave_something_for_other_tokens() -> None:
    """The product of the factors of all contexts would be 0 in floating point."""
    stream = stream_of([[A] * 3000])
    model = sequence_memoizer(V).fit(TrainingData(stream, stream))
    small = with_parameters(model, discounts=[0.1] * N_LENGTHS)
    for some in (model, small):
        log_probs = some.next_log_probs(some.state_after(np.full(2000, A, np.int32)))
        assert np.isfinite(log_probs).all()
        assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-9)


def test_a_text_of_empty_documents() -> None:
    model = fitted([[], [], []], 5)
    assert model.log_probs([EOT, A, EOT])[0] > np.log(0.5)


def test_an_open_document_is_taken_as_ended() -> None:
    closed, opened = (
        sequence_memoizer(V).fit(TrainingData(stream, stream_of([[A]])))
        for stream in (stream_of([[A, B], [B]]), TokenStream(np.array([A, B, EOT, B])))
    )
    for name, array in closed.arrays().items():
        np.testing.assert_array_equal(array, opened.arrays()[name])


# ---- The laws, saving, bad settings --------------------------------------------------------------


@pytest.mark.parametrize("max_context", [1, 2, 5, 1000])
def test_sequence_memoizers_keep_the_laws(max_context: int) -> None:
    check_language_model(lambda vocab_size: sequence_memoizer(vocab_size, max_context=max_context))


def test_a_sequence_memoizer_is_saved_and_loaded(corpus_folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.fit("sequence-memoizer", corpus_folder, tokenizer="bpe:300")
    loaded = Predictor.load(predictor.save(tmp_path / "memoizer"))
    assert loaded.surprisals("The cat that I saw") == predictor.surprisals("The cat that I saw")
    assert loaded.complete("The", seed=2) == predictor.complete("The", seed=2)


@pytest.mark.parametrize("wrong", [0, -1, 65_536])
def test_bad_settings_are_refused(wrong: int) -> None:
    with pytest.raises(ConfigurationError, match=f"max_context must be a whole number from 1 to 65535, got {wrong}"):
        sequence_memoizer(V, max_context=wrong)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("next_ids", lambda array: array + 1),
        ("places", lambda array: array[::-1].copy()),
        ("shared", lambda array: array + 1),
        ("shared", lambda array: array * 500),
        ("n_types", lambda array: array * 0 + 1),
        ("n_types", lambda array: array + 1),
        ("discounts", lambda array: array * 0 + 1),
        ("exponents", lambda array: array * 0),
        ("concentration", lambda array: array * np.nan),
        ("concentration", lambda array: array - 1e9),
    ],
)
def test_damaged_models_are_refused(name: str, change: Any) -> None:
    arrays = sequence_memoizer(V).fit(toy_data(V)).arrays()
    with pytest.raises(SavedModelError, match="the saved"):
        sequence_memoizer(V).load_arrays({**arrays, name: change(arrays[name])})
