"""Hidden Markov models: worked by hand, by enumeration of all paths, and against hmmlearn."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hmm_models import lengths_of, model_of, parameters_of, random_model, random_stream
from hmmlearn.hmm import GMMHMM, CategoricalHMM, GaussianHMM, MultinomialHMM, PoissonHMM
from hmmlearn.vhmm import VariationalCategoricalHMM
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from lmzoo.errors import ConfigurationError, SavedModelError
from lmzoo.models.hmm import from_hmmlearn, from_markov, hmm, inference
from lmzoo.models.hmm.baum_welch import maximise
from lmzoo.models.hmm.inference import expected_counts
from lmzoo.models.hmm.packing import PackedText
from lmzoo.models.markov import markov
from lmzoo.stream import EOT, TokenStream
from lmzoo.testing import toy_data

# ---- Worked by hand ------------------------------------------------------------------------------

UMBRELLA, NORMAL, COLD, DIZZY = 1, 1, 2, 3


def test_forward_backward_worked_by_hand() -> None:
    """Filters and smooths two days with an umbrella in the rain model of Russell & Norvig, chapter 14.

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
    """Decodes Wikipedia's example: a patient feels normal, cold, dizzy, and is healthy (H) or has a fever (F).

    normal: H .6 * .5 = .3, F .4 * .1 = .04.   cold: H .3 * .7 * .4 = .084, F .3 * .3 * .3 = .027.
    dizzy:  H .084 * .7 * .1 = .00588, F .084 * .3 * .6 = .01512. So the path is H H F.
    """
    model = model_of([0.6, 0.4], [[0.7, 0.3], [0.4, 0.6]], [[0, 0.5, 0.4, 0.1], [0, 0.1, 0.3, 0.6]])
    ids = np.array([NORMAL, COLD, DIZZY], np.int32)
    assert model.viterbi(ids).tolist() == [0, 0, 1]
    assert model.viterbi([*ids, EOT, NORMAL]).tolist() == [0, 0, 1, 0, 0]  # a document after another


def test_state_table_worked_by_hand() -> None:
    """Summarises a model in which state 0 emits token 1, and state 1 emits EOT or token 2 with probability 1/2 each.

    State 0 is followed by state 1. State 1 is followed by state 1 after token 2, and by state 0 after EOT, so that the
    fractions m of tokens satisfy m0 = m1 / 2.
    """
    model = model_of([1, 0], [[0, 1], [0, 1]], [[0, 1, 0], [0.5, 0, 0.5]])
    first, second = model.state_table(2)
    assert (first.mass, second.mass) == pytest.approx((1 / 3, 2 / 3))
    assert (first.self_transition, second.self_transition) == (0, 1)
    assert (first.top, second.top) == ([(1, 1.0), (0, 0.0)], [(0, 0.5), (2, 0.5)])


# ---- All paths -----------------------------------------------------------------------------------


@settings(max_examples=25)
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
    model = from_hmmlearn(theirs, end_symbol=0)
    assert model.transmat[1].tolist() == [0.5, 0.5]
    # Token 2 is impossible and leaves the state distribution unchanged. Distributions before each of the ids:
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


@pytest.fixture
def symbols_model() -> CategoricalHMM:
    """Returns a model of hmmlearn in which 0 is a symbol like the others."""
    model = CategoricalHMM(2)
    model.startprob_ = np.array([0.6, 0.4])
    model.transmat_ = np.array([[0.7, 0.3], [0.4, 0.6]])
    model.emissionprob_ = np.array([[0.5, 0.4, 0.1], [0.1, 0.3, 0.6]])
    return model


