"""The choices of the training loop: schedules, Muon, ema_fraction, and what happens when training diverges."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmzoo import zoo
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, TrainingError
from lmzoo.language_model import LanguageModel, Progress
from lmzoo.neural import neural_lm
from lmzoo.neural.network import Network, State
from lmzoo.neural.objectives.next_token import Chunk
from lmzoo.neural.objectives.objective import Step
from lmzoo.neural.training import optimizers
from lmzoo.neural.training.adamw import AdamW
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import TokenStream, TrainingData

V = 12
TINY = {"d_model": 16, "n_layers": 2, "n_heads": 2, "window": 8, "ngrams": 3, "n_slots": 64}
TRAINING = {"tokens": 2_000, "batch_size": 4, "chunk_size": 16, "learning_rate": 1e-2}


def data() -> TrainingData:
    rng = np.random.default_rng(0)
    walks = [(rng.integers(1, V) + np.arange(50) * rng.integers(1, 4)) % (V - 1) + 1 for _ in range(20)]
    return TrainingData(TokenStream.from_documents(walks), TokenStream.from_documents(walks[:3]))


def transformer(**training: Any) -> LanguageModel[Any]:
    return zoo.create("transformer", V, **TINY, training={**TRAINING, **training})


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [  # after 0, 1/10, 1/5, 3/5, 4/5 and all of the budget, with a warm-up of 1/5, from 1 to 0
        ("cosine", [0, 0.5, 1, 0.5, (1 - 0.5**0.5) / 2, 0]),
        ("wsd", [0, 0.5, 1, 1, 0.5, 0]),  # falls over the last 2/5
        ("inverse-sqrt", [0, 0.5, 1, 3**-0.5, 0.5, 5**-0.5]),
    ],
)
def test_schedules(schedule: str, rates: list[float]) -> None:
    config = TrainConfig(learning_rate=1.0, warmup=0.2, final_rate=0.0, schedule=schedule)
    assert [config.learning_rate_at(spent) for spent in (0, 0.1, 0.2, 0.6, 0.8, 1)] == pytest.approx(rates, abs=1e-12)


def test_inverse_sqrt_needs_a_warm_up() -> None:
    with pytest.raises(ConfigurationError, match="warmup above 0"):
        TrainConfig(schedule="inverse-sqrt", warmup=0)


def test_muon_is_for_matrices_between_hidden_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[tuple[int, ...]]] = []
    real = optimizers.Muon

    def noted(params: list[torch.nn.Parameter], **settings: Any) -> optimizers.Muon:
        seen.append([tuple(parameter.shape) for parameter in params])
        return real(params, **settings)

    monkeypatch.setattr(optimizers, "Muon", noted)
    transformer(optimizer="muon", tokens=0).fit(data())
    # What reads two n-grams of 32 numbers, and two blocks; not the table of tokens or that of n-grams.
    assert seen == [[(16, 64)] + [(48, 16), (16, 16), (64, 16), (16, 64)] * 2]


def test_steps_of_adamw_are_those_of_torch() -> None:
    torch.manual_seed(0)
    ours = [torch.randn(8, 4), torch.randn(4), torch.randn(2, 2)]
    theirs = [parameter.clone() for parameter in ours]
    mine = AdamW([(ours[:1], 0.1), (ours[1:], 0.0)])
    groups = [{"params": theirs[:1], "weight_decay": 0.1}, {"params": theirs[1:], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, fused=True)
    for step in range(5):
        for one, other in zip(ours[:2], theirs[:2], strict=True):  # the last parameter has no gradient
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for group in reference.param_groups:
            group["lr"] = 0.1 / (1 + step)
        mine.step(0.1 / (1 + step))
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_training_does_not_import_the_compiler_of_torch() -> None:
    code = (
        "import sys, numpy as np; from lmzoo import zoo; from lmzoo.stream import TokenStream, TrainingData\n"
        "text = TokenStream.from_documents([np.arange(1, 12)] * 9)\n"
        "for optimizer in ('adamw', 'muon'):\n"
        "    training = {'tokens': 99, 'batch_size': 2, 'chunk_size': 8, 'optimizer': optimizer}\n"
        "    model = zoo.create('transformer', 12, d_model=16, n_layers=1, n_heads=2, window=8, training=training)\n"
        "    assert model.fit(TrainingData(text, text)).flops_per_token > 0\n"
        "print({'torch._dynamo', 'sympy'} & sys.modules.keys())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.parametrize("training", [{"optimizer": "muon"}, {"ema_fraction": 0.2}])
def test_a_resumed_run_equals_one_in_one_go(training: dict[str, Any], tmp_path: Path) -> None:
    class Stop(KeyboardInterrupt):
        pass

    def stop_half_way(progress: Progress) -> None:
        if progress.done >= 1000:
            raise Stop

    in_one_go = transformer(**training).fit(data(), seed=3).arrays()
    checkpoint = Checkpoint(tmp_path / "c.safetensors")
    with pytest.raises(Stop):
        transformer(**training).fit(data(), seed=3, checkpoint=checkpoint, on_progress=stop_half_way)
    resumed = transformer(**training).fit(data(), seed=3, checkpoint=checkpoint).arrays()
    assert all(np.array_equal(resumed[name], array) for name, array in in_one_go.items())


def test_averaged_weights_are_those_that_are_kept() -> None:
    last, averaged = (transformer(ema_fraction=share).fit(data(), seed=3).arrays() for share in (0.0, 0.5))
    assert any(not np.array_equal(last[name], averaged[name]) for name in last)


def diverging_at(steps: set[int], monkeypatch: pytest.MonkeyPatch, factor: float = math.nan) -> None:
    n_calls, real = 0, neural_lm.next_token

    def loss(network: Network, chunk: Chunk, state: State) -> Step:
        nonlocal n_calls
        n_calls += network.training and chunk.inputs.shape[0] == TRAINING["batch_size"]  # not while memory is measured
        step = real(network, chunk, state)
        return step._replace(total=step.total * factor) if n_calls in steps else step

    monkeypatch.setattr(neural_lm, "next_token", loss)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_diverged_step_is_rolled_back_and_reported(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    diverging_at({10}, monkeypatch, factor)
    messages: list[str] = []
    model = transformer().fit(data(), on_progress=lambda progress: messages.append(progress.message))
    assert f"diverged at step 10: loss {factor}, gradient norm nan; went back" in messages[9]
    assert not any("diverged" in message for message in messages[:9])
    assert np.isfinite(model.log_probs(data().valid)).all()
    assert model.log_probs(data().valid).mean() > -np.log(V)  # it learned after all


def test_what_diverges_again_and_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    diverging_at({2, 4, 6, 8}, monkeypatch)
    with pytest.raises(TrainingError, match=r"diverged at step 8: .* for the 4th time; try a learning_rate below"):
        transformer().fit(data())
