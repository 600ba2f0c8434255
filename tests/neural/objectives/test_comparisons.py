"""Rewards and DPO: hand values, K-way rankings, and that both learn what was preferred."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_networks import SETTINGS, V, model_of, network_of
from torch import nn

from lmzoo.errors import ConfigurationError
from lmzoo.neural.network import Network
from lmzoo.neural.objectives.comparisons import ComparisonBatches, ranking_pairs
from lmzoo.neural.objectives.dpo import dpo_loss, dpo_objective, reply_log_probs
from lmzoo.neural.objectives.objective import Objective, Step
from lmzoo.neural.objectives.reward import (
    bradley_terry,
    normalise_rewards,
    reward_network,
    reward_objective,
    rewards,
)
from lmzoo.neural.objectives.sequences import Rows
from lmzoo.neural.training.batches import Batches
from lmzoo.neural.training.loop import Training
from lmzoo.neural.training.settings import TrainConfig

CPU = torch.device("cpu")
HEADED = [species for species in SETTINGS if species != "low-rank-hmm"]


def sequences(n: int = 40, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Prompts of two ids, followed by replies of one to five ids, which have weight 1."""
    rng = np.random.default_rng(seed)
    replies = [rng.integers(1, V, rng.integers(1, 6)).tolist() for _ in range(n)]
    return [([1 + row % 3, 4, *reply], [0, 0, *(1 for _ in reply)]) for row, reply in enumerate(replies)]


# ---- The losses ------------------------------------------------------------------------------------


def test_bradley_terry_by_hand() -> None:
    """log(1 + exp(-margin)): log 2, log(1 + 1/e), log(1 + 1/e^2), log(1 + e)."""
    losses = bradley_terry(torch.tensor([3.0, 1, 0, -1]), torch.tensor([3.0, 0, -2, 0]))
    np.testing.assert_allclose(losses, [0.693147, 0.313262, 0.126928, 1.313262], rtol=0, atol=1e-6)


def test_a_ranking_of_three_by_hand() -> None:
    """Rewards 2, 1, 0 in the right order: (2 log(1 + 1/e) + log(1 + 1/e^2)) / 3 = (0.626523 + 0.126928) / 3."""
    pairs = ranking_pairs([[0], [1], [2]])
    assert pairs == [(0, 1), (0, 2), (1, 2)]
    of_replies = torch.tensor([2.0, 1, 0])
    chosen, rejected = (of_replies[[pair[side] for pair in pairs]] for side in (0, 1))
    assert bradley_terry(chosen, rejected).mean().item() == pytest.approx(0.251150, abs=1e-6)


def test_dpo_by_hand() -> None:
    """The margin is (-1 + 1.5) - (-2 + 1.2) = 1.3, and the loss log(1 + exp(-1.3 beta)).

    Its gradient with respect to log p(chosen) is -beta sigmoid(-1.3 beta), where sigmoid(-0.13) = 0.467546.
    """
    chosen = torch.tensor([-1.0], requires_grad=True)
    others = [torch.tensor([value]) for value in (-2.0, -1.5, -1.2)]
    losses = [dpo_loss(chosen, *others, beta=beta) for beta in (0.1, 0.5)]
    assert [loss.item() for loss in losses] == pytest.approx([0.630258, 0.420055], abs=1e-6)
    losses[0].backward()
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.1 * 0.467546, abs=1e-7)
    same = torch.tensor([-3.0]), torch.tensor([-7.0])
    for beta in (0.1, 5.0):
        assert dpo_loss(*same, *same, beta=beta).item() == pytest.approx(0.693147, abs=1e-6)


# ---- Batches ---------------------------------------------------------------------------------------

RANKINGS = [[[0], [1]], [[4], [2, 3]], [[7], [6], [5]], [[8, 9], [10]], [[12], [11], [13], [14]]]