def test_symbol_0_of_hmmlearn_may_be_a_symbol_like_others(symbols_model: CategoricalHMM) -> None:
    symbols = np.array([0, 2, 0, 1, 2])
    with pytest.raises(ConfigurationError, match=r"end_symbol='unknown': give the symbol .* from 0 to 2, or None"):
        from_hmmlearn(symbols_model)
    expected = symbols_model.score(symbols[:, None])
    model = from_hmmlearn(symbols_model, end_symbol=None)
    assert model.vocab_size == 4
    assert model.log_probs(symbols + 1).sum() == pytest.approx(expected, abs=1e-10)
    assert np.isneginf(model.log_probs([1, EOT])[1])
    ends = from_hmmlearn(symbols_model, end_symbol=2)  # each sequence ends with a 2
    found = ends.log_probs([2, EOT, 2, 1, EOT])
    scores = [symbols_model.score(np.array(part)[:, None]) for part in ([0, 2], [0, 1, 2])]
    assert found.sum() == pytest.approx(sum(scores), abs=1e-10)
    for wrong in (3, -1, True, 1.0, "0"):
        with pytest.raises(ConfigurationError, match="from 0 to 2, or None"):
            from_hmmlearn(symbols_model, end_symbol=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [GaussianHMM, PoissonHMM, GMMHMM, MultinomialHMM, VariationalCategoricalHMM])
def test_other_models_of_hmmlearn_are_named(kind: type[Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"only a CategoricalHMM, .* this is a {kind.__name__}"):
        from_hmmlearn(kind(2), end_symbol=0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("emissionprob_", [], r"shape \(0,\), not 2 x n_features"),
        ("emissionprob_", [[], []], "must be probabilities"),
        ("emissionprob_", [[0.5, 0.5], [1.0]], "is not an array of numbers"),
        ("emissionprob_", "ab", "is not an array of numbers"),
        ("emissionprob_", [[1.0, 0, 0]], r"shape \(1, 3\), not 2 x"),
        ("startprob_", [np.nan, 1.0], "must be probabilities"),
        ("startprob_", [0.5, 0.25, 0.25], r"shape \(3,\), not 2"),
        ("startprob_", [1.5, -0.5], "must be probabilities"),
        ("transmat_", [[0.7, 0.2], [0.4, 0.6]], "must be probabilities that sum to 1"),
        ("transmat_", None, "is not an array of numbers|has shape"),
    ],
)
def test_arrays_of_hmmlearn_that_are_no_probabilities(
    name: str, value: Any, message: str, symbols_model: CategoricalHMM
) -> None:
    setattr(symbols_model, name, value)
    with pytest.raises(ConfigurationError, match=f"the .*attribute {name}.*{message}"):
        from_hmmlearn(symbols_model, end_symbol=0)


def test_sums_within_the_tolerance_of_hmmlearn_are_read(symbols_model: CategoricalHMM) -> None:
    symbols_model.startprob_ = symbols_model.startprob_ * (1 + 8e-6)
    symbols_model.score(np.array([[0], [1]]))  # hmmlearn accepts these sums
    assert from_hmmlearn(symbols_model, end_symbol=0).startprob.sum() == pytest.approx(1, abs=1e-12)


# ---- Logarithms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_states", [1, 3, 8])
def test_log_space_equals_the_scaled_form(n_states: int) -> None:
    model = random_model(n_states, 6, seed=n_states)
    document = random_stream(6, [60], seed=1).ids
    found = model.smooth_in_log_space(document)
    np.testing.assert_allclose(found.log_probs, model.log_probs(document), atol=1e-10)
    np.testing.assert_allclose(np.exp(found.log_posteriors), model.posteriors(document), atol=1e-10)


def test_log_space_finds_what_scaling_loses() -> None:
    """Smooths a document whose three tokens have the probabilities 1e-200, 1e-200 and 1/2 in state 1.

    State 0 cannot emit the last token.

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
    posteriors = same.posteriors(data.valid)
    np.testing.assert_allclose(posteriors[np.arange(len(data.valid)), data.valid.ids], 1)
    # If states share tokens, the state distribution depends on more than the last token.
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
    if not forgets:  # a cycle: the distribution at a cut depends on the distance from the document's start
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


@settings(max_examples=30)
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


# ---- Sampling -------------------------------------------------------------------------------------


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
        {"n_states": 0}, {"n_states": 10**9}, {"n_iterations": 0}, {"n_restarts": -1}, {"patience": 0},
        {"emission_prior": 0}, {"transition_prior": float("nan")}, {"emission_prior": float("inf")}, {"tolerance": -1},
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
