"""The unbounded n-gram: its index worked by hand, and all of it by a slow implementation with dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lmzoo import Predictor
from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.models.infinigram import InfinigramModel, infinigram
from lmzoo.models.infinigram import model as infinigram_model
from lmzoo.models.infinigram.index import build_index
from lmzoo.models.infinigram.reading import MIN_RATIO, N_LENGTHS, N_SIZES
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

V = 6
A, B, NEVER = 1, 2, 5
Context = tuple[int, ...]

documents = st.lists(st.lists(st.integers(1, 3), max_size=12), min_size=1, max_size=6)


def stream_of(texts: list[list[int]]) -> TokenStream:
    return TokenStream.from_documents(texts)


def with_discounts(stream: TokenStream, max_context: int, seed: int = 0) -> InfinigramModel:
    """Fits a model and replaces its discounts by random ones, different for every length and count."""
    model = infinigram(V, max_context=max_context).fit(TrainingData(stream, stream))
    discounts = np.random.default_rng(seed).uniform(0.1, 0.9, (N_LENGTHS, N_SIZES))
    return model.load_arrays({**model.arrays(), "discounts": discounts})


# ---- Worked by hand -----------------------------------------------------------------------------


def test_index_worked_by_hand() -> None:
    """Builds the example at the top of index.py: the documents "a b a" and "a"."""
    index = build_index(stream_of([[A, B, A], [A]]), V, 10)
    assert index.next_ids.tolist() == [A, A, B, EOT, EOT, A]
    assert index.by_next.tolist() == [3, 4, 0, 1, 5, 2]
    assert index.starts.tolist() == [0, 2, 5, 6, 6, 6, 6]
    assert index.shared.tolist() == [0, 1, 0, 2, 1, 0, 0]  # ". a" twice: the start counts as shared
    # Rows 0-1 (a start: "a" follows), 2-3 (". a": "b" and an end), 2-4 ("a": the same two), all (three kinds).
    assert index.n_types[[0, 3, 2, 6]].tolist() == [1, 2, 2, 3]


def test_probabilities_worked_by_hand() -> None:
    """Computes predictions for the documents "a b a" and "a" with V = 6 tokens and all discounts 1/2.

    After the empty context: "a" 3 of 6 tokens, "b" 1, ends 2. The three discounts are 3/2, a quarter of 6, so each of
    the 6 tokens gets 1/4 * 1/6 = 1/24:
        p(a) = 5/12 + 1/24 = 11/24,  p(b) = 1/12 + 1/24 = 1/8.
    After "b", which occurs once and is followed by "a" (". a b" has the same row), the discount is half of the count:
        p(a | b) = 1/2 + 1/2 * 11/24 = 35/48,  p(b | b) = 1/16.
    """
    stream = stream_of([[A, B, A], [A]])
    model = infinigram(V).fit(TrainingData(stream, stream))
    model.load_arrays({**model.arrays(), "discounts": np.full((N_LENGTHS, N_SIZES), 0.5)})
    for context in ([B], [A, B], [NEVER, B]):
        probs = model.predict_distribution(context).probs
        assert probs[[A, B]] == pytest.approx([35 / 48, 1 / 16])
    assert model.matched_orders([A, B, A, EOT, B, B, NEVER]).tolist() == [2, 3, 4, 5, 1, 1, 1]


# ---- By a slow and simple second implementation -------------------------------------------------


class Dictionaries:
    """An unbounded n-gram model with dictionaries: counts the tokens after every context of any length."""

    def __init__(self, stream: TokenStream, max_context: int, discounts: NDArray[np.float64]) -> None:
        self.followers: dict[Context, Counter[int]] = defaultdict(Counter)
        self.max_context, self.discounts = max_context, discounts
        for document in stream.documents():
            padded = (EOT, *document.tolist())
            for end in range(1, len(padded)):
                for begin in range(max(0, end - max_context), end + 1):
                    self.followers[padded[begin:end]][padded[end]] += 1

    def matches(self, history: Context) -> list[Context]:
        """Returns the chosen suffixes of `history` that occur in training, the shortest first."""
        found: list[Context] = []
        for length in range(min(len(history), self.max_context) + 1):
            context = history[len(history) - length :]
            if context not in self.followers:
                break
            if found and self.followers[found[-1]].total() == self.followers[context].total():
                found.pop()
            found.append(context)
        kept: list[Context] = []
        for context in reversed(found):
            if not kept or self.followers[context].total() >= MIN_RATIO * self.followers[kept[-1]].total():
                kept.append(context)
        if kept[-1] != found[0]:
            kept.append(found[0])
        return kept[::-1]

    def probs(self, history: Context) -> NDArray[np.float64]:
        probs = np.full(V, 1 / V)
        for number, context in enumerate(self.matches(history)):
            followers = self.followers[context]
            total = followers.total()
            length = len(context) if number else 0
            discount = self.discounts[min(length, N_LENGTHS - 1), min(int(np.log2(total)), N_SIZES - 1)]
            kept = np.array([max(followers[token] - discount, 0) for token in range(V)])
            probs = (kept + discount * len(followers) * probs) / total
        return probs

    def longest(self, history: Context, token: int) -> int:
        lengths = range(min(len(history), self.max_context) + 1)
        seen = [n for n in lengths if self.followers.get(history[len(history) - n :], {}).get(token, 0)]
        return 1 + max(seen, default=0)


@settings(max_examples=40)
@given(documents, documents, st.integers(1, 8) | st.just(1000))
def test_equals_a_slow_and_simple_one(train: list[list[int]], test: list[list[int]], max_context: int) -> None:
    stream = stream_of(train)
    model = with_discounts(stream, max_context)
    slow = Dictionaries(stream, max_context, model.discounts)
    text = stream_of(test)
    rows = np.concatenate([block for _, block in model.stream_log_probs(text)])
    orders, row = model.matched_orders(text), 0
    for document in text.documents():
        history: Context = (EOT,)
        for token in document.tolist():
            np.testing.assert_allclose(np.exp(rows[row]), slow.probs(history), atol=1e-12, err_msg=str(history))
            assert orders[row] == slow.longest(history, token)
            history, row = (*history, token), row + 1
    observed = rows[np.arange(len(text)), text.ids]
    np.testing.assert_allclose(model.log_probs(text), observed, atol=1e-12)


@settings(max_examples=40)
@given(documents)
def test_contexts_are_sorted(texts: list[list[int]]) -> None:
    stream = stream_of(texts)
    contexts = []
    for document in stream.documents():
        padded = [EOT, *document.tolist()]
        contexts += [(padded[:end][::-1], padded[end]) for end in range(1, len(padded))]
    expected = sorted(range(len(contexts)), key=lambda position: contexts[position][0])
    assert build_index(stream, V, 1000).next_ids.tolist() == [contexts[position][1] for position in expected]


# ---- Discounts ----------------------------------------------------------------------------------


def test_discounts_are_the_best_on_valid() -> None:
    data = toy_data(V, n_documents=80)
    model = infinigram(V).fit(data)

    def objective(discounts: NDArray[np.float64]) -> float:
        other = infinigram(V).load_arrays({**model.arrays(), "discounts": discounts})
        return float(other.log_probs(data.valid).sum() + (np.log(discounts) + np.log1p(-discounts)).sum())

    best = objective(model.discounts)
    rng = np.random.default_rng(0)
    for size in (0.01, 0.05, 0.2):
        for _ in range(20):
            other = np.clip(model.discounts + rng.normal(0, size, model.discounts.shape), 1e-3, 1 - 1e-3)
            assert objective(other) < best
    for kind in np.argwhere(model.discounts != 0.5):
        for step in (-0.02, 0.02):
            other = model.discounts.copy()
            other[tuple(kind)] = np.clip(other[tuple(kind)] + step, 1e-3, 1 - 1e-3)
            assert objective(other) <= best + 1e-3


def test_a_text_that_was_seen_is_known_by_heart() -> None:
    rng = np.random.default_rng(0)
    stream = TokenStream.from_documents([rng.integers(1, 50, 400)])
    model = infinigram(50).fit(TrainingData(stream, stream))
    assert model.log_probs(stream)[5:].mean() > np.log(0.9)
    assert model.matched_orders(stream).tolist() == list(range(2, 403))


# ---- Texts that repeat themselves ---------------------------------------------------------------


def test_one_token_without_end() -> None:
    """The number of contexts in a state is limited by max_context, even if one token is repeated many times."""
    stream = stream_of([[A] * 30_000])
    model = infinigram(V, max_context=50).fit(TrainingData(stream, stream))
    assert model.matched_orders(stream).max() == 51
    assert len(model.state_after(np.full(3000, A, np.int32))) <= 51


def test_hundreds_of_contexts_leave_something_for_other_tokens() -> None:
    """The product of the left-over probabilities of all contexts would be 0 in floating point."""
    stream = stream_of([[A] * 3000])
    model = infinigram(V, max_context=300).fit(TrainingData(stream, stream))
    state = model.state_after(np.full(1000, A, np.int32))
    assert len(state) == 301
    assert np.isfinite(model.next_log_probs(state)).all()


def test_a_text_that_comes_twice() -> None:
    text = np.random.default_rng(0).integers(1, V, 5000).tolist()
    stream = stream_of([text, text])
    model = infinigram(V).fit(TrainingData(stream, stream))
    assert model.matched_orders(stream).max() == 1001
    assert len(model.state_after(np.array(text, np.int32))) < 20, "contexts in the same places count once"


def test_evidence_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = toy_data(V).train
    model = with_discounts(stream, 7)
    whole, orders = model.log_probs(stream), model.matched_orders(stream)
    monkeypatch.setattr(infinigram_model, "_EVIDENCE", 10)
    np.testing.assert_array_equal(model.log_probs(stream), whole)
    np.testing.assert_array_equal(model.matched_orders(stream), orders)


def test_an_open_document_is_taken_as_ended() -> None:
    closed = build_index(stream_of([[A, B], [B]]), V, 10)
    opened = build_index(TokenStream(np.array([A, B, EOT, B])), V, 10)
    for name, array in closed.arrays().items():
        np.testing.assert_array_equal(array, opened.arrays()[name])


# ---- The laws, saving, bad settings --------------------------------------------------------------


@pytest.mark.parametrize("max_context", [1, 2, 5, 1000])
def test_infinigrams_keep_the_laws(max_context: int) -> None:
    check_language_model(lambda vocab_size: infinigram(vocab_size, max_context=max_context))


def test_infinigram_is_saved_and_loaded(corpus_folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.fit("infinigram", corpus_folder, tokenizer="bpe:300")
    loaded = Predictor.load(predictor.save(tmp_path / "infinigram"))
    assert loaded.surprisals("The cat that I saw") == predictor.surprisals("The cat that I saw")
    assert loaded.complete("The", seed=2) == predictor.complete("The", seed=2)


@pytest.mark.parametrize("wrong", [0, -1, 65_536])
def test_bad_settings_are_refused(wrong: int) -> None:
    with pytest.raises(ConfigurationError, match=f"max_context must be a whole number from 1 to 65535, got {wrong}"):
        infinigram(V, max_context=wrong)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("next_ids", lambda array: array + 1),
        ("places", lambda array: array[::-1].copy()),
        ("places", lambda array: array - len(array)),
        ("first_places", lambda array: array + 1),
        ("n_types", lambda array: array * 0),
        ("discounts", lambda array: array * 0 + 1),
        ("discounts", lambda array: array * np.nan),
    ],
)
def test_damaged_indices_are_refused(name: str, change: Any) -> None:
    arrays = infinigram(V).fit(toy_data(V)).arrays()
    with pytest.raises(SavedModelError, match="the saved"):
        infinigram(V).load_arrays({**arrays, name: change(arrays[name])})
