"""Baum-Welch: its objective, its stopping rule, checkpoints, on-line EM, and a fit of real text."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hmm_models import model_of, parameters_of, random_model, random_stream
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import TrainingError
from lmzoo.language_model import Progress
from lmzoo.models.hmm import HiddenMarkovModel, baum_welch, hmm
from lmzoo.models.hmm.baum_welch import log_prior, maximise
from lmzoo.models.hmm.inference import Counts, Parameters, expected_counts
from lmzoo.models.hmm.packing import PackedText
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import toy_data


@settings(max_examples=20)
@given(
    n_states=st.integers(1, 6),
    emission_prior=st.floats(1e-3, 1e3),
    transition_prior=st.floats(1e-3, 1e3),
    seed=st.integers(0, 10**6),
)
def test_no_iteration_lowers_the_objective(
    n_states: int, emission_prior: float, transition_prior: float, seed: int
) -> None:
    stream = random_stream(8, [0, 1, 12, 30], seed)
    text, parameters = PackedText.of(stream, n_states), parameters_of(random_model(n_states, 8, seed))
    unigram = np.random.default_rng(seed).dirichlet(np.ones(8))
    priors = (unigram, emission_prior, transition_prior)
    parameters = maximise(expected_counts(text, parameters), *priors)
    objectives = []
    for _ in range(6):
        counts = expected_counts(text, parameters)
        objectives.append(counts.log_likelihood + log_prior(parameters, *priors))
        parameters = maximise(counts, *priors)
    assert (np.diff(objectives) >= -1e-9 * np.abs(objectives[1:])).all()


def test_a_lowered_objective_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baum_welch, "maximise", Sabotaged(maximise))
    with pytest.raises(TrainingError, match="iteration 3 of Baum-Welch lowered its objective"):
        hmm(12, n_states=4, emission_prior=1.0).fit(toy_data(12))


class Sabotaged:
    """An M-step that exchanges the counts of tokens at its third call."""

    def __init__(self, maximise: Any) -> None:
        self.maximise, self.n_calls = maximise, 0

    def __call__(self, counts: Counts, *priors: Any) -> Parameters:
        self.n_calls += 1
        if self.n_calls == 3:
            counts = counts._replace(emissions=np.roll(counts.emissions, 1, axis=0))
        return self.maximise(counts, *priors)


def test_finds_a_known_source() -> None:
    """Checks that a fit predicts nearly as well as its source, whose two states seldom change and share few words."""
    truth = model_of(
        [0.5, 0.5], [[0.95, 0.05], [0.05, 0.95]], [[0.02, 0.6, 0.3, 0.04, 0.04], [0.02, 0.04, 0.04, 0.6, 0.3]]
    )
    rng = np.random.default_rng(6)
    train, valid, test = (
        TokenStream.from_documents(truth.sample_document(rng)[0][:-1] for _ in range(400)) for _ in range(3)
    )
    fitted = hmm(5, n_states=2).fit(TrainingData(train, valid), seed=1)
    gap = truth.log_probs(test).mean() - fitted.log_probs(test).mean()
    assert gap < 0.002
    np.testing.assert_allclose(np.diag(fitted.transmat), 0.95, atol=0.02)


def test_keeps_the_best_on_valid_and_stops() -> None:
    data = toy_data(30, n_documents=12)  # little text and many states: valid gets worse soon
    told: list[Progress] = []
    args = {"n_states": 12, "emission_prior": 0.01, "transition_prior": 0.01, "patience": 2, "n_iterations": 100}
    model = hmm(30, **args).fit(data, on_progress=told.append)
    perplexities = [float(progress.message.split("valid perplexity ")[1].split()[0]) for progress in told]
    assert len(told) < 100
    assert perplexities.index(min(perplexities)) < len(told) - 2
    assert np.exp(-model.log_probs(data.valid).mean()) == pytest.approx(min(perplexities), abs=0.01)
    assert told[-1].done == told[-1].total == 100


def test_more_restarts_are_no_worse() -> None:
    data = toy_data(12)
    args = {"n_states": 5, "n_iterations": 6}
    one = hmm(12, **args).fit(data, seed=3)
    many = hmm(12, n_restarts=3, **args).fit(data, seed=3)
    assert many.log_probs(data.valid).mean() >= one.log_probs(data.valid).mean()


def resumable(batch_tokens: int | None) -> HiddenMarkovModel:
    return hmm(12, n_states=5, n_iterations=6, n_restarts=2, patience=9, batch_tokens=batch_tokens)


@cache
def uninterrupted(batch_tokens: int | None) -> dict[str, Any]:
    return resumable(batch_tokens).fit(toy_data(12), seed=3).arrays()


@pytest.mark.parametrize("batch_tokens", [None, 50])
@pytest.mark.parametrize("stop_after", [1, 6, 7, 11])
def test_resumes_bit_for_bit(stop_after: int, batch_tokens: int | None, tmp_path: Path) -> None:
    data = toy_data(12)
    model, expected = resumable(batch_tokens), uninterrupted(batch_tokens)

    def interrupt(progress: Progress) -> None:
        if progress.done == stop_after:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "checkpoint")
    with pytest.raises(KeyboardInterrupt):
        model.fit(data, seed=3, on_progress=interrupt, checkpoint=checkpoint)
    done: list[float] = []
    resumed = model.fit(data, seed=3, checkpoint=checkpoint, on_progress=lambda progress: done.append(progress.done))
    assert done[0] > stop_after
    for name, array in resumed.arrays().items():
        np.testing.assert_array_equal(array, expected[name])
    with pytest.raises(TrainingError, match="other data or settings"):
        model.fit(data, seed=4, checkpoint=checkpoint)


def test_on_line_learns_more_from_one_look() -> None:
    data = toy_data(30, n_documents=200)
    fits = [hmm(30, n_states=6, n_iterations=1, batch_tokens=batch).fit(data) for batch in (None, 100)]
    whole, on_line = (model.log_probs(data.valid).mean() for model in fits)
    assert on_line > whole + 0.01
    one_batch = hmm(30, n_states=6, n_iterations=1, batch_tokens=10**9).fit(data)
    assert one_batch.log_probs(data.valid).mean() == whole


@pytest.mark.parametrize("batch_tokens", [1, 7, 1000])
def test_batches_hold_all_of_the_text(batch_tokens: int) -> None:
    stream = random_stream(9, [0, 49, 7, 200, 8, 1, 15], seed=2)
    parts = baum_welch._parts(stream, batch_tokens)
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), stream.ids)
    assert all(part.ids[-1] == EOT for part in parts)
    assert len(parts) == {1: 7, 7: 5, 1000: 1}[batch_tokens]


def test_threads_change_nothing() -> None:
    data = toy_data(12)
    models = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads, user_api="blas"):
            models.append(hmm(12, n_states=4, n_iterations=4).fit(data).arrays())
    for name, array in models[0].items():
        np.testing.assert_array_equal(array, models[1][name])


def test_states_are_sorted_by_mass() -> None:
    masses = [state.mass for state in hmm(12, n_states=6, n_iterations=5).fit(toy_data(12)).state_table()]
    assert masses == sorted(masses, reverse=True)
    assert sum(masses) == pytest.approx(1)


def test_a_state_that_dies_comes_back_as_the_unigram() -> None:
    counts = Counts(0.0, np.array([5.0, 0]), np.array([[3.0, 0], [0, 0]]), np.array([[2.0, 0], [6, 0]]))
    parameters = maximise(counts, np.array([0.25, 0.75]), 1.0, 1.0)
    np.testing.assert_allclose(parameters.emissions[:, 1], [0.25, 0.75])
    np.testing.assert_allclose(parameters.transmat[1], [0.5, 0.5])
    assert all((array > 0).all() for array in parameters)


@pytest.mark.parametrize("ids", [[EOT], [1], [1, EOT], [1, 2, 3, EOT], [EOT, EOT, 1, EOT]])
def test_corpus_smaller_than_the_number_of_states(ids: list[int]) -> None:
    stream = TokenStream(np.array(ids))
    model = hmm(20, n_states=16, n_iterations=5).fit(TrainingData(stream, stream))
    for context in ([], [1], [19], [1, 2, 19, 19]):  # 19 was never seen
        distribution = model.predict_distribution(context)
        assert np.isfinite(distribution.log_probs).all()
    seen = model.predict_distribution([])
    assert seen.prob(ids[0]) > 2 * seen.prob(19)


@pytest.mark.slow
def test_brown_in_three_iterations_beats_hmmlearn_in_twenty() -> None:
    folder = Path(os.environ.get("LMZOO_DATA", "")) / "brown-by-sentence"
    if not (folder / "train.txt").is_file():
        pytest.skip("LMZOO_DATA does not hold brown-by-sentence")
    splits = [
        [line.split() for line in (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()]
        for name in ("train", "valid", "test")
    ]
    counts = Counter(word for line in splits[0] for word in line)
    token_ids = {word: token_id for token_id, word in enumerate(counts, start=1)}
    train, valid, test = (
        TokenStream.from_documents([token_ids.get(word, token_ids["[unk]"]) for word in line] for line in split)
        for split in splits
    )
    model = hmm(len(token_ids) + 1, n_states=32, n_iterations=3).fit(TrainingData(train, valid))
    assert np.exp(-model.log_probs(test).mean()) < 225  # hmmlearn, 32 states, 20 iterations: 259.9
