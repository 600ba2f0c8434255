"""Mixtures with gated weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lmzoo.evaluation import gate
from lmzoo.evaluation.gate import FeatureScaling, ModelScores, learn_gate
from lmzoo.models.mixing import learn_weights


def sampled(n_tokens: int, n_models: int = 3, seed: int = 0) -> ModelScores:
    """Scores of models whose entropy tells whether they predict the next token well."""
    rng = np.random.default_rng(seed)
    entropies = rng.gamma(2, size=(n_models, n_tokens))
    log_probs = -entropies * rng.uniform(0.5, 1.5, entropies.shape)
    starts = np.arange(0, n_tokens, 50)
    return ModelScores(log_probs, entropies, -entropies / 2, starts)


def mean_loss(scores: ModelScores, log_weights: NDArray[np.float64]) -> float:
    """The mean surprisal of the tokens under a mixture, by torch."""
    return -float(torch.logsumexp(torch.from_numpy(scores.log_probs + log_weights), 0).mean())


def test_gradient_and_solution_agree_with_torch() -> None:
    """Automatic differentiation gives the same gradient, and an optimiser of torch finds no better gate."""
    scores = sampled(2000)
    inputs, probs = gate._possible(scores, FeatureScaling.learn(scores))
    start = np.random.default_rng(1).normal(size=(3, len(inputs))) / 10
    matrix = torch.tensor(start, requires_grad=True)
    given, odds = torch.from_numpy(inputs).double(), torch.from_numpy(probs).double()

    def surprisal() -> torch.Tensor:
        return -(torch.softmax(matrix @ given, 0) * odds).sum(0).log().sum()

    expected = surprisal()
    expected.backward()
    loss, gradient = gate._loss(start, inputs, probs)
    assert matrix.grad is not None
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, matrix.grad.numpy(), atol=2e-3)

    optimizer = torch.optim.LBFGS([matrix], max_iter=500, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def penalised() -> torch.Tensor:
        optimizer.zero_grad()
        total = surprisal() + 10 / 2 * (matrix[:, :-1] ** 2).sum()
        total.backward()
        return total

    optimizer.step(penalised)
    fitted = gate._fit(inputs, probs, np.zeros_like(start), 10)
    found = gate._loss(fitted, inputs, probs)[0] + 10 / 2 * (fitted[:, :-1] ** 2).sum()
    assert found == pytest.approx(penalised().item(), rel=2e-4)


def test_a_gate_trusts_the_models_that_are_certain_for_good_reasons() -> None:
    valid, test = sampled(20_000), sampled(20_000, seed=1)
    weights = learn_weights(valid.log_probs.T)
    gated = learn_gate(valid, weights).log_weights(test)
    np.testing.assert_allclose(np.exp(gated).sum(axis=0), 1)
    assert mean_loss(test, gated) < mean_loss(test, np.log(weights)[:, None]) - 0.1


def test_without_anything_to_learn_the_weights_stay_constant() -> None:
    """If the features say nothing about the next token, the loss is that of constant weights, also on little text."""
    rng = np.random.default_rng(0)

    def random_scores(n_tokens: int) -> ModelScores:
        return ModelScores(*-rng.gamma(2, size=(3, 3, n_tokens)), np.array([0]))

    valid, test = random_scores(1000), random_scores(20_000)
    weights = learn_weights(valid.log_probs.T)
    gated = learn_gate(valid, weights).log_weights(test)
    assert mean_loss(test, gated) == pytest.approx(mean_loss(test, np.log(weights)[:, None]), abs=0.005)


def test_weights_do_not_depend_on_the_token_itself_nor_on_other_documents() -> None:
    scores = sampled(1000)
    learned = learn_gate(scores, np.full(3, 1 / 3))
    before = learned.log_weights(scores)
    changed = scores.log_probs.copy()
    changed[0, 120] -= 3  # in the document of the positions 100 to 149
    after = learned.log_weights(ModelScores(changed, scores.entropies, scores.top_log_probs, scores.starts))
    (moved,) = np.nonzero(np.abs(after - before).max(axis=0) > 1e-9)
    np.testing.assert_array_equal(moved, np.arange(121, 150))


def test_recent_success_by_hand() -> None:
    """Decaying means are computed again with a loop over the tokens of two documents."""
    scores = ModelScores(
        np.log([[0.6, 0.2, 0.6], [0.2, 0.6, 0.6]]), np.zeros((2, 3)), np.zeros((2, 3)), np.array([0, 2])
    )
    np.testing.assert_allclose(scores.relative_log_probs()[:, 0], np.log([0.75, 0.25]))
    features = gate._features(scores, np.zeros(2))
    assert features.shape == (12, 3)
    recent = features[4:].reshape(4, 2, 3)
    np.testing.assert_allclose(recent[:, :, [0, 2]], 0, err_msg="nothing is known at the start of a document")
    for decay, means in zip((0, 0.8, 0.95, 0.99), recent, strict=True):
        np.testing.assert_allclose(means[:, 1], (1 - decay) * np.log([0.75, 0.25]), rtol=1e-5)


def test_a_gate_without_one_model_is_that_of_the_others() -> None:
    scores = sampled(4000)
    whole = learn_gate(scores, np.full(3, 1 / 3))
    others = scores.without(1)
    inputs, probs = gate._possible(others, FeatureScaling.learn(others))
    afresh = gate._fit(inputs, probs, np.zeros((2, len(inputs))), whole.penalty)
    reduced = whole.without(scores, 1)
    assert mean_loss(others, reduced.log_weights(others)) == pytest.approx(gate_loss(afresh, inputs, others), abs=1e-3)


def gate_loss(matrix: NDArray[np.float64], inputs: NDArray[np.float32], scores: ModelScores) -> float:
    """The mean surprisal of the tokens under a gated mixture, from the matrix of the gate."""
    return mean_loss(scores, torch.log_softmax(torch.from_numpy(matrix @ inputs), 0).numpy())


def test_tokens_that_no_model_can_predict_are_left_out() -> None:
    scores = sampled(500)
    scores.log_probs[:, 10] = -math.inf
    scores.log_probs[0, 20] = -math.inf
    learned = learn_gate(scores, np.full(3, 1 / 3))
    assert np.isfinite(learned.log_weights(scores)).all()
