"""Prediction by partial matching: by hand, by a slow implementation with dictionaries, and against Kneser-Ney."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lmzoo import Predictor
from lmzoo.errors import SavedModelError, UsageError
from lmzoo.models.ngram.reference import Reference
from lmzoo.models.ppm import PpmModel, ppm
from lmzoo.models.ppm import memory as ppm_memory
from lmzoo.models.ppm.model import ESCAPES
from lmzoo.models.ppm.reading import LARGEST, N_KINDS, N_LENGTHS, SMALLEST
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import check_language_model, toy_data

V = 6
A, B = 1, 2
Context = tuple[int, ...]

documents = st.lists(st.lists(st.integers(1, 3), max_size=14), min_size=1, max_size=6)


def fitted(texts: list[list[int]], **arguments: Any) -> PpmModel:
    stream = TokenStream.from_documents(texts)
    return ppm(V, **arguments).fit(TrainingData(stream, stream))


# ---- Worked by hand -----------------------------------------------------------------------------


def test_online_probabilities_worked_by_hand() -> None:
    """Reads "a a a" with V = 6, order 1 and escape method D (a = 0, b = 1/2).

    1. Nothing is known: 1/6. Then "a" has the count 1 at the start of a document and after the empty context.
    2. After "a", which is new: the empty context has n = 1, u = 1, so p = (1 - 1/2) + 1/2 * 1/6 = 7/12. Then "a" has
       the count 1 after "a". It had one after the empty context, which becomes 2.
    3. After "a": the empty context has n = 2, u = 1, so p = (2 - 1/2 + 1/2 * 1/6) / 2 = 19/24. After "a",
       p = 1/2 + 1/2 * 19/24 = 43/48. Then only the count after "a" grows, to 2 (update exclusion).
    4. EOT: after the empty context (1/2 * 1/6) / 2 = 1/24, after "a" (n = 2, u = 1) p = (1/2 * 1/24) / 2 = 1/96.
    """
    log_probs = ppm(V, order=1, escape="D").online_log_probs([A, A, A, EOT])
    assert np.exp(log_probs) == pytest.approx([1 / 6, 7 / 12, 43 / 48, 1 / 96])


@pytest.mark.parametrize(
    ("escape", "expected"),
    [
        # After "a b", the empty context has n = 2, u = 2, and "b" was never a context. p(a), and p of a new token:
        ("A", (7 / 18, 1 / 18)),  # (1 + 1 * 1/6) / 3, (1 * 1/6) / 3
        ("C", (1 / 3, 1 / 12)),  # (1 + 2 * 1/6) / 4, (2 * 1/6) / 4
        ("D", (1 / 3, 1 / 12)),  # (1 - 1/2 + 1 * 1/6) / 2, (1 * 1/6) / 2
    ],
)
def test_escape_methods_worked_by_hand(escape: str, expected: tuple[float, float]) -> None:
    for token, prob in zip((A, 3), expected, strict=True):
        log_probs = ppm(V, order=3, escape=escape).online_log_probs([A, B, token])
        assert np.exp(log_probs[-1]) == pytest.approx(prob)


# ---- By a slow and simple second implementation -------------------------------------------------


class Dictionaries:
    """PPM with a dictionary of counts for every context; the gradient of each parameter is a difference quotient."""

    def __init__(self, order: int, escape: str) -> None:
        self.order = order
        a, b, self.per_kind, self.rate = ESCAPES[escape]
        self.counts: dict[Context, Counter[int]] = defaultdict(Counter)
        self.cells = np.tile([a, b, 1e-2, 1e-2], (N_LENGTHS * N_KINDS, 1))

    def contexts(self, history: Context) -> list[Context]:
        """Returns the suffixes of the history of a document, which begins with EOT, from the shortest."""
        return [history[len(history) - length :] for length in range(min(self.order, len(history)) + 1)]

    def cell(self, context: Context) -> int:
        return min(len(context), N_LENGTHS - 1) * N_KINDS + min(len(self.counts[context]), N_KINDS) - 1

    def probs(self, history: Context) -> NDArray[np.float64]:
        probs = np.full(V, 1 / V)
        for context in self.contexts(history):
            counts = self.counts.get(context)
            if counts:
                a, b = self.cells[self.cell(context), :2]
                a += self.per_kind * len(counts)
                kept = np.array([max(counts[token] - b, 0) if token in counts else 0 for token in range(V)])
                probs = (kept + (a + len(counts) * b) * probs) / (counts.total() + a)
        return probs

    def learn(self, history: Context, token: int) -> None:
        if self.rate:
            self.learn_parameters(history, token)
        for context in reversed(self.contexts(history)):
            self.counts[context][token] += 1
            if self.counts[context][token] > 1:
                break

    def learn_parameters(self, history: Context, token: int) -> None:
        """Takes a step of AdaGrad for each context, in turn from the longest, with the gradients before any step."""
        steps, before, prob = [], self.cells.copy(), self.probs(history)[token]
        known = [context for context in self.contexts(history) if self.counts.get(context)]
        for context in reversed(known):
            slope_a, slope_b = (self.slope(known, context, token, k) / prob for k in (0, 1))
            steps += [(self.cell(context), slope_a, slope_b)]
        self.cells = before
        for cell, slope_a, slope_b in steps:
            row = self.cells[cell]
            row[2:] += slope_a**2, slope_b**2
            row[1] = np.clip(row[1] + self.rate * slope_b / np.sqrt(row[3]), 0, 1)
            row[0] = np.clip(row[0] + self.rate * slope_a / np.sqrt(row[2]), SMALLEST - row[1], LARGEST)

    def slope(self, known: Sequence[Context], moved: Context, token: int, k: int) -> float:
        """Returns the derivative of the probability of a token by parameter k of one context, others unchanged."""

        def prob(change: float) -> float:
            below = 1 / V
            for context in known:
                counts = self.counts[context]
                a, b = self.cells[self.cell(context), :2]
                if context == moved:
                    a, b = (a + change, b) if k == 0 else (a, b + change)
                here = counts[token] - b if token in counts else 0
                below = (here + (a + len(counts) * b) * below) / (counts.total() + a)
            return below

        return (prob(1e-5) - prob(-1e-5)) / 2e-5


@settings(max_examples=40)
@given(documents, st.integers(1, 16), st.sampled_from(list(ESCAPES)))
def test_online_learning_equals_a_slow_and_simple_one(texts: list[list[int]], order: int, escape: str) -> None:
    stream, slow, expected = TokenStream.from_documents(texts), Dictionaries(order, escape), []
    for document in stream.documents():
        history: Context = (EOT,)
        for token in document.tolist():
            expected.append(np.log(slow.probs(history)[token]))
            slow.learn(history, token)
            history = (*history, token)
    found = ppm(V, order=order, escape=escape).online_log_probs(stream)
    np.testing.assert_allclose(found, expected, atol=1e-6)  # the slow one has difference quotients


@settings(max_examples=40)
@given(documents, documents, st.integers(1, 16), st.sampled_from(["A", "C", "D"]), st.booleans())
def test_documents_equal_a_slow_and_simple_one(
    train: list[list[int]], test: list[list[int]], order: int, escape: str, adaptive: bool
) -> None:
    """Each test document begins with the counts after training, whatever the documents before it."""
    model = fitted(train, order=order, escape=escape, adaptive=adaptive)
    text = TokenStream.from_documents(test)
    rows = np.concatenate([block for _, block in model.stream_log_probs(text)])
    row = 0
    for document in text.documents():
        slow = Dictionaries(order, escape)
        for ids in TokenStream.from_documents(train).documents():
            for t, token in enumerate(ids.tolist()):
                slow.learn((EOT, *ids[:t].tolist()), token)
        history: Context = (EOT,)
        for token in document.tolist():
            np.testing.assert_allclose(np.exp(rows[row]), slow.probs(history), atol=1e-12, err_msg=str(history))
            if adaptive:
                slow.learn(history, token)
            history, row = (*history, token), row + 1


# ---- Kneser-Ney smoothing -----------------------------------------------------------------------


@settings(max_examples=30)
@given(documents, documents, st.integers(1, 6), st.lists(st.floats(0.05, 0.95), min_size=7, max_size=7))
def test_with_one_discount_for_each_length_it_is_kneser_ney(
    train: list[list[int]], test: list[list[int]], order: int, discounts: list[float]
) -> None:
    """Compares with an n-gram model: a = 0, and b is the discount of all contexts of the same length (Teh 2006)."""
    model = fitted(train, order=order, escape="D", adaptive=False)
    arrays = model.arrays()
    by_length = [discounts[min(length, 6)] for length in range(N_LENGTHS)]
    arrays["parameters"] = np.array([[0, b, 1, 1] for b in by_length for _ in range(N_KINDS)])
    model.load_arrays(arrays)
    tuned = [[discount] * 3 for discount in discounts[: order + 1]]
    ended = [(*text, EOT) for text in train]
    reference = Reference(ended, range(V), order + 1, "kneser-ney-tuned", tuned)
    for document in TokenStream.from_documents(test).documents():
        log_probs = model.log_probs(document)
        history = (EOT, *document.tolist())
        expected = [reference.prob(history[: t + 1], history[t + 1]) for t in range(len(document))]
        np.testing.assert_allclose(np.exp(log_probs), expected, atol=1e-12)


# ---- Documents are forgotten --------------------------------------------------------------------


def test_a_document_is_learned_and_forgotten() -> None:
    rng = np.random.default_rng(0)
    model = ppm(50).fit(toy_data(50))
    passage = rng.integers(1, 50, 30)
    twice = model.log_probs([*passage, *passage, EOT])
    assert twice[35:60].mean() > twice[:30].mean() + 3, "the second time, the passage is known"
    again = model.log_probs([*passage, *passage, EOT])
    np.testing.assert_array_equal(twice, again)


@pytest.mark.parametrize("adaptive", [True, False])
def test_states_of_several_documents_in_turn(adaptive: bool) -> None:
    model = ppm(12, order=4, adaptive=adaptive).fit(toy_data(12))
    texts = [np.random.default_rng(seed).integers(1, 11, 20) for seed in range(3)]
    alone = [model.token_stats(text).log_probs for text in texts]
    states = [model.initial_state() for _ in texts]
    for t in range(20):
        for k, text in enumerate(texts):
            assert model.next_log_probs(states[k])[text[t]] == pytest.approx(alone[k][t], abs=1e-9)
            states[k] = model.advance(states[k], int(text[t]))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3), st.booleans()), min_size=1, max_size=30), st.booleans()
)
@settings(max_examples=30)
def test_states_that_branch(steps: list[tuple[int, int, bool]], adaptive: bool) -> None:
    """Each step adds a token to any of the earlier states; each state predicts as a fresh copy of its document does."""
    model = fitted([[1, 2, 3, 1, 2], [2, 1]], order=3, adaptive=adaptive)
    other = fitted([[1, 2, 3, 1, 2], [2, 1]], order=3, adaptive=adaptive)
    states: list[tuple[Any, list[int]]] = [(model.initial_state(), []), (model.state_after(np.array([1, 1])), [1, 1])]
    for number, token, disturbed in steps:
        state, document = states[number % len(states)]
        states.append((model.advance(state, token), [*document, token]))
        if disturbed:
            model.log_probs([3, 3, 1])
        for state, document in states[-2:]:
            other.log_probs([EOT])  # so that the document is read again from its beginning
            expected = other.next_log_probs(other.state_after(np.array(document, np.int32)))
            np.testing.assert_array_equal(model.next_log_probs(state), expected)


def test_a_document_is_not_copied_or_compared_for_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    model = ppm(12).fit(toy_data(12))
    array_equal = np.array_equal
    monkeypatch.setattr(ppm_memory.np, "array_equal", lambda *pair: compared.append(1) or array_equal(*pair))
    state, buffers = model.initial_state(), {}
    for token in np.random.default_rng(2).integers(1, 11, 1000).tolist():
        model.next_log_probs(state)
        state = model.advance(state, token)
        buffers[id(state.ids.base)] = state.ids.base
    assert len(compared) == 1
    assert len(buffers) < 10


def test_reading_a_document_during_a_stream_does_not_disturb_it() -> None:
    model = ppm(12).fit(toy_data(12))
    stream = TokenStream(np.random.default_rng(1).integers(1, 11, 30_000).astype(np.int32))
    blocks = model.stream_log_probs(stream)
    found = []
    for positions, block in blocks:
        found.append(block[np.arange(len(positions)), stream.ids[positions]].copy())
        model.predict_distribution([5, 6, 7])
    assert len(found) > 1
    np.testing.assert_allclose(np.concatenate(found), model.log_probs(stream), atol=1e-9)


def test_memory_that_grows_within_a_document_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_data(12)
    text = np.append(np.random.default_rng(1).integers(1, 11, 3000), EOT)
    expected = ppm(12).fit(data).log_probs(text)
    monkeypatch.setattr(ppm_memory, "_GROWTH", 1.05)
    calls = []
    fill_slots = ppm_memory.fill_slots
    monkeypatch.setattr(ppm_memory, "fill_slots", lambda tree: (calls.append(1), fill_slots(tree)))
    model = ppm(12).fit(data)
    calls.clear()
    np.testing.assert_array_equal(model.log_probs(text), expected)
    assert len(calls) > 5
    np.testing.assert_array_equal(model.log_probs(text), expected)


# ---- The laws, saving, bad settings --------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [{}, {"adaptive": False}, {"order": 1, "escape": "A"}, {"order": 2, "escape": "C", "adaptive": False}],
    ids=str,
)
def test_ppm_keeps_the_laws(arguments: dict[str, Any]) -> None:
    check_language_model(lambda vocab_size: ppm(vocab_size, **arguments))


def test_only_an_adaptive_model_adapts_on_test() -> None:
    assert ppm(V).adapts_on_test
    assert ppm(V).context_size is None
    assert not ppm(V, adaptive=False).adapts_on_test
    assert ppm(V, order=7, adaptive=False).context_size == 7


@pytest.mark.parametrize("order", [1, 64])
def test_one_token_without_end_leaves_something_for_others(order: int) -> None:
    """The parameters reach their limits, and the product of 65 left-over shares must not become 0."""
    model = fitted([[A] * 30_000], order=order)
    log_probs = model.next_log_probs(model.state_after(np.full(200, A, np.int32)))
    assert np.isfinite(log_probs).all()
    assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-9)
    assert np.isfinite(model.log_probs([*[A] * 200, B, EOT])).all()


def test_an_open_document_is_taken_as_ended() -> None:
    closed, opened = (
        ppm(V).fit(TrainingData(stream, stream))
        for stream in (TokenStream(np.array([A, B, EOT, B, EOT])), TokenStream(np.array([A, B, EOT, B])))
    )
    for name, array in closed.arrays().items():
        np.testing.assert_array_equal(array, opened.arrays()[name])


def test_ppm_is_saved_and_loaded(corpus_folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.fit("ppm", corpus_folder, tokenizer="bpe:300")
    loaded = Predictor.load(predictor.save(tmp_path / "ppm"))
    assert loaded.surprisals("The cat that I saw") == predictor.surprisals("The cat that I saw")
    assert loaded.complete("The", seed=2) == predictor.complete("The", seed=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"order": 0}, "order must be a whole number from 1 to 64, got 0"),
        ({"order": 65}, "order must be a whole number from 1 to 64, got 65"),
        ({"escape": "learnt"}, "unknown escape 'learnt': did you mean 'learned'"),
        ({"adaptive": 1}, "adaptive must be true or false, got 1"),
    ],
)
def test_bad_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ppm(V, **wrong)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("text", lambda array: array[:0]),
        ("text", lambda array: array[:-1]),
        ("text", lambda array: array - 1),
        ("text", lambda array: array + 1),
        ("parameters", lambda array: array * np.nan),
        ("parameters", lambda array: array + 1),
        ("parameters", lambda array: array * 0),
    ],
)
def test_damaged_models_are_refused(name: str, change: Any) -> None:
    arrays = ppm(V).fit(toy_data(V)).arrays()
    with pytest.raises(SavedModelError, match="the saved PPM model is damaged"):
        ppm(V).load_arrays({**arrays, name: change(arrays[name])})
