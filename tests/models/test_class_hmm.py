"""Large hidden Markov models: equal to ordinary ones with zeros; Baum-Welch with back-off and splitting."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, SavedModelError, TrainingError
from lmzoo.language_model import Progress
from lmzoo.models.class_hmm import ClassHiddenMarkovModel, class_hmm, inference, learning
from lmzoo.models.class_hmm.layout import EOT_STATE, START, Counts, Layout, Parameters
from lmzoo.models.class_hmm.learning import Prior, SplittingState, Strengths
from lmzoo.models.hmm import HiddenMarkovModel, hmm
from lmzoo.models.hmm.inference import Parameters as DenseParameters
from lmzoo.models.hmm.inference import expected_counts as dense_expected_counts
from lmzoo.models.hmm.packing import PackedText
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import toy_data

CLASSES = np.array([0, 1, 2, 1, 3, 3, 2, 3], np.int32)
N_STATES_OF = np.array([1, 3, 2, 4])


def random_parameters(layout: Layout, seed: int) -> Parameters:
    rng = np.random.default_rng(seed)
    transmat = rng.dirichlet(np.full(layout.n_states, 0.5), layout.n_states) + 1e-6
    emissions = rng.random(layout.n_emissions) + 0.01
    emissions /= np.bincount(layout.state_of_emission, emissions)[layout.state_of_emission]
    return Parameters((transmat / transmat.sum(axis=1, keepdims=True)).astype(np.float32), emissions.astype(np.float32))


def random_model(seed: int = 0) -> ClassHiddenMarkovModel:
    layout = Layout(CLASSES, N_STATES_OF)
    arrays = {"classes": CLASSES, "n_states_of": N_STATES_OF, **random_parameters(layout, seed)._asdict()}
    return class_hmm(len(CLASSES), n_states=layout.n_states, n_classes=4).load_arrays(arrays)


def exact_model(model: ClassHiddenMarkovModel) -> HiddenMarkovModel:
    """Converts the model to an ordinary hidden Markov model, whose zeros are stored as numbers."""
    layout, (transmat, emissions) = model._layout, model._parameters
    dense = np.zeros((layout.n_states, model.vocab_size))
    dense[layout.state_of_emission, layout.token_of_emission] = emissions
    rows = {"startprob": transmat[EOT_STATE], "transmat": transmat, "emissionprob": dense}
    rows = {name: array.astype(np.float64) for name, array in rows.items()}
    return hmm(model.vocab_size, n_states=layout.n_states).load_arrays(
        {name: array / array.sum(axis=-1, keepdims=True) for name, array in rows.items()}
    )


def random_stream(lengths: list[int], seed: int = 1) -> TokenStream:
    rng = np.random.default_rng(seed)
    return TokenStream.from_documents(rng.integers(1, len(CLASSES), length) for length in lengths)


STREAM = random_stream([0, 1, 5, 40, 300, 7])


# ---- The same as an exact model ------------------------------------------------------------------


def test_layout_worked_by_hand() -> None:
    """Lays out four classes with the tokens 0 | 1 3 | 2 6 | 4 5 7 and rows of 1, 3, 2 and 4 numbers."""
    layout = Layout(CLASSES, N_STATES_OF)
    assert layout.tokens.tolist() == [0, 1, 3, 2, 6, 4, 5, 7]
    assert layout.first_emission.tolist() == [0, 1, 7, 4, 11, 15, 9, 19]
    assert (layout.n_states, layout.n_emissions) == (10, 23)
    assert [layout.block(c) for c in range(4)] == [(0, 1), (1, 4), (4, 6), (6, 10)]
    assert layout.state_of_emission[7:11].tolist() == [4, 5, 4, 5]
    assert layout.token_of_emission[7:11].tolist() == [2, 2, 6, 6]
    assert layout.emissions_of(2, np.arange(23, dtype=np.float32)).tolist() == [[7, 8], [9, 10]]


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_exact_model(seed: int) -> None:
    model = random_model(seed)
    exact = exact_model(model)
    np.testing.assert_allclose(model.log_probs(STREAM), exact.log_probs(STREAM), rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.posteriors(STREAM), exact.posteriors(STREAM), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(model.viterbi(STREAM), exact.viterbi(STREAM))
    for context in ([], [3], [1, 2, 3, 4, 5, 6, 7]):
        np.testing.assert_allclose(
            model.predict_distribution(context).probs, exact.predict_distribution(context).probs, rtol=1e-4
        )


def test_counts_of_the_exact_model() -> None:
    model = random_model()
    layout, parameters = model._layout, model._parameters
    exact = exact_model(model)
    rows = DenseParameters(exact.startprob, exact.transmat, np.ascontiguousarray(exact.emissionprob.T))
    expected = dense_expected_counts(PackedText.of(STREAM, layout.n_states), rows)
    log_likelihood, counts = inference.expected_counts(STREAM, layout, parameters)
    assert log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-3)
    # The exact model counts starts apart, and no way on from an end of text.
    np.testing.assert_allclose(counts.transitions[0], expected.starts, atol=1e-4)
    np.testing.assert_allclose(counts.transitions[1:], expected.transitions[1:], atol=1e-3)
    emitted = expected.emissions[layout.token_of_emission, layout.state_of_emission]
    np.testing.assert_allclose(counts.emissions, emitted, atol=1e-3)
    assert counts.emissions.sum() == pytest.approx(len(STREAM), rel=1e-5)


@pytest.mark.parametrize("block", [1, 3, 16, 200])
@pytest.mark.parametrize("n_open", [0, 1])
def test_cutting_streams_changes_nothing(block: int, n_open: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, stream = random_model(), TokenStream(STREAM.ids[: len(STREAM) - n_open])
    layout, parameters = model._layout, model._parameters
    whole = inference.expected_counts(stream, layout, parameters), model.log_probs(stream)
    monkeypatch.setattr(inference, "_BLOCK", block)
    covered = [block for chain in inference.chains(stream) for block in chain]
    assert [(block.start, block.stop) for block in covered] == sorted((b.start, b.stop) for b in covered)
    assert (covered[0].start, covered[-1].stop) == (0, len(stream))
    assert len(covered) > 1
    cut = inference.expected_counts(stream, layout, parameters), model.log_probs(stream)
    np.testing.assert_allclose(cut[1], whole[1], atol=1e-5)
    assert cut[0][0] == pytest.approx(whole[0][0], rel=1e-6)
    for found, expected in zip(cut[0][1], whole[0][1], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_sampled_documents_follow_the_prediction() -> None:
    model, rng = random_model(), np.random.default_rng(0)
    documents = [model.sample_document(rng, max_tokens=30) for _ in range(1000)]
    first = np.bincount([ids[0] for ids, _ in documents], minlength=len(CLASSES))
    assert chisquare(first, model.predict_distribution().probs * 1000).pvalue > 1e-4
    for ids, path in documents:
        assert len(ids) == len(path) <= 30
        np.testing.assert_array_equal(model._layout.class_of_state[path], CLASSES[ids])
        assert (ids[:-1] != EOT).all()


# ---- Learning ------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    of_state=st.floats(0.01, 1e3), of_class=st.floats(0.01, 1e3), of_tokens=st.floats(0.01, 1e3), seed=st.integers(0)
)
def test_no_iteration_lowers_the_objective(of_state: float, of_class: float, of_tokens: float, seed: int) -> None:
    layout, stream = Layout(CLASSES, N_STATES_OF), random_stream([0, 1, 12, 30], seed % 1000)
    _, counts = inference.expected_counts(stream, layout, random_parameters(layout, seed % 1000))
    token_counts = np.bincount(stream.ids, minlength=len(CLASSES)) + 0.5
    prior = Prior.of(counts, Strengths(of_state, of_class, of_tokens), layout, token_counts)
    objectives = []
    for _ in range(6):
        parameters = prior.maximise(counts, layout)
        log_likelihood, counts = inference.expected_counts(stream, layout, parameters)
        objectives.append(log_likelihood + prior.log_density(parameters, layout))
    assert (np.diff(objectives) >= -1e-6 * np.abs(objectives[1:])).all()


def test_back_off_worked_by_hand() -> None:
    """Smooths the counts of state 2, which occurred once and was followed by state 3; class 1 has states 1 and 2.

    Masses (4, 2, 1, 3) / 10. Class 1 counts (0, 2, 0, 1) + b (.4, .2, .1, .3) with b = 10: (4, 4, 1, 4) / 13.
    State 2: (0, 0, 0, 1) + a (4, 4, 1, 4) / 13 with a = 13: (4, 4, 1, 5) / 14.
    Token 2 of class 1 has 3 of its 4 tokens; state 2 emitted token 1 once: (1, 0) + e (1/4, 3/4), e = 4: (2, 3) / 5.
    """
    layout = Layout(np.array([0, 1, 1, 2], np.int32), np.array([1, 2, 1]))
    transitions = np.array([[0, 2, 0, 2], [0, 2, 0, 0], [0, 0, 0, 1], [3, 0, 0, 0]], np.float32)
    emissions = np.array([4.0, 1, 1, 1, 0, 3])  # token 0; token 1 in states 1, 2; token 2 in states 1, 2; token 3
    prior = Prior.of(Counts(transitions, emissions), Strengths(13, 10, 4), layout, np.array([4.0, 1, 3, 3]))
    found = prior.maximise(Counts(transitions, emissions), layout)
    np.testing.assert_allclose(found.transmat[2], np.array([4, 4, 1, 5]) / 14, rtol=1e-5)
    np.testing.assert_allclose(found.emissions[[2, 4]], [2 / 5, 3 / 5], rtol=1e-6)


def test_splitting_without_noise_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "_NOISE", 0)
    layout = Layout(CLASSES, N_STATES_OF)
    _, counts = inference.expected_counts(STREAM, layout, random_parameters(layout, 3))
    before = SplittingState(layout, counts, replace(Strengths(), of_tokens=1e-3))
    after = learning.split(before, 25, np.random.default_rng(0))
    assert after.layout.n_states == 25
    assert after.layout.n_states_of[0] == 1
    for old, new in zip(before.counts, after.counts, strict=True):
        assert new.sum() == pytest.approx(old.sum(), rel=1e-5)
    token_counts = np.bincount(STREAM.ids, minlength=len(CLASSES)) + 0.5
    likelihoods = []
    for at in (before, after):
        # Pseudo-counts are for each state: those of many would weigh more than those of few.
        prior = Prior.of(at.counts, Strengths(1e-4, 1e-4, 1e-4), at.layout, token_counts)
        likelihoods.append(inference.log_likelihood(STREAM, at.layout, prior.maximise(at.counts, at.layout)))
    assert likelihoods[1] == pytest.approx(likelihoods[0], rel=1e-4)


def test_frequent_states_are_split_more() -> None:
    """Splits states with the frequencies 16, 4 and 1 by D'Hondt's method, with the square roots 4, 2 and 1.

    The quotients are 4/1 > 4/2 = 2/1 > 4/3 > 2/2 = 1/1 ...
    """
    layout = Layout(np.array([0, 1, 2, 3], np.int32), np.ones(4, np.int64))
    counts = Counts(np.ones((4, 4), np.float32), np.array([1000.0, 16, 4, 1]))
    assert learning.split(SplittingState(layout, counts), 8, np.random.default_rng(0)).layout.n_states_of.tolist() == [
        1,
        4,
        2,
        1,
    ]


def test_finds_what_a_class_bigram_cannot() -> None:
    """Fits text in which token 3 follows 1 or 2, and is followed by 4 or 5 accordingly, so that 3 needs two states."""
    rng = np.random.default_rng(0)
    firsts = rng.integers(0, 2, 3000)
    streams = [
        TokenStream.from_documents([[1 + first, 3, 4 + first] for first in part]) for part in np.split(firsts, 3)
    ]
    model = class_hmm(6, n_states=8, n_classes=6).fit(TrainingData(*streams[:2]))
    # One of two equally likely documents of four tokens: one bit in four tokens is random.
    assert -model.log_probs(streams[2]).mean() < np.log(2) / 4 + 0.02
    assert model.predict_distribution([2, 3]).prob(5) > 0.95


RESUMABLE = {"n_states": 24, "n_classes": 5, "n_rounds": 3, "tolerance": 0}


@cache
def uninterrupted() -> dict[str, Any]:
    return class_hmm(12, **RESUMABLE).fit(toy_data(12), seed=3).arrays()


@pytest.mark.parametrize("stop_at", [10.0, 60.0, 99.0])
def test_resumes_bit_for_bit(stop_at: float, tmp_path: Path) -> None:
    data, model, expected = toy_data(12), class_hmm(12, **RESUMABLE), uninterrupted()

    def interrupt(progress: Progress) -> None:
        if progress.unit == "percent" and progress.done > stop_at:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "checkpoint")
    with pytest.raises(KeyboardInterrupt):
        model.fit(data, seed=3, on_progress=interrupt, checkpoint=checkpoint)
    told: list[str] = []
    resumed = model.fit(data, seed=3, checkpoint=checkpoint, on_progress=lambda progress: told.append(progress.unit))
    if checkpoint.path.exists():
        assert "tokens" not in told  # no classes were made again
    for name, array in resumed.arrays().items():
        np.testing.assert_array_equal(array, expected[name])
    with pytest.raises(TrainingError, match="other data or settings"):
        model.fit(data, seed=4, checkpoint=checkpoint)


@pytest.mark.parametrize("ids", [[EOT], [1], [1, EOT], [1, 2, 3, EOT], [EOT, EOT, 1, EOT]])
def test_corpus_smaller_than_the_number_of_states(ids: list[int]) -> None:
    stream = TokenStream(np.array(ids))
    model = class_hmm(20, n_states=50, n_classes=16, n_rounds=2).fit(TrainingData(stream, stream))
    assert model.n_states == 50
    for context in ([], [1], [19], [1, 2, 19, 19]):  # 19 was never seen
        assert np.isfinite(model.predict_distribution(context).log_probs).all()
    assert model.predict_distribution([]).prob(ids[0]) > 2 * model.predict_distribution([]).prob(19)
    assert np.isfinite(model.posteriors([1, 19, 19])).all()


def test_a_lowered_objective_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    maximise = Prior.maximise
    n_calls = 0

    def sabotaged(self: Prior, counts: Counts, layout: Layout) -> Parameters:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 2:
            counts = counts._replace(transitions=np.roll(counts.transitions, 1, axis=0))
        return maximise(self, counts, layout)

    monkeypatch.setattr(Prior, "maximise", sabotaged)
    with pytest.raises(TrainingError, match="lowered its objective"):
        class_hmm(12, n_states=8, n_classes=4).fit(toy_data(12))


def test_rounding_of_a_prior_on_many_states_is_no_error() -> None:
    """Fits little text with many states, where the prior dominates: float32 keeps seven digits of millions of nats."""
    assert class_hmm(12).fit(toy_data(12)).n_states == 1024


def test_a_single_state_for_each_of_two_classes() -> None:
    model = class_hmm(12, n_states=2, n_classes=2).fit(toy_data(12))
    assert exact_model(model).transmat.shape == (2, 2)
    assert model.initial_state() is START


# ---- Wrong settings, damaged files ---------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"n_states": 1}, {"n_states": 10**6}, {"n_classes": 1}, {"n_rounds": 0}, {"tolerance": -1}]
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=name):
        class_hmm(12, **wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": np.array([0, 1, 2, 1, 3, 3, 2, 0], np.int32)}, "end-of-text alone"),
        ({"n_states_of": np.array([1, 3, 2, 5])}, "10 states"),
        ({"n_states_of": np.array([2, 2, 2, 4])}, "end-of-text one"),
        ({"transmat": np.full((10, 10), 0.2, np.float32)}, "transmat"),
        ({"emissions": np.full(23, -1, np.float32)}, "emissions"),
    ],
)
def test_damaged_arrays(change: dict[str, Any], message: str) -> None:
    arrays = {**random_model().arrays(), **change}
    with pytest.raises(SavedModelError, match=message):
        class_hmm(len(CLASSES), n_states=10, n_classes=4).load_arrays(arrays)
