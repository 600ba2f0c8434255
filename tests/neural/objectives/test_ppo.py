"""PPO: hand values of its equations, the first step, resumption, and the known optimum of a bandit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_networks import V, model_of
from torch import Tensor

from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.ppo import (
    ActorCritic,
    AdaptiveKl,
    Ppo,
    PpoSettings,
    Rollout,
    advantages,
    kl_estimates,
    normalised,
    policy_loss,
    shaped_rewards,
    value_loss,
)
from lmzoo.neural.objectives.reward import reward_network
from lmzoo.neural.objectives.rollouts import RolloutBatches, network_rewards
from lmzoo.neural.objectives.sampled import SampledLayer
from lmzoo.neural.objectives.sequences import fixed_log_probs
from lmzoo.neural.training.batches import StreamBatches
from lmzoo.neural.training.loop import Training
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import TokenStream

END = 3


def close(tensor: Tensor, *expected: float) -> bool:
    return tensor.flatten().tolist() == pytest.approx(list(expected), abs=1e-6)


# ---- The equations ---------------------------------------------------------------------------------


def test_policy_loss_by_hand() -> None:
    """eps = 0.2: a gain is worth at most 1.2 A if A > 0 and 0.8 A if A < 0; a loss is worth its whole size."""
    ratios = torch.tensor([1.5, 0.5, 1.5, 0.5])
    gains = torch.tensor([1.0, 1, -1, -1])
    assert close(policy_loss(ratios.log(), torch.zeros(4), gains, clip=0.2), -1.2, -0.5, 1.5, 0.8)


def test_value_loss_by_hand() -> None:
    """Old value 0.5, return 1. New 0.9 counts as 0.7: 0.3^2 / 2 = 0.045. New 0.4: 0.6^2 / 2 = 0.18."""
    old, returns = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 1.0])
    assert close(value_loss(torch.tensor([0.9, 0.4]), old, returns, clip=0.2), 0.045, 0.18)


def test_advantages_by_hand() -> None:
    """r = (0, 0, 1), V = (0.5, 0.6, 0.8): d = (0.1, 0.2, 0.2), A = d + 0.95 A'.

    A = (0.1 + 0.95 x 0.39, 0.2 + 0.95 x 0.2, 0.2); returns A + V. With log-ratios (0.2, -0.1, 0.3) and the penalty 0.1
    the rewards are (-0.02, 0.01, 0.97), d = (0.08, 0.21, 0.17), A = (0.08 + 0.95 x 0.3715, 0.21 + 0.95 x 0.17, 0.17).
    """
    values, mask = torch.tensor([[0.5, 0.6, 0.8]]), torch.ones(1, 3, dtype=torch.bool)
    gains = advantages(torch.tensor([[0.0, 0, 1]]), values, mask)
    assert close(gains, 0.4705, 0.39, 0.2)
    assert close(gains + values, 0.9705, 0.99, 1.0)
    shaped = shaped_rewards(torch.tensor([1.0]), torch.tensor([[0.2, -0.1, 0.3]]), mask, 0.1)
    assert close(shaped, -0.02, 0.01, 0.97)
    assert close(advantages(shaped, values, mask), 0.432925, 0.3715, 0.17)


def test_advantages_do_not_depend_on_what_is_beside_a_reply() -> None:
    mask = torch.tensor([[False, False, True, True, True, False], [False, True, False, False, False, False]])
    junk = torch.full((2, 6), 7.0)
    values = torch.where(mask, torch.tensor([[0, 0, 0.5, 0.6, 0.8, 0], [0, 0.25, 0, 0, 0, 0]]), junk)
    ratios = torch.where(mask, torch.tensor([[0, 0, 0.2, -0.1, 0.3, 0], [0, 0.5, 0, 0, 0, 0]]), junk)
    shaped = shaped_rewards(torch.tensor([1.0, 2.0]), ratios, mask, 0.1)
    assert close(shaped, 0, 0, -0.02, 0.01, 0.97, 0, 0, 1.95, 0, 0, 0, 0)
    gains = advantages(shaped, values, mask)
    assert close(gains, 0, 0, 0.432925, 0.3715, 0.17, 0, 0, 1.7, 0, 0, 0, 0)


def test_discounted_advantages_by_hand() -> None:
    """gamma 0.5, lam 0.5: d = (0.5 x 0.6 - 0.5, 0.5 x 0.8 - 0.6, 0.2) = (-0.2, -0.2, 0.2), A = d + 0.25 A'."""
    values, mask = torch.tensor([[0.5, 0.6, 0.8]]), torch.ones(1, 3, dtype=torch.bool)
    gains = advantages(torch.tensor([[0.0, 0, 1]]), values, mask, gamma=0.5, lam=0.5)
    assert close(gains, -0.2375, -0.15, 0.2)


