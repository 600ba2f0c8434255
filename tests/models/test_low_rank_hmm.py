"""Low-rank hidden Markov models: the same as exact ones with a product for their transitions; training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lmzoo.errors import ConfigurationError
from lmzoo.models import low_rank_hmm as species
from lmzoo.models.hmm import HiddenMarkovModel, hmm
from lmzoo.models.low_rank_hmm import LowRankHMM, low_rank_hmm
from lmzoo.neural.devices import autocast
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.next_token import Chunk, next_token
from lmzoo.stream import EOT, TokenStream
from lmzoo.testing import toy_data

V, K, R = 9, 12, 4
SHORT = {"tokens": 6000, "batch_size": 8, "chunk_size": 8, "learning_rate": 3e-2}


def random_model(seed: int = 0, **settings: Any) -> NeuralLM:
    model = low_rank_hmm(V, n_states=K, rank=R, d_embed=8, **settings)
    rng = np.random.default_rng(seed)
    arrays = {
        name: rng.normal(size=tuple(parameter.shape)).astype(np.float32)
        for name, parameter in model.fresh_network(0).named_parameters()
    }
    return model.load_arrays(arrays)


def exact(model: NeuralLM) -> HiddenMarkovModel:
    """The same model with its transitions multiplied out."""
    assert isinstance(model.network, LowRankHMM)
    with torch.no_grad():
        start, choices, states, emissions = (part.double().numpy() for part in model.network.probabilities())
    rows = {"startprob": start @ states, "transmat": choices @ states, "emissionprob": emissions.T}
    return hmm(V, n_states=K).load_arrays({name: row / row.sum(-1, keepdims=True) for name, row in rows.items()})


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_exact_model(seed: int) -> None:
    model, rng = random_model(seed), np.random.default_rng(seed)
    stream = TokenStream.from_documents(rng.integers(1, V, length) for length in (0, 1, 7, 300, 5))
    truth = exact(model)
    np.testing.assert_allclose(model.log_probs(stream), truth.log_probs(stream), rtol=0, atol=1e-5)
    for context in ([], [3], [1, 2, EOT, 5, 6]):
        np.testing.assert_allclose(
            model.predict_distribution(context).probs, truth.predict_distribution(context).probs, rtol=1e-4
        )


def test_the_loss_is_the_surprisal_and_its_gradient_is_right() -> None:
    network = random_model().network.double()
    rng = torch.Generator().manual_seed(0)
    inputs, targets = torch.randint(0, V, (2, 3, 6), generator=rng)
    state = tuple(part.double() for part in network.initial_state(3))  # what came before is given

    def loss() -> torch.Tensor:
        network.eval()  # forgets probabilities of other weights
        return next_token(network, Chunk(inputs, targets, at_start=False), state).total / targets.numel()

    for parameter in network.parameters():
        (gradient,) = torch.autograd.grad(loss(), parameter, allow_unused=True)
        direction = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
        with torch.no_grad():
            sides = []
            for sign in (1, -1):
                parameter += sign * 1e-5 * direction
                sides.append(loss())
                parameter -= sign * 1e-5 * direction
        found = 0.0 if gradient is None else float((gradient * direction).sum())
        assert found == pytest.approx(float(sides[0] - sides[1]) / 2e-5, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("slice_elements", [1, 3 * V, 1 << 19])  # one state at a time, three, all
def test_token_probabilities_and_their_gradients(slice_elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(species, "_SLICE_ELEMENTS", slice_elements)
    rng = torch.Generator().manual_seed(0)
    shapes = (V, 5), (V,), (K, 5)
    e, b, z = (torch.randn(shape, generator=rng, dtype=torch.float64, requires_grad=True) for shape in shapes)
    ids = torch.tensor([[0, 3, 3], [8, 0, 2]])  # some twice, some never
    weights = torch.randn(2, 2, 3, K, generator=rng, dtype=torch.float64)

    def gradients(read: torch.Tensor, scored: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad((weights[0] * read + weights[1] * scored.log()).sum(), (e, b, z))

    found, plain = species._TokenProbs.apply(e, b, z), (e @ z.T + b[:, None]).softmax(0)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=0)
    # Rows are looked up in two places, as the filter and the loss do.
    looked_up = gradients(species._emissions_of(found, ids), species._emissions_of(found, ids))
    torch.testing.assert_close(looked_up, gradients(plain[ids], plain[ids]), rtol=1e-10, atol=1e-12)


def test_under_autocast_only_products_with_tokens_are_rounded() -> None:
    network = random_model().network
    assert isinstance(network, LowRankHMM)
    ids, state = torch.randint(0, V, (3, 40), generator=torch.Generator().manual_seed(0)), network.initial_state(3)
    exact_emissions = network.probabilities().emissions.clone()
    network.eval()  # forgets them
    with torch.no_grad(), autocast(True):
        rounded = network.probabilities().emissions
        hidden, after = network(ids, state)
        loss = network.cross_entropy(hidden.flatten(0, 1), ids.flatten())
    assert not torch.equal(rounded, exact_emissions), "else this test shows nothing"
    torch.testing.assert_close(rounded, exact_emissions, rtol=0.2, atol=0)
    assert {tensor.dtype for tensor in (rounded, hidden, *after, loss)} == {torch.float32}
    with torch.no_grad():  # from the probabilities that are kept
        again, _ = network(ids, state)
        assert torch.equal(hidden, again)
        assert torch.equal(loss, network.cross_entropy(hidden.flatten(0, 1), ids.flatten()))


def test_state_dropout_is_for_training_alone() -> None:
    network = random_model(state_dropout=0.5).network
    assert isinstance(network, LowRankHMM)
    network.train()
    seen = set()
    for _ in range(4):
        start, choices, states, emissions = network.probabilities()
        assert (choices.shape, states.shape, emissions.shape) == ((K // 2, R), (R, K // 2), (V, K // 2))
        for rows in (start, choices, states, emissions.T):
            np.testing.assert_allclose(rows.detach().sum(-1), 1, rtol=1e-5)
        seen.add(tuple(emissions[0].tolist()))
    assert len(seen) == 4
    network.eval()
    assert network.probabilities().states.shape == (R, K)
    assert network.probabilities() is network.probabilities()


def test_learns() -> None:
    data = toy_data(12)
    model = low_rank_hmm(12, n_states=16, rank=8, d_embed=16, training=SHORT).fit(data)
    frequencies = np.bincount(data.train.ids, minlength=12) / len(data.train)
    entropy = -np.log(frequencies[data.valid.ids]).mean()
    assert -model.log_probs(data.valid).mean() < 0.9 * entropy


@pytest.mark.parametrize("wrong", [{"n_states": 0}, {"rank": 0}, {"d_embed": 0}, {"state_dropout": 1.5}])
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=name):
        low_rank_hmm(12, **wrong)
