"""Other libraries compute the same losses: TRL those of comparisons, on exported weights, and torchrl those of PPO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lmzoo import Predictor, train_tokenizer, zoo
from lmzoo.interchange.huggingface import predictor_to_huggingface
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.comparisons import ComparisonBatches
from lmzoo.neural.objectives.dpo import dpo_objective, reply_log_probs
from lmzoo.neural.objectives.ppo import advantages, policy_loss, value_loss
from lmzoo.neural.objectives.reward import reward_network, reward_objective, rewards

SIZES: dict[str, Any] = {"d_model": 16, "n_layers": 2, "n_heads": 2, "window": 48}
PROMPTS = ["Who is there? ", "How many cats are in the house? ", "Say: "]
CHOSEN = ["the cat and the dog", "three", "light upon the waters, and the dry land"]
REJECTED = ["a", "there are many houses", "dark waters"]

pytestmark = pytest.mark.filterwarnings("ignore")  # of the other libraries


def predictor(seed: int) -> Predictor:
    """Returns a small GPT-2 with random weights."""
    tokenizer = train_tokenizer("bpe:280", PROMPTS + CHOSEN + REJECTED)
    model = zoo.create("gpt2", tokenizer.vocab_size, **SIZES)
    assert isinstance(model, NeuralLM)
    network, generator = model.fresh_network(0), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return Predictor(tokenizer, NeuralLM.of(network, model), "gpt2", SIZES)


def network_of(predictor: Predictor) -> Any:
    assert isinstance(predictor.model, NeuralLM)
    return predictor.model.network


def trl_arguments(tmp_path: Path) -> dict[str, Any]:
    return {
        "output_dir": str(tmp_path / "trl"), "use_cpu": True, "report_to": "none", "bf16": False,
        "per_device_train_batch_size": 3, "max_length": None, "gradient_checkpointing": False,
    }  # fmt: skip


def comparisons(dataset: Any, **settings: Any) -> ComparisonBatches:
    """Returns batches of the comparisons that TRL tokenized, without the EOT at the start of each sequence."""
    sequences = []
    for row in dataset:
        prompt = row.get("prompt_ids", [0])
        for reply in (row["chosen_ids"], row["rejected_ids"]):
            ids = [*prompt, *reply] if "prompt_ids" in row else reply
            assert ids[0] == ids[-1] == 0
            sequences.append((ids[1:], [float(index >= len(prompt)) for index in range(1, len(ids))]))
    rankings = [[[2 * row], [2 * row + 1]] for row in range(len(sequences) // 2)]
    return ComparisonBatches(sequences, rankings, n_rankings=len(rankings), seed=0, **settings)


def test_dpo_of_trl(tmp_path: Path) -> None:
    """The loss, and its gradient with respect to all weights."""
    trl = pytest.importorskip("trl", reason="needs trl: pip install trl")
    datasets = pytest.importorskip("datasets")
    transformers = pytest.importorskip("transformers")
    policy, reference = predictor(1), predictor(2)
    theirs, their_reference = (
        transformers.AutoModelForCausalLM.from_pretrained(predictor_to_huggingface(ours, tmp_path / name))
        for name, ours in (("policy", policy), ("reference", reference))
    )
    trainer = trl.DPOTrainer(
        model=theirs,
        ref_model=their_reference,
        args=trl.DPOConfig(beta=0.3, **trl_arguments(tmp_path)),
        train_dataset=datasets.Dataset.from_dict({"prompt": PROMPTS, "chosen": CHOSEN, "rejected": REJECTED}),
        processing_class=transformers.AutoTokenizer.from_pretrained(tmp_path / "policy"),
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    expected = trainer.compute_loss(trainer.model, batch)
    expected.backward()

    batches = comparisons(trainer.train_dataset)
    batches._reference_log_probs = reply_log_probs(network_of(reference), batches._sequences, bf16=False)
    network = network_of(policy)
    step = dpo_objective(0.3)(network, batches.batch(0, network), ())
    loss = step.total / step.weight
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert abs(loss.item() - np.log(2)) > 0.05
    torch.testing.assert_close(
        network.embedding.weight.grad, theirs.transformer.wte.weight.grad, rtol=0, atol=1e-5
    )  # fmt: skip


def test_reward_loss_of_trl(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="needs trl: pip install trl")
    datasets = pytest.importorskip("datasets")
    transformers = pytest.importorskip("transformers")
    ours = predictor(1)
    folder = predictor_to_huggingface(ours, tmp_path / "hf")
    network = reward_network(network_of(ours))
    nn.init.normal_(network.head.weight)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, pad_token_id=0)
    with torch.no_grad():
        theirs.score.weight.copy_(network.head.weight)
    dataset = {"chosen": [p + c for p, c in zip(PROMPTS, CHOSEN, strict=True)]}
    dataset["rejected"] = [p + c for p, c in zip(PROMPTS, REJECTED, strict=True)]
    trainer = trl.RewardTrainer(
        model=theirs,
        args=trl.RewardConfig(**trl_arguments(tmp_path)),
        train_dataset=datasets.Dataset.from_dict(dataset),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    expected, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)

    comparison = comparisons(trainer.train_dataset).batch(0, network)
    earned = rewards(network, comparison.rows).detach()
    step = reward_objective(network, comparison, ())
    loss = (step.total / step.weight).item()
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(earned.sort().values, outputs.logits[:, 0].detach().sort().values, rtol=0, atol=1e-5)
    assert earned.std() > 0.1


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5)])
def test_advantages_of_torchrl(gamma: float, lam: float) -> None:
    """Replies of different lengths, each of which is an episode of its own for torchrl."""
    functional = pytest.importorskip("torchrl.objectives.value.functional", reason="needs torchrl: pip install torchrl")
    generator = torch.Generator().manual_seed(0)
    given, values = (torch.randn(8, 12, generator=generator) for _ in range(2))
    starts, lengths = torch.arange(8) % 4, 1 + torch.arange(8)
    column = torch.arange(12)
    mask = (column >= starts[:, None]) & (column < (starts + lengths)[:, None])
    ours = advantages(torch.where(mask, given, 0.0), values, mask, gamma=gamma, lam=lam)
    for row in range(8):
        kept = mask[row]
        value, reward = values[row, kept][:, None], given[row, kept][:, None]
        done = torch.zeros(len(value), 1, dtype=torch.bool)
        done[-1] = True
        after = torch.cat([value[1:], torch.full((1, 1), 9.0)])
        theirs, returns = functional.generalized_advantage_estimate(gamma, lam, value, after, reward, done, done)
        torch.testing.assert_close(ours[row, kept], theirs[:, 0], rtol=0, atol=1e-6)
        torch.testing.assert_close((ours + values)[row, kept], returns[:, 0], rtol=0, atol=1e-6)
        assert not ours[row, ~kept].any()


def test_losses_of_torchrl() -> None:
    """The clipped policy loss, its gradient, and the clipped value loss of 200 tokens of a vocabulary of 5."""
    pytest.importorskip("torchrl", reason="needs torchrl: pip install torchrl")
    from tensordict import TensorDict  # pyright: ignore[reportMissingImports]
    from tensordict.nn import (  # pyright: ignore[reportMissingImports]
        ProbabilisticTensorDictModule,
        ProbabilisticTensorDictSequential,
        TensorDictModule,
    )
    from torchrl.objectives import ClipPPOLoss  # pyright: ignore[reportMissingImports]

    generator = torch.Generator().manual_seed(0)
    logits, old_logits = (torch.randn(200, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    values, old_values, gains, returns = (
        torch.randn(200, 1, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    tokens = torch.arange(200) % 5
    old = old_logits.log_softmax(-1)[torch.arange(200), tokens]

    class Given(nn.Module):
        """A layer that adds a parameter of zeros to its input, to receive the gradient."""

        def __init__(self, *shape: int) -> None:
            super().__init__()
            self.zeros = nn.Parameter(torch.zeros(*shape, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.zeros

    actor = ProbabilisticTensorDictSequential(
        TensorDictModule(Given(200, 5), in_keys=["given"], out_keys=["logits"]),
        ProbabilisticTensorDictModule(
            in_keys=["logits"], out_keys=["action"], distribution_class=torch.distributions.Categorical
        ),
    )
    critic = TensorDictModule(Given(200, 1), in_keys=["value"], out_keys=["state_value"])
    loss = ClipPPOLoss(
        actor, critic, clip_epsilon=0.2, clip_value=0.2, entropy_bonus=False, critic_coeff=0.5, loss_critic_type="l2",
        reduction="none",
    )  # fmt: skip
    theirs = loss(
        TensorDict(
            {
                "given": logits, "action": tokens, loss.tensor_keys.sample_log_prob: old, "advantage": gains,
                "value": values, "state_value": old_values, "value_target": returns,
            },
            [200],
        )
    )  # fmt: skip
    ours_logits = logits.clone().requires_grad_()
    log_probs = ours_logits.log_softmax(-1)[torch.arange(200), tokens]
    of_policy = policy_loss(log_probs, old, gains[:, 0], clip=0.2)
    of_value = value_loss(values, old_values, returns, clip=0.2)
    torch.testing.assert_close(of_policy, theirs["loss_objective"].flatten(), rtol=0, atol=1e-6)
    torch.testing.assert_close(of_value.flatten(), theirs["loss_critic"].flatten(), rtol=0, atol=1e-6)
    of_policy.mean().backward()
    theirs["loss_objective"].mean().backward()
    (gradient,) = (p.grad for name, p in loss.named_parameters() if "actor" in name)
    torch.testing.assert_close(ours_logits.grad, gradient, rtol=0, atol=1e-6)