def test_normalising_by_hand() -> None:
    """1, 2, 3, 4: mean 2.5, deviation sqrt((2 x 2.25 + 2 x 0.25) / 3) = 1.290994."""
    x = torch.tensor([[1.0, 2, 99], [3, 4, 99]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    assert close(normalised(x, mask), -1.161895, -0.387298, 0, 0.387298, 1.161895, 0)
    assert close(normalised(x, torch.tensor([[True, False, False], [False] * 3])), 0, 0, 0, 0, 0, 0)


def test_kl_estimates_by_hand() -> None:
    """For p = (0.5, 0.3, 0.2) and q = (0.4, 0.4, 0.2) the expectations of k1 and k3 are the divergence, 0.0252672."""
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.4, 0.2])
    for kind in ("k1", "k3"):
        assert close((p * kl_estimates((p / q).log(), kind)).sum(), 0.0252672)
    log_2 = torch.tensor([math.log(2)])
    estimates = [kl_estimates(log_2, kind).item() for kind in ("k1", "k2", "k3")]
    assert estimates == pytest.approx([0.693147, 0.240227, 0.193147], abs=1e-6)  # log 2, log(2)^2 / 2, 1/2 - 1 + log 2
    with pytest.raises(ConfigurationError, match="k1, k2 or k3, got 'k4'"):
        kl_estimates(log_2, "k4")


def test_adaptive_kl_by_hand() -> None:
    """The error 12 / 6 - 1 = 1 is cut to 0.2: 0.2 (1 + 0.2 x 256 / 10,000) = 0.201024."""
    penalty = AdaptiveKl(0.2, 6.0, 10_000)
    assert penalty.updated(12.0, 256).coefficient == pytest.approx(0.201024, abs=1e-9)
    assert penalty.updated(5.7, 256).coefficient == pytest.approx(0.2 * (1 - 0.05 * 0.0256), abs=1e-9)
    assert AdaptiveKl(0.2, None, 10_000).updated(12.0, 256).coefficient == 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_replies": 10, "n_minibatches": 4}, "multiple of n_minibatches = 4, got 10"),
        ({"clip": 0}, r"clip .* got 0"),
        ({"lam": 1.5}, r"lam .* got 1.5"),
        ({"kl_target": 0}, r"kl_target .* got 0"),
        ({"max_tokens": 0}, r"max_tokens .* got 0"),
    ],
)
def test_unusable_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PpoSettings(**settings)


# ---- Rollouts --------------------------------------------------------------------------------------

SMALL = PpoSettings(n_replies=8, max_tokens=6, n_epochs=2, n_minibatches=2, kl_target=1.0, kl_horizon=100)
PROMPTS = [[1, 2], [4], [5, 6, 7], [8, 8], [9], [2, 1, 4, 5], [10, 1], [6], [7, 7]]
CONFIG = TrainConfig(tokens=1_500, learning_rate=5e-3, batch_size=2, chunk_size=12, bf16=False)