def test_each_ranking_has_weight_one_and_ties_are_not_compared() -> None:
    batches = ComparisonBatches(sequences(), RANKINGS, n_rankings=5, seed=0)
    batch = batches.batch(0, network_of("nplm"))
    compared = set(zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True))
    assert len(compared) == len(batch.chosen) == 1 + 2 + 3 + 2 + 6
    assert len(batch.rows.inputs) == 15, "each sequence is read once"
    assert batch.weights.sum().item() == pytest.approx(5)
    assert sorted(set(batch.weights.tolist())) == pytest.approx([1 / 6, 1 / 3, 1 / 2, 1])
    assert batches.n_tokens(batch) == sum(len(ids) + 1 for ids, _ in sequences()[:15])


def test_every_epoch_has_each_ranking_once() -> None:
    network, marked = (
        network_of("nplm"),
        [([1 + row % 10] * (1 + row // 10), [1] * (1 + row // 10)) for row in range(16)],
    )
    rankings = [[[2 * row], [2 * row + 1]] for row in range(8)]

    def chosen_sequences(first: int, n_steps: int) -> list[list[tuple[int, ...]]]:
        batches = ComparisonBatches(marked, rankings, n_rankings=4, seed=3)
        steps = [batches.batch(step, network) for step in range(first, first + n_steps)]
        return [sorted(tuple(ids for ids in row if ids) for row in b.rows.inputs[b.chosen].tolist()) for b in steps]

    epochs = [[one for step in chosen_sequences(2 * epoch, 2) for one in step] for epoch in range(3)]
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 8 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3, "in another order"


def test_unusable_rankings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="ranking 1 has no comparison"):
        ComparisonBatches(sequences(), [[[0], [1]], [[2, 3]]], n_rankings=1, seed=0)
    with pytest.raises(ConfigurationError, match="no rankings"):
        ComparisonBatches(sequences(), [], n_rankings=1, seed=0)
    with pytest.raises(ConfigurationError, match=r"n_rankings .* got 0"):
        ComparisonBatches(sequences(), RANKINGS, n_rankings=0, seed=0)


# ---- The reward network ----------------------------------------------------------------------------


@pytest.mark.parametrize("species", HEADED)
def test_a_reward_network_gives_one_number(species: str) -> None:
    network = network_of(species)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    model = reward_network(network)
    rows = Rows.of(sequences(5), CPU)
    assert rewards(model, rows).tolist() == [0] * 5
    hidden = model.read_rows(rows.inputs)
    assert model.logits(hidden).shape == (*hidden.shape[:2], 1)
    grouped = [id(parameter) for group in model.parameter_groups() for parameter in group]
    assert sorted(grouped) == sorted(map(id, model.parameters()))
    assert not any(parameter is model.head.weight for parameter in model.parameter_groups().hidden_matrices)
    nn.init.ones_(model.head.weight)
    rewards(model, rows).sum().backward()
    for parameter in (model.head.weight, next(model.parameters())):
        assert parameter.grad is not None
        assert parameter.grad.any()
    assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())
    assert network.vocab_size == V


def test_a_network_without_a_linear_output_has_no_reward() -> None:
    with pytest.raises(ConfigurationError, match="linear output layer"):
        reward_network(network_of("low-rank-hmm"))


def test_rewards_are_read_at_the_last_id_before_an_eot() -> None:
    model = reward_network(network_of("lstm"))
    nn.init.normal_(model.head.weight)
    with torch.no_grad():
        ended, open_end, other = rewards(model, Rows.of([([3, 4, 0], [1] * 3), ([3, 4], [1] * 2), ([3], [1])], CPU))
    assert ended == open_end != other


def test_normalised_rewards_have_mean_zero_and_deviation_one() -> None:
    model = reward_network(network_of("transformer"))
    nn.init.normal_(model.head.weight)
    rows = Rows.of(sequences(30), CPU)
    with torch.no_grad():
        before = rewards(model, rows)
        normalise_rewards(model, before)
        after = rewards(model, rows)
    assert after.mean().item() == pytest.approx(0, abs=1e-5)
    assert after.std().item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(after.argsort(), before.argsort())
    for wrong in (torch.tensor([2.0]), torch.tensor([2.0, 2.0])):
        with pytest.raises(ConfigurationError, match="only if they differ"):
            normalise_rewards(model, wrong)


# ---- Learning --------------------------------------------------------------------------------------


def preferred() -> ComparisonBatches:
    """Rankings of three texts by the number of times that they contain the id 5, where they differ."""
    candidates, rankings = sequences(300), []
    for first in range(0, 300, 3):
        counts = {row: candidates[row][0].count(5) for row in range(first, first + 3)}
        levels = [[row for row in counts if counts[row] == count] for count in sorted(set(counts.values()))[::-1]]
        if len(levels) > 1:
            rankings.append(levels)
    log_probs = reply_log_probs(network_of("lstm"), candidates, bf16=False)  # as in training
    return ComparisonBatches(candidates, rankings, n_rankings=16, seed=0, reference_log_probs=log_probs)


def learn(network: Network, batches: Batches[Any], objective: Objective) -> list[dict[str, float]]:
    """Trains a network, and returns the measures of all steps."""
    measures: list[dict[str, float]] = []

    def recorded(*arguments: Any) -> Step:
        step = objective(*arguments)
        measures.append({**step.measures, "loss": (step.total / step.weight).item()})
        return step

    config = TrainConfig(tokens=60_000, learning_rate=0.02, bf16=False)
    Training(
        network, batches, config, objective=recorded, evaluate=None, seed=0
    ).run()  # fmt: skip
    return measures


def test_a_reward_network_learns_what_was_preferred() -> None:
    network = reward_network(network_of("lstm"))
    measures = learn(network, preferred(), reward_objective)
    assert measures[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert np.mean([step["accuracy"] for step in measures[-10:]]) > 0.95
    unseen = sequences(200, seed=9)
    with torch.no_grad():
        earned = rewards(network, Rows.of(unseen, CPU))
    with_5 = torch.tensor([5 in ids for ids, _ in unseen])
    assert earned[with_5].mean() > earned[~with_5].mean() + 2


def test_dpo_raises_the_preferred_replies_above_the_rejected() -> None:
    network, batches = network_of("lstm"), preferred()
    measures = learn(network, batches, dpo_objective(beta=0.5))
    assert measures[0]["loss"] == pytest.approx(0.693147, abs=1e-5), "the policy starts as the reference"
    assert measures[0]["chosen"] == pytest.approx(0, abs=1e-5)
    assert np.mean([step["accuracy"] for step in measures[-10:]]) > 0.95
    assert measures[-1]["chosen"] > measures[-1]["rejected"] + 1
    unseen = sequences(200, seed=9)
    change = reply_log_probs(network, unseen) - reply_log_probs(model_of("lstm").network, unseen)
    with_5 = np.array([5 in ids for ids, _ in unseen])
    assert change[with_5].mean() > change[~with_5].mean() + 1


def test_dpo_without_a_reference_is_refused() -> None:
    network = network_of("lstm")
    batch = ComparisonBatches(sequences(), RANKINGS, n_rankings=2, seed=0).batch(0, network)
    with pytest.raises(ConfigurationError, match="log-probabilities of the reference"):
        dpo_objective(0.1)(network, batch, ())
    with pytest.raises(ConfigurationError, match=r"beta .* got 0"):
        dpo_objective(0)


def test_comparisons_of_weight_zero_have_no_loss() -> None:
    network = reward_network(network_of("transformer"))
    batch = ComparisonBatches(sequences(), RANKINGS, n_rankings=2, seed=0).batch(0, network)
    step = reward_objective(network, batch._replace(weights=torch.zeros_like(batch.weights)), ())
    assert step.total.item() == float(step.weight) == step.measures["accuracy"] == 0


def test_log_probs_of_many_replies_are_computed_in_batches() -> None:
    model = model_of("gpt2")
    expected = [float((model.log_probs(ids) * weights).sum()) for ids, weights in sequences(70)]
    np.testing.assert_allclose(reply_log_probs(model.network, sequences(70), bf16=False), expected, rtol=0, atol=1e-4)
    assert reply_log_probs(model.network, []).shape == (0,)
