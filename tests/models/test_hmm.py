"""Hidden Markov models: worked by hand, by enumeration of all paths, by hmmlearn; then Baum-Welch and its fits."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hmmlearn.hmm import CategoricalHMM
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare
from threadpoolctl import threadpool_limits

from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, SavedModelError, TrainingError
from lmzoo.language_model import Progress
from lmzoo.models.hmm import HiddenMarkovModel, baum_welch, from_hmmlearn, from_markov, hmm, inference
from lmzoo.models.hmm.baum_welch import log_prior, maximise
from lmzoo.models.hmm.inference import Counts, Parameters, expected_counts
from lmzoo.models.hmm.packing import PackedText
from lmzoo.models.markov import markov
from lmzoo.stream import EOT, TokenStream, TrainingData
from lmzoo.testing import toy_data


def model_of(startprob: Any, transmat: Any, emissionprob: Any) -> HiddenMarkovModel:
    rows = {"startprob": startprob, "transmat": transmat, "emissionprob": emissionprob}
    n_states, vocab_size = np.shape(emissionprob)
    return hmm(vocab_size, n_states=n_states).load_arrays({name: np.array(row, float) for name, row in rows.items()})


def random_model(n_states: int, vocab_size: int, seed: int) -> HiddenMarkovModel:
    rng = np.random.default_rng(seed)
    return model_of(
        rng.dirichlet(np.ones(n_states)),
        rng.dirichlet(np.full(n_states, 0.5), n_states),
        rng.dirichlet(np.full(vocab_size, 0.5), n_states),
    )


def parameters_of(model: HiddenMarkovModel) -> Parameters:
    return Parameters(model.startprob, model.transmat, np.ascontiguousarray(model.emissionprob.T))


def random_stream(vocab_size: int, lengths: list[int], seed: int) -> TokenStream:
    rng = np.random.default_rng(seed)
    return TokenStream.from_documents(rng.integers(1, vocab_size, length) for length in lengths)


def lengths_of(stream: TokenStream) -> NDArray[np.int64]:
    return stream.ends - stream.starts


# ---- Worked by hand ------------------------------------------------------------------------------

UMBRELLA, NORMAL, COLD, DIZZY = 1, 1, 2, 3


def test_forward_backward_worked_by_hand() -> None:
    """Rain or not, umbrella or not (Russell & Norvig, chapter 14): two days with an umbrella.

    Day 1: p = (.5, .5); with P(umbrella) = (.9, .2): c = .45 + .1 = .55; filtered (.45, .1) / .55 = (9/11, 2/11).
    Day 2: p = (.7 * 9/11 + .3 * 2/11, ...) = (69/110, 41/110); c = (.9 * 69 + .2 * 41) / 110 = 703/1100.
    Smoothing day 1: evidence of day 2 is (.7 * .9 + .3 * .2, .3 * .9 + .7 * .2) = (.69, .41), so the posterior is
        (9 * .69, 2 * .41) / (9 * .69 + 2 * .41) = (621, 82) / 703; day 2: (.9 * 69, .2 * 41) / 70.3 = (621, 82) / 703.
    """
    model = model_of([0.5, 0.5], [[0.7, 0.3], [0.3, 0.7]], [[0, 0.9, 0.1], [0, 0.2, 0.8]])
    days = [UMBRELLA, UMBRELLA]
    np.testing.assert_allclose(model.log_probs(days), np.log([0.55, 703 / 1100]), rtol=1e-12)
    np.testing.assert_allclose(model.posteriors(days), np.array([[621, 82], [621, 82]]) / 703, rtol=1e-12)
    after_one_day = np.array([0, 69 * 0.9 + 41 * 0.2, 69 * 0.1 + 41 * 0.8]) / 110
    np.testing.assert_allclose(model.predict_distribution([UMBRELLA]).probs, after_one_day, rtol=1e-7)


def test_viterbi_worked_by_hand() -> None:
    """Wikipedia's patient feels normal, cold, dizzy; was he healthy (H) or had he a fever (F)?

    normal: H .6 * .5 = .3, F .4 * .1 = .04.   cold: H .3 * .7 * .4 = .084, F .3 * .3 * .3 = .027.
    dizzy:  H .084 * .7 * .1 = .00588, F .084 * .3 * .6 = .01512. So the path is H H F.
    """
    model = model_of([0.6, 0.4], [[0.7, 0.3], [0.4, 0.6]], [[0, 0.5, 0.4, 0.1], [0, 0.1, 0.3, 0.6]])
    ids = np.array([NORMAL, COLD, DIZZY], np.int32)
    assert model.viterbi(ids).tolist() == [0, 0, 1]
    assert model.viterbi([*ids, EOT, NORMAL]).tolist() == [0, 0, 1, 0, 0]  # a document after another


def test_state_table_worked_by_hand() -> None:
    """State 0 emits token 1 and goes to state 1, which ends the document half of the time, else emits token 2 and goes
    on to 1. The walk between states, with new starts after ends: 0 -> 1; 1 -> 0 or 1 by halves. Balance: m0 = m1 / 2.
    """
    model = model_of([1, 0], [[0, 1], [0, 1]], [[0, 1, 0], [0.5, 0, 0.5]])
    first, second = model.state_table(2)
    assert (first.mass, second.mass) == pytest.approx((1 / 3, 2 / 3))
    assert (first.self_transition, second.self_transition) == (0, 1)
    assert (first.top, second.top) == ([(1, 1.0), (0, 0.0)], [(0, 0.5), (2, 0.5)])


# ---- All paths -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(n_states=st.integers(1, 3), length=st.integers(0, 4), seed=st.integers(0, 10**6))
def test_sums_over_all_paths(n_states: int, length: int, seed: int) -> None:
    model = random_model(n_states, 4, seed)
    stream = random_stream(4, [length], seed)
    ids, (start, transmat, emissions) = stream.ids, parameters_of(model)
    paths = list(itertools.product(range(n_states), repeat=len(ids)))
    joint = np.array(
        [
            start[path[0]]
            * np.prod([transmat[pair] for pair in itertools.pairwise(path)])
            * np.prod(emissions[ids, path])
            for path in paths
        ]
    )
    assert model.log_probs(stream).sum() == pytest.approx(np.log(joint.sum()), abs=1e-10)
    best = paths.index(tuple(model.viterbi(stream).tolist()))  # one of them, where several are as likely
    assert joint[best] == pytest.approx(joint.max(), rel=1e-12)

    weights = joint / joint.sum()
    posteriors, transitions = np.zeros((len(ids), n_states)), np.zeros((n_states, n_states))
    for path, weight in zip(paths, weights, strict=True):
        posteriors[np.arange(len(ids)), path] += weight
        for pair in itertools.pairwise(path):
            transitions[pair] += weight
    np.testing.assert_allclose(model.posteriors(stream), posteriors, atol=1e-12)
    counts = expected_counts(PackedText.of(stream, n_states), parameters_of(model))
    np.testing.assert_allclose(counts.transitions, transitions, atol=1e-12)
    np.testing.assert_allclose(counts.starts, posteriors[0], atol=1e-12)
    by_token = np.array([posteriors[ids == token_id].sum(axis=0) for token_id in range(4)])
    np.testing.assert_allclose(counts.emissions, by_token, atol=1e-12)


# ---- hmmlearn ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_states", "vocab_size"), [(1, 5), (3, 6), (8, 30), (20, 7)])
def test_equals_hmmlearn(n_states: int, vocab_size: int) -> None:
    model = random_model(n_states, vocab_size, seed=n_states)
    stream = random_stream(vocab_size, [0, 1, 5, 40, 300, 7], seed=1)
    theirs, symbols, lengths = model.to_hmmlearn(), stream.ids[:, None], lengths_of(stream)
    their_log_likelihood, their_posteriors = theirs.score_samples(symbols, lengths)
    assert model.log_probs(stream).sum() == pytest.approx(their_log_likelihood, abs=1e-8)
    np.testing.assert_allclose(model.posteriors(stream), their_posteriors, atol=1e-8)
    np.testing.assert_array_equal(model.viterbi(stream), theirs.decode(symbols, lengths)[1])

    counts = expected_counts(PackedText.of(stream, n_states), parameters_of(model))
    step = maximise(counts, np.full(vocab_size, 1 / vocab_size), 0, 0)  # hmmlearn's defaults are no priors
    theirs.set_params(init_params="", n_iter=1).fit(symbols, lengths)
    np.testing.assert_allclose(step.startprob, theirs.startprob_, atol=1e-8)
    np.testing.assert_allclose(step.transmat, theirs.transmat_, atol=1e-8)
    np.testing.assert_allclose(step.emissions.T, theirs.emissionprob_, atol=1e-8)


def test_to_hmmlearn_and_back() -> None:
    model = hmm(12, n_states=3, n_iterations=3).fit(toy_data(12))
    back = from_hmmlearn(model.to_hmmlearn())
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, back.arrays()[name])
    with pytest.raises(ConfigurationError, match="fit it first"):
        from_hmmlearn(CategoricalHMM(2))


def test_zeros_of_an_imported_model() -> None:
    theirs = CategoricalHMM(2, n_features=3)
    theirs.startprob_ = np.array([1.0, 0.0])
    theirs.transmat_ = np.array([[0.0, 1.0], [0.0, 0.0]])  # hmmlearn leaves zeros for a state that nothing follows
    theirs.emissionprob_ = np.array([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    model = from_hmmlearn(theirs)
    assert model.transmat[1].tolist() == [0.5, 0.5]
    # Token 2 is impossible: it leaves the belief as it was, and the walk goes on. Beliefs before each of the ids:
    # (1, 0); (0, 1); (1/2, 1/2), so P(1) = 3/4 and then (2/3, 1/3); (1/6, 5/6), so P(EOT) = 5/12; (1, 0); (0, 1).
    ids = [1, 2, 1, EOT, 2, EOT]
    log_probs = model.log_probs(ids)
    np.testing.assert_allclose(np.exp(log_probs), [1, 0, 3 / 4, 5 / 12, 0, 1 / 2], atol=1e-12)
    for position in range(len(ids)):
        prediction = model.predict_distribution(ids[:position])
        assert prediction.log_prob(ids[position]) == pytest.approx(log_probs[position])
    for found in (model.posteriors(ids), model.token_stats(ids).entropies, model.state_table(3)[0].mass):
        assert np.isfinite(found).all()
    np.testing.assert_allclose(model.posteriors(ids).sum(axis=1), 1)
    assert set(model.viterbi(ids)) <= {0, 1}


# ---- Logarithms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_states", [1, 3, 8])
def test_log_space_equals_the_scaled_form(n_states: int) -> None:
    model = random_model(n_states, 6, seed=n_states)
    document = random_stream(6, [60], seed=1).ids
    found = model.smooth_in_log_space(document)
    np.testing.assert_allclose(found.log_probs, model.log_probs(document), atol=1e-10)
    np.testing.assert_allclose(np.exp(found.log_posteriors), model.posteriors(document), atol=1e-10)


def test_log_space_finds_what_scaling_loses() -> None:
    """Twice token 1, which state 1 emits with 1e-200, then token 2, which only state 1 emits, half of the time.

    log P = log(1/2) + 2 log(1e-200) + log(1/2), all of it in state 1.
    """
    tiny = 1e-200
    model = model_of([0.5, 0.5], np.eye(2), [[0, 1, 0], [0.5 - tiny, tiny, 0.5]])
    found = model.smooth_in_log_space([1, 1, 2])
    assert found.log_probs.sum() == pytest.approx(2 * np.log(0.5) + 2 * np.log(tiny))
    np.testing.assert_allclose(np.exp(found.log_posteriors), [[0, 1]] * 3)
    assert model.log_probs([1, 1, 2])[2] == -np.inf  # lost
    impossible = model.smooth_in_log_space([2, 1, 1, 0]).log_probs
    assert np.isfinite(impossible).all()


def test_a_markov_chain_is_one_with_nothing_hidden() -> None:
    data = toy_data(12)
    chain = markov(12).fit(data)
    same = from_markov(chain)
    np.testing.assert_allclose(same.log_probs(data.valid), chain.log_probs(data.valid), atol=1e-9)
    beliefs = same.posteriors(data.valid)
    np.testing.assert_allclose(beliefs[np.arange(len(data.valid)), data.valid.ids], 1)
    # The belief of a model whose states share tokens remembers more than the last one.
    hidden = hmm(12, n_states=4, n_iterations=4).fit(data)
    assert not np.allclose(hidden.predict_distribution([1, 2]).probs, hidden.predict_distribution([3, 2]).probs)
    with pytest.raises(ConfigurationError, match="sees all of the document"):
        from_markov(hidden)


# ---- Long documents are cut ----------------------------------------------------------------------


@pytest.mark.parametrize(("longest", "block"), [(1, 1), (3, 3), (20, 8), (50, 50)])
@pytest.mark.parametrize("forgets", [True, False])
def test_cutting_long_documents_changes_nothing(longest: int, block: int, forgets: bool) -> None:
    stream = random_stream(6, [0, 49, 7, 200, 8, 1, 15], seed=2)
    parameters = parameters_of(random_model(5, 6, seed=3))
    if not forgets:  # a cycle: the belief at a cut depends on where the document started, however far that is
        parameters = parameters._replace(transmat=np.roll(np.eye(5), 1, axis=1), startprob=np.eye(5)[1] * 0.96 + 0.008)
    whole, cut = PackedText.of(stream, 5), PackedText.of(stream, 5, longest, block)
    assert (whole.n_cuts, cut.n_cuts > 0) == (0, True)
    for found, expected in zip(expected_counts(cut, parameters), expected_counts(whole, parameters), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    for question in (inference.likelihoods, inference.posteriors):
        np.testing.assert_allclose(question(cut, parameters), question(whole, parameters), rtol=1e-9, atol=1e-12)


def test_float32_is_close() -> None:
    stream = random_stream(40, [3000, 10, 20000], seed=4)
    parameters, text = parameters_of(random_model(16, 40, seed=4)), PackedText.of(stream, 16)
    assert text.n_cuts > 0
    for found, expected in zip(
        expected_counts(text, parameters.astype(np.float32)), expected_counts(text, parameters), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_one_long_document() -> None:
    model, ids = random_model(6, 9, seed=5), random_stream(9, [10_000], seed=5).ids
    state, walked = model.initial_state(), []
    for token_id in ids.tolist():
        walked.append(model.next_log_probs(state)[token_id])
        state = model.advance(state, token_id)
    np.testing.assert_allclose(model.log_probs(ids), walked, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.token_stats(ids).log_probs, walked, rtol=0, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_batches_hold_every_position_once(lengths: list[int], longest: int, block: int, is_open: bool) -> None:
    stream = random_stream(9, lengths, seed=0)
    if is_open:
        stream = TokenStream(stream.ids[:-1])
    text = PackedText.of(stream, 2, longest, block)
    positions = np.concatenate([np.empty(0, int), *(batch.positions for batch in text.batches)])
    assert sorted(positions) == list(range(len(stream)))
    for batch in text.batches:
        np.testing.assert_array_equal(stream.ids[batch.positions], batch.tokens)
        token_ids, by_token = batch.by_token
        np.testing.assert_array_equal(by_token @ np.ones(len(batch.tokens)), np.bincount(batch.tokens)[token_ids])


# ---- Baum-Welch ----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
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
    """An M-step that mixes up the tokens at its third call."""

    def __init__(self, maximise: Any) -> None:
        self.maximise, self.n_calls = maximise, 0

    def __call__(self, counts: Counts, *priors: Any) -> Parameters:
        self.n_calls += 1
        if self.n_calls == 3:
            counts = counts._replace(emissions=np.roll(counts.emissions, 1, axis=0))
        return self.maximise(counts, *priors)


def test_finds_a_known_source() -> None:
    """Two states that seldom change, and hardly share words: the fit must predict nearly as well as the truth."""
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


@pytest.mark.parametrize("batch_tokens", [None, 50])
@pytest.mark.parametrize("stop_after", [1, 5, 6, 7, 11])
def test_resumes_bit_for_bit(stop_after: int, batch_tokens: int | None, tmp_path: Path) -> None:
    data = toy_data(12)
    model = hmm(12, n_states=5, n_iterations=6, n_restarts=2, patience=9, batch_tokens=batch_tokens)
    expected = model.fit(data, seed=3).arrays()

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


def test_sampled_documents_follow_the_prediction() -> None:
    model, rng = random_model(4, 5, seed=8), np.random.default_rng(0)
    documents = [model.sample_document(rng, max_tokens=50) for _ in range(2000)]
    first = np.bincount([ids[0] for ids, _ in documents], minlength=5)
    assert chisquare(first, model.predict_distribution().probs * 2000).pvalue > 1e-4
    starts = np.bincount([path[0] for _, path in documents], minlength=4)
    assert chisquare(starts, model.startprob * 2000).pvalue > 1e-4
    for ids, path in documents:
        assert len(ids) == len(path) <= 50
        assert (ids[:-1] != EOT).all()
        assert ids[-1] == EOT or len(ids) == 50


# ---- Wrong settings, damaged files ---------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_states": 0}, {"n_iterations": 0}, {"n_restarts": -1}, {"patience": 0}, {"emission_prior": 0},
        {"transition_prior": float("nan")}, {"emission_prior": float("inf")}, {"tolerance": -1},
        {"batch_tokens": 0},
    ],
)  # fmt: skip
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=name):
        hmm(12, **wrong)


def test_arrays_that_are_not_probabilities() -> None:
    arrays = random_model(3, 5, seed=9).arrays()
    for name, factor in itertools.product(arrays, (-1, 0.9)):
        with pytest.raises(SavedModelError, match=name):
            hmm(5, n_states=3).load_arrays({**arrays, name: factor * arrays[name]})


# ---- Real text -----------------------------------------------------------------------------------


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