def likes_five(prompts: Sequence[NDArray[np.int32]], replies: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    return np.array([reply.count(5) for reply in replies], np.float64)


def prepared(
    species: str = "transformer", settings: PpoSettings = SMALL, bf16: bool | None = False, **arguments: Any
) -> tuple[ActorCritic, RolloutBatches]:
    model = model_of(species)
    network = ActorCritic(model.network, reward_network(model.network))
    arguments = {"like": model, "end_id": END, "seed": 0, "bf16": bf16} | arguments
    return network, RolloutBatches(PROMPTS, likes_five, model_of(species).network, settings, **arguments)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("species", ["transformer", "gpt2", "lstm"])
def test_at_the_first_step_the_policy_is_the_one_that_sampled(species: str, bf16: bool) -> None:
    network, batches = prepared(species, bf16=bf16)
    batch = batches.batch(0, network)
    network.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        step = Ppo(SMALL)(network, batch, ())
    mask = batch.rows.weights > 0
    assert torch.equal(fixed_log_probs(network.policy, batch.rows, bf16), batch.old_log_probs), "all ratios are 1"
    assert step.measures["kl_of_update"] == step.measures["clipped"] == step.measures["kl"] == 0
    # all ratios are 1 and all values are 0
    expected = -batch.advantages[mask].sum() + 0.1 * batch.returns[mask].square().sum() / 2
    assert step.total.item() == pytest.approx(expected.item(), abs=1e-5)
    assert step.weight == mask.sum()


@pytest.mark.parametrize(("ratio", "clipped"), [(1.19, 0), (1.21, 1), (0.81, 0), (0.79, 1)])
def test_tokens_count_as_clipped_if_the_new_probability_leaves_the_limits(ratio: float, clipped: float) -> None:
    network, batches = prepared()
    batch = batches.batch(0, network)
    batch = batch._replace(old_log_probs=batch.old_log_probs - math.log(ratio))
    assert Ppo(SMALL)(network, batch, ()).measures["clipped"] == clipped


def test_the_minibatches_of_a_rollout_are_all_its_replies() -> None:
    network, batches = prepared()
    first, second, again, _, new = (batches.batch(step, network) for step in range(5))
    gains = torch.cat([part.advantages[part.rows.weights > 0] for part in (first, second)])
    assert gains.mean().item() == pytest.approx(0, abs=1e-6)
    assert gains.std().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(again.rows.inputs, first.rows.inputs)
    assert not torch.equal(second.rows.inputs, first.rows.inputs)
    assert len(batches.history) == 2, "the fifth batch is from a new rollout"
    assert new.rows.inputs.tolist() != first.rows.inputs.tolist()


def test_replies_are_rewarded_and_penalised() -> None:
    """The return of the last token of a reply is its reward, less the penalty if the reply did not end."""
    seen: list[tuple[Any, Any]] = []

    def reward(prompts: Sequence[NDArray[np.int32]], replies: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        seen.append((prompts, replies))
        return likes_five(prompts, replies)

    settings = PpoSettings(n_replies=30, max_tokens=6, n_minibatches=1, kl_coefficient=0.0, unended_penalty=0.5)
    model = model_of("transformer")
    network = ActorCritic(model.network, reward_network(model.network))
    batches = RolloutBatches(
        PROMPTS, reward, model_of("transformer").network, settings, like=model, end_id=END, seed=0, bf16=False
    )
    batch = batches.batch(0, network)
    ((prompts, replies),) = seen
    ended = 0
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        assert prompt.tolist() in PROMPTS
        last = len(prompt) + len(reply) - 1
        assert batch.rows.targets[row, : last + 1].tolist() == [*prompt, *reply]
        assert batch.rows.weights[row].tolist() == [0] * len(prompt) + [1] * len(reply) + [0] * (
            batch.rows.weights.shape[1] - last - 1
        )
        has_ended = reply[-1] == END
        ended += has_ended
        assert has_ended or len(reply) == 6 or reply[-1] == 0
        assert END not in reply[:-1]
        assert batch.returns[row, last].item() == pytest.approx(reply.count(5) - 0.5 * (not has_ended))
    assert 0 < ended < 30
    measures = batches.history[0]
    assert measures.ended == pytest.approx(ended / 30)
    assert measures.reward == pytest.approx(np.mean([reply.count(5) for reply in replies]))
    assert measures.tokens == pytest.approx(np.mean([len(reply) for reply in replies]))


def test_the_penalty_adapts_to_the_divergence() -> None:
    network, batches = prepared()
    for step in (0, 4):
        batches.batch(step, network)
    assert [measures.kl_coefficient for measures in batches.history] == pytest.approx(
        [0.05, 0.05 * (1 - 0.2 * 8 / 100)]
    )


def test_a_wrong_reward_function_is_named() -> None:
    model = model_of("nplm")
    network = ActorCritic(model.network, reward_network(model.network))
    for wrong in ([1.0], [float("nan")] * 8):
        batches = RolloutBatches(
            PROMPTS, lambda prompts, replies, wrong=wrong: wrong, model.network, SMALL, like=model, end_id=END, seed=0
        )
        with pytest.raises(ConfigurationError, match="one finite number for each of 8 replies"):
            batches.batch(0, network)
    with pytest.raises(ConfigurationError, match="at least one prompt"):
        RolloutBatches([], likes_five, model.network, SMALL, like=model, end_id=END, seed=0)
    with pytest.raises(ConfigurationError, match="give both"):
        prepared(settings=PpoSettings(text_weight=1.0))


def test_a_reward_network_is_a_reward_function() -> None:
    model = reward_network(model_of("lstm").network)
    torch.nn.init.normal_(model.head.weight)
    rewards = network_rewards(model, [np.array([1, 2]), np.array([1])], [[4, END], [2, 4, END]])
    assert rewards.shape == (2,)
    assert rewards[0] == pytest.approx(rewards[1], abs=1e-6), "both sequences are 1 2 4 end"
    assert rewards[0] != network_rewards(model, [np.array([1, 2])], [[5, END]])[0]


# ---- Training --------------------------------------------------------------------------------------


def learn(
    network: ActorCritic, batches: RolloutBatches, settings: PpoSettings = SMALL, config: TrainConfig = CONFIG,
    checkpoint: Checkpoint | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    Training[Rollout](
        network, batches, config, objective=Ppo(settings), evaluate=None, seed=0, unit="",
    ).run(checkpoint=checkpoint)  # fmt: skip
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def text_batches() -> StreamBatches:
    rng = np.random.default_rng(5)
    stream = TokenStream.from_documents([rng.integers(1, V, 20) for _ in range(10)])
    return StreamBatches(stream, CONFIG, seed=0)


def learned(with_text: bool, checkpoint: Checkpoint | None = None) -> tuple[dict[str, Tensor], RolloutBatches]:
    settings = replace(SMALL, text_weight=0.5 if with_text else 0.0)
    network, batches = prepared("lstm", settings, text=text_batches() if with_text else None)
    return learn(network, batches, settings, checkpoint=checkpoint), batches


uninterrupted = cache(learned)


@pytest.mark.parametrize("with_text", [False, True])
@pytest.mark.parametrize("n_steps", [1, 5, 8])
def test_a_run_resumes_from_its_checkpoint_to_the_same_bytes(
    with_text: bool, n_steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted within a rollout, after its last step, and in the middle of sampling the next one."""
    expected, batches = uninterrupted(with_text)
    calls = itertools.count()
    original = Ppo.__call__

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == n_steps:
            raise KeyboardInterrupt
        return original(*arguments)

    path = tmp_path / "checkpoint"
    with monkeypatch.context() as patched:
        patched.setattr(Ppo, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            learned(with_text, Checkpoint(path))
    assert path.exists()
    resumed, resumed_batches = learned(with_text, Checkpoint(path))
    for name, parameter in expected.items():
        assert torch.equal(resumed[name], parameter), name
    np.testing.assert_array_equal(resumed_batches.history, batches.history)  # the column of the judge is NaN
    assert len(batches.history) > 3


def test_ordinary_text_is_learned_beside_the_replies() -> None:
    """The loss of a batch is the mean over sampled tokens, plus the weight times the mean loss of the text."""
    settings = replace(SMALL, text_weight=0.5)
    network, batches = prepared("lstm", settings, text=text_batches())
    batch = batches.batch(0, network)
    both, alone = (Ppo(settings)(network, given, ()) for given in (batch, batch._replace(text=None)))
    assert batch.text is not None
    targets, hidden = batch.text.targets, network.policy.read_rows(batch.text.inputs)
    nats = network.logits(hidden).log_softmax(-1).gather(2, targets[:, :, None]).mean()
    gain = (both.total - alone.total).item() / float(both.weight)
    assert gain == pytest.approx(-0.5 * nats.item(), abs=1e-5)
    assert both.state
    assert not alone.state
    assert batches.n_tokens(batch) == batch.rows.n_tokens + targets.numel()


def test_policy_and_value_are_both_trained_and_the_reference_is_not() -> None:
    network, batches = prepared()
    grouped = [id(parameter) for group in network.parameter_groups() for parameter in group]
    assert sorted(grouped) == sorted(map(id, network.parameters()))
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    after = learn(network, batches)
    for part in ("policy", "value"):
        changed = [name for name in before if name.startswith(part) and not torch.equal(before[name], after[name])]
        assert len(changed) > 3, part
    untouched = model_of("transformer").network.state_dict()
    for name, parameter in batches._reference.named_parameters():
        assert torch.equal(parameter, untouched[name]), name


def test_predictions_are_those_of_the_policy() -> None:
    policy = model_of("rnn", maxent_order=3).network
    network = ActorCritic(policy, reward_network(policy))
    ids = torch.tensor([[0, 3, 4, 5], [0, 5, 3, 4]])
    hidden = network(ids, network.initial_state(2))[0].flatten(0, 1)
    targets, weights = ids.roll(-1, 1).flatten(), torch.rand(8)
    sample = SampledLayer(policy.head.weight[:7], policy.head.bias[:7], targets, torch.arange(7))
    expected = policy.sampled_cross_entropy(hidden, sample, weights)
    torch.testing.assert_close(network.sampled_cross_entropy(hidden, sample, weights), expected)
    torch.testing.assert_close(network.surprisals(hidden, targets), policy.surprisals(hidden, targets))


def bandit(beta: float) -> float:
    """Trains a policy of two equally likely one-token replies with rewards 1 and 0; returns P(the first reply)."""
    model = model_of("nplm", 3)
    network = model.network
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([-30.0, 0, 0]))  # EOT has no probability
    reference = model_of("nplm", 3).network
    reference.load_state_dict(network.state_dict())
    settings = PpoSettings(
        n_replies=256, max_tokens=1, n_epochs=2, n_minibatches=1, kl_coefficient=beta, unended_penalty=0.0
    )
    batches = RolloutBatches(
        [[]], lambda prompts, replies: [float(reply == [1]) for reply in replies], reference, settings,
        like=model, end_id=1, seed=0, bf16=False,
    )  # fmt: skip
    joined = ActorCritic(network, reward_network(network))
    config = TrainConfig(tokens=150 * 512, learning_rate=0.03, final_rate=0.0, weight_decay=0.0, bf16=False)
    learn(joined, batches, settings, config)
    return float(NeuralLM.of(network, model).predict_distribution([]).probs[1])


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_a_bandit_converges_to_its_known_optimum(beta: float) -> None:
    """The policy that maximises reward - beta KL has p1 / p2 = exp(1 / beta), so p1 = sigmoid(1 / beta)."""
    assert bandit(beta) == pytest.approx(1 / (1 + math.exp(-1 / beta)), abs=0.01)
