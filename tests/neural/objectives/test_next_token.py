"""The next-token objective with weights: a mean over the weighted targets only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_networks import V, network_of
from torch import Tensor

from lmzoo.neural.objectives.next_token import Chunk, next_token
from lmzoo.neural.objectives.objective import Objective
from lmzoo.neural.objectives.sampled import SampledSoftmax

SPECIES = ["nplm", "lstm", "transformer", "gpt2", "low-rank-hmm"]


def chunk(weights: Tensor | None = None) -> Chunk:
    ids = torch.randint(1, V, (2, 7), generator=torch.Generator().manual_seed(1))
    return Chunk(ids[:, :-1], ids[:, 1:], weights=weights)


@pytest.mark.parametrize("species", SPECIES)
def test_weighted_sum_equals_the_sum_over_single_targets(species: str) -> None:
    network = network_of(species)
    weights = torch.tensor([[0, 1, 0, 0.5, 0, 2], [0, 0, 0, 0, 0, 0.25]])
    step = next_token(network, chunk(weights), ())
    with torch.no_grad():
        hidden, _ = network(chunk().inputs, network.initial_state(2))
        nats = -network.logits(hidden).log_softmax(-1).gather(2, chunk().targets[:, :, None])[:, :, 0]
    assert step.total.item() == pytest.approx((nats * weights).sum().item(), rel=1e-5)
    assert float(step.weight) == 3.75


@pytest.mark.parametrize(
    ("species", "settings"),
    [("rnn", {"maxent_order": 2, "maxent_size": 64}), ("log-bilinear", {"output": "tree"})],
)
def test_weighted_sum_is_exact_in_mixed_precision(species: str, settings: dict[str, Any]) -> None:
    network = network_of(species, **settings)
    weights = torch.rand(2, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        total = next_token(network, chunk(weights), ()).total
        hidden, _ = network(chunk().inputs, network.initial_state(2))
        nats = network.surprisals(hidden.flatten(0, 1), chunk().targets.flatten())
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, (nats * weights.flatten()).sum(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("species", SPECIES)
def test_weights_of_one_change_nothing(species: str) -> None:
    network = network_of(species)
    gradients = []
    for weights in (None, torch.ones(2, 6)):
        network.train().zero_grad()
        step = next_token(network, chunk(weights), ())
        assert float(step.weight) == 12
        step.total.backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, weighted in zip(*gradients, strict=True):
        assert plain is not None
        torch.testing.assert_close(weighted, plain)


@pytest.mark.parametrize("species", SPECIES)
def test_a_chunk_without_weight_has_a_gradient_of_zero(species: str) -> None:
    network = network_of(species)
    objectives: list[Objective] = [next_token]
    if species != "low-rank-hmm":
        objectives.append(SampledSoftmax(torch.full((V,), 1 / V), 4))
    for objective in objectives:
        network.train().zero_grad()
        step = objective(network, chunk(torch.zeros(2, 6)), ())
        step.total.backward()
        assert step.total.item() == float(step.weight) == 0
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name


def test_sampled_softmax_learns_only_the_weighted_targets() -> None:
    """With as many samples as make the estimate exact, a single weighted target gives its own loss."""
    network = network_of("nplm")
    weights = torch.zeros(2, 6)
    weights[1, 3] = 2
    ids = chunk()
    torch.manual_seed(0)
    step = SampledSoftmax(torch.full((V,), 1 / V), 200_000)(network, chunk(weights), ())
    exact = next_token(network, ids._replace(weights=weights), ())
    assert float(step.weight) == float(exact.weight) == 2
    assert step.total.item() == pytest.approx(exact.total.item(), abs=0.02)
