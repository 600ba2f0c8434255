"""The training loop: what it reads, how it ends, and that it goes on where it was stopped."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lmzoo import zoo
from lmzoo.arrays import load_arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import TrainingError
from lmzoo.neural import neural_lm, train
from lmzoo.neural.losses import next_token_loss
from lmzoo.neural.network import Memory, Network
from lmzoo.neural.settings import TrainConfig
from lmzoo.neural.train import Rows, Training
from lmzoo.stream import EOT, TokenStream, TrainingData

V = 9


def text(n_documents: int = 30, seed: int = 0) -> TokenStream:
    rng = np.random.default_rng(seed)
    return TokenStream.from_documents([rng.integers(1, V, rng.integers(12)) for _ in range(n_documents)])


class Tiny(Network):
    """The smallest network: the next token depends on this one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 4)
        self.head = nn.Linear(4, V)

    def initial_memory(self, batch_size: int) -> Memory:
        return (torch.zeros(batch_size),)

    def forward(self, ids: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        return self.embedding(ids), (memory[0] + ids.shape[1],)


def training(config: TrainConfig, **changes: Any) -> tuple[Training, Network]:
    torch.manual_seed(0)
    network = Tiny()
    settings = {"loss": next_token_loss, "evaluate": lambda: 0.0, "evaluation_tokens": 1, "seed": 0}
    return Training(network, text(), config, **(settings | changes)), network


# ---- Rows ------------------------------------------------------------------------------------------


def test_an_epoch_reads_every_prediction_once() -> None:
    documents = [[1, 2, 3], [], [4], [5, 6, 7, 8, 1, 2]]
    stream = TokenStream.from_documents(documents)  # 14 ids
    config = TrainConfig(batch_size=2, chunk_size=3)
    rows = Rows(stream, config, seed=0)
    assert rows.n_chunks == 2  # 7 ids a row, in chunks of 3 and 4
    wanted = sorted(zip(stream.previous_ids().tolist(), stream.ids.tolist(), strict=True))
    arrangements = []
    for epoch in range(3):
        chunks = [rows.chunk(2 * epoch + chunk) for chunk in range(2)]
        assert [at_start for *_, at_start in chunks] == [True, False]
        inputs, targets = (torch.cat([chunk[part] for chunk in chunks], dim=1) for part in (0, 1))
        read = sorted(zip(inputs.flatten().tolist(), targets.flatten().tolist(), strict=True))
        assert read == wanted, "each id is predicted once, from the id before it in its document"
        assert torch.equal(inputs[:, 1:], targets[:, :-1]), "a row is continuous"
        arrangements.append(targets.tolist())
    assert arrangements[0] != arrangements[1] != arrangements[2]
    again = Rows(stream, config, seed=0)
    assert again.chunk(4)[1].tolist() == [row[:3] for row in arrangements[2]], "a chunk is a function of seed and step"


def test_an_open_end_joins_no_documents() -> None:
    stream = TokenStream([1, 2, EOT, 3, 4])
    inputs, targets, _ = Rows(stream, TrainConfig(batch_size=1, chunk_size=5), seed=0).chunk(0)
    assert set(zip(inputs[0].tolist(), targets[0].tolist(), strict=True)) == {
        (EOT, 1),
        (1, 2),
        (2, EOT),
        (EOT, 3),
        (3, 4),
    }


@pytest.mark.parametrize("n_ids", [1, 2, 70, 1000])
def test_any_text_fills_the_batch(n_ids: int) -> None:
    rows = Rows(TokenStream(np.full(n_ids, 3)), TrainConfig(batch_size=8, chunk_size=16), seed=0)
    for step in range(2 * rows.n_chunks + 1):
        inputs, targets, _ = rows.chunk(step)
        assert inputs.shape == targets.shape
        assert inputs.shape[0] == 8
        assert 11 <= inputs.shape[1] <= 24


# ---- The loop --------------------------------------------------------------------------------------


def test_learning_rate_warms_up_and_falls() -> None:
    config = TrainConfig(learning_rate=2.0, warmup=0.2, final_rate=0.1)
    rates = [config.learning_rate_at(spent) for spent in (0.1, 0.2, 0.6, 1.0, 1.5)]
    # half way down the cosine: 0.1 + 0.9 / 2 of the peak
    assert rates == pytest.approx([1.0, 2.0, 1.1, 0.2, 0.2])
    assert TrainConfig(learning_rate=1.0, warmup=1.0).learning_rate_at(1.0) == pytest.approx(0.05)
    assert TrainConfig(learning_rate=1.0, warmup=0.0).learning_rate_at(0.0) == 1.0


def test_the_best_weights_are_kept_and_patience_ends() -> None:
    """The second of the evaluations is the best one; two worse ones end the run long before its budget."""
    nats, weights = iter([3.0, 1.0, 2.0, 1.5]), []
    run, network = training(TrainConfig(tokens=10_000, batch_size=2, chunk_size=10, patience=2))

    def evaluate() -> float:
        weights.append(network.head.weight.detach().clone())
        return next(nats)

    run._evaluate = evaluate
    run.run()
    assert len(weights) == 4
    assert torch.equal(network.head.weight, weights[1])
    assert not torch.equal(weights[1], weights[3])


def test_no_budget_trains_nothing() -> None:
    run, network = training(TrainConfig(tokens=0))
    before = network.head.weight.detach().clone()
    run.run()
    assert torch.equal(network.head.weight, before)


def test_memory_is_carried_through_an_epoch_and_never_back_propagated() -> None:
    seen: list[tuple[float, int, bool]] = []

    def loss(network: Network, inputs: Tensor, targets: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        seen.append((memory[0][0].item(), inputs.shape[1], memory[0].requires_grad))
        value, after = next_token_loss(network, inputs, targets, memory)
        return value, (after[0] + 0 * network.head.bias.sum(),)

    run, _ = training(TrainConfig(tokens=500, batch_size=2, chunk_size=10), loss=loss)
    run.run()
    n_chunks = run._rows.n_chunks
    expected = 0.0
    assert len(seen) > n_chunks, "the run must reach a second epoch"
    for step, (start, width, has_gradient) in enumerate(seen):
        expected = 0.0 if step % n_chunks == 0 else expected
        assert start == expected
        assert not has_gradient
        expected += width


def test_a_time_budget_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=1.0)  # it is read once before the run, once at its start and before each step
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    run, _ = training(TrainConfig(tokens=10**9, batch_size=2, chunk_size=10, seconds=100))
    run.run()
    assert run._n_steps == 98
    assert run._optimizers[0].param_groups[0]["lr"] < 0.1 * run._config.learning_rate, "its schedule ends with it"


# ---- Interruptions ---------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {
    "d_embed": 4,
    "d_hidden": 6,
    "dropout": 0.2,
    "training": {"tokens": 3_000, "batch_size": 4, "chunk_size": 8},
}


def fitted(checkpoint: Checkpoint | None, seed: int = 3) -> dict[str, Any]:
    data = TrainingData(text(60), text(10, seed=1))
    return zoo.create("lstm", V, **SETTINGS).fit(data, seed=seed, checkpoint=checkpoint).arrays()


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], name)


@pytest.mark.parametrize("where", ["next_token_loss", "observed_log_probs"])
def test_ctrl_c_at_any_moment_saves_what_is_done(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the middle of a step, and in the middle of an evaluation."""
    checkpoint, calls, original = Checkpoint(tmp_path / "checkpoint"), 0, getattr(neural_lm, where)

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(neural_lm, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted(checkpoint)
    assert checkpoint.path.exists()
    assert_same(fitted(Checkpoint(checkpoint.path)), fitted(None))


def test_an_interruption_inside_an_update_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, calls, original = Checkpoint(tmp_path / "checkpoint"), 0, torch.optim.AdamW.step

    def half_a_step(optimizer: torch.optim.AdamW) -> None:
        nonlocal calls
        calls += 1
        original(optimizer)
        if calls == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "_SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", half_a_step)
        with pytest.raises(KeyboardInterrupt):
            fitted(checkpoint)
    assert load_arrays(checkpoint.path)[1]["n_steps"] == 4
    assert_same(fitted(Checkpoint(checkpoint.path)), fitted(None))


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_train
from lmzoo.checkpoint import Checkpoint
from lmzoo.neural import neural_lm, train

class Deadly(Checkpoint):
    def save(self, arrays, facts):
        super().save(arrays, facts)
        if facts["n_steps"] >= 40:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

train._SECONDS_BETWEEN_SAVES = 0.0
test_train.fitted(Deadly(Path(sys.argv[2])))
"""


def test_a_killed_run_resumes_to_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(path)]
    killed = subprocess.run(command, check=False, capture_output=True, text=True)
    assert killed.returncode != 0
    assert "Error" not in killed.stderr, killed.stderr
    assert load_arrays(path)[1]["n_steps"] == 40
    assert_same(fitted(Checkpoint(path)), fitted(None))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_SECONDS_BETWEEN_SAVES", 0.0)
    fitted(Checkpoint(tmp_path / "checkpoint"), seed=3)
    with pytest.raises(TrainingError, match="other data or settings"):
        fitted(Checkpoint(tmp_path / "checkpoint"), seed=4)
