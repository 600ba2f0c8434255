"""The training loop: how it ends, what it keeps, and that a stopped run resumes exactly."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lmzoo import zoo
from lmzoo.arrays import load_arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, TrainingError
from lmzoo.neural import neural_lm
from lmzoo.neural.network import Network, State
from lmzoo.neural.objectives.next_token import Chunk, next_token
from lmzoo.neural.objectives.objective import Step
from lmzoo.neural.training import loop
from lmzoo.neural.training.adamw import AdamW
from lmzoo.neural.training.batches import StreamBatches
from lmzoo.neural.training.loop import Training
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system.progress import Progress

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

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size),)

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        return self.embedding(ids), (state[0] + ids.shape[1],)


def training(config: TrainConfig, **changes: Any) -> tuple[Training[Chunk], Network]:
    torch.manual_seed(0)
    network = Tiny()
    settings = {"objective": next_token, "evaluate": lambda: 0.0, "evaluation_tokens": 1, "seed": 0}
    return Training(network, StreamBatches(text(), config, seed=0), config, **(settings | changes)), network


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


def test_the_state_continues_through_an_epoch_and_is_never_back_propagated() -> None:
    starts: list[tuple[float, int, bool]] = []

    def objective(network: Network, chunk: Chunk, state: State) -> Step:
        first = 0.0 if chunk.at_start or not state else state[0][0].item()
        starts.append((first, chunk.inputs.shape[1], bool(state) and state[0].requires_grad))
        step = next_token(network, chunk, state)
        return step._replace(state=(step.state[0] + 0 * network.head.bias.sum(),))

    config = TrainConfig(tokens=500, batch_size=2, chunk_size=10)
    run, _ = training(config, objective=objective)
    run.run()
    n_chunks = StreamBatches(text(), config, seed=0).n_chunks
    expected = 0.0
    assert len(starts) > n_chunks, "the run must reach a second epoch"
    for step, (start, width, has_gradient) in enumerate(starts):
        expected = 0.0 if step % n_chunks == 0 else expected
        assert start == expected
        assert not has_gradient
        expected += width


def test_predictions_of_weight_zero_are_not_learned_from() -> None:
    """The mean is over the weights: half of the predictions, masked, do not dilute the gradient of the others."""

    def masked(network: Network, chunk: Chunk, state: State) -> Step:
        step = next_token(network, chunk, state)
        hidden, weights = network.embedding(chunk.inputs).flatten(0, 1), (chunk.targets.flatten() != 3).float()
        return Step(network.cross_entropy(hidden, chunk.targets.flatten(), weights), weights.sum(), step.state)

    config = TrainConfig(tokens=3000, batch_size=2, chunk_size=10, learning_rate=0.05)
    run, network = training(config, objective=masked, evaluate=itertools.count(9, -1).__next__)
    run.run()
    with torch.no_grad():
        probs = network.logits(network.embedding.weight).softmax(-1)  # (V, V)
    assert probs[:, 3].max() < 0.5 * probs[:, 1:3].mean()


def test_the_last_weights_are_kept_and_nothing_stops_early() -> None:
    """Without a validation loss there are no best weights, and patience never ends the run."""
    reports: list[Progress] = []
    settings = {"evaluate": None, "unit": "nats/answer"}

    def objective(network: Network, chunk: Chunk, state: State) -> Step:
        return next_token(network, chunk, state)._replace(measures={"kl": 0.25})

    config = TrainConfig(tokens=2_000, batch_size=2, chunk_size=10, patience=1)
    run, network = training(config, objective=objective, **settings)
    weights: list[Tensor] = []

    def report(progress: Progress) -> None:
        reports.append(progress)
        weights.append(network.head.weight.detach().clone())

    run.run(on_progress=report)
    assert run._counters.tokens >= 2_000
    assert torch.equal(network.head.weight, weights[-1])
    assert not torch.equal(weights[-1], weights[-2])
    assert reports[-1].message.endswith(" nats/answer, kl 0.25")
    assert "valid" not in reports[-1].message
    assert all(point.valid_loss is None and point.unit == "nats/answer" for point in run.history.points)


def test_a_batch_of_weight_zero_changes_nothing() -> None:
    """Only the first half of the text has weights, so some batches have none; that is no divergence."""
    stream = text()
    weights = np.zeros(len(stream))
    weights[: len(stream) // 2] = 1
    config = TrainConfig(tokens=2 * len(stream), batch_size=1, chunk_size=5)
    batches = StreamBatches(stream, config, seed=0, weights=weights)
    torch.manual_seed(0)
    network = Tiny()
    run = Training(
        network, batches, config, objective=next_token, evaluate=lambda: 0.0, evaluation_tokens=1, seed=0
    )  # fmt: skip
    n_empty = 0
    for step in range(2 * batches.n_chunks):
        chunk = batches.batch(step, network)
        assert chunk.weights is not None
        before = network.head.weight.detach().clone()
        run.step()
        is_empty = not chunk.weights.any()
        n_empty += is_empty
        assert torch.equal(network.head.weight, before) == is_empty
        assert run._state, "the text is read all the same"
    assert 0 < n_empty < 2 * batches.n_chunks
    assert run._counters.tokens == 2 * len(stream), "the budget counts all tokens that are read"
    assert not run._counters.divergences
    assert network.head.weight.isfinite().all()


class Machine:
    """A clock that advances while a network is trained: a step takes half a second, and the first one half a minute."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, evaluation_seconds: float = 2.0) -> None:
        self.now, self.is_compiled, self._evaluation_seconds = 0.0, False, evaluation_seconds
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def objective(self, network: Network, chunk: Chunk, state: State) -> Step:
        self.now += 0.5 if self.is_compiled else 30
        self.is_compiled = True
        return next_token(network, chunk, state)

    def evaluate(self) -> float:
        self.now += self._evaluation_seconds
        return -self.now

    def training(self, **changes: Any) -> Training[Chunk]:
        config = TrainConfig(**({"tokens": None, "batch_size": 2, "chunk_size": 10, "seconds": 200} | changes))
        return training(config, objective=self.objective, evaluate=self.evaluate)[0]


def test_a_time_limit_ends_the_run_and_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    run, reports = machine.training(), list[Progress]()
    run.run(on_progress=reports.append)
    assert machine.now == pytest.approx(200, abs=0.6), "the last evaluation included"
    steps = [report.step for report in reports if report.step and report.step.train_loss is not None]
    rates = [step.learning_rate or 0.0 for step in steps]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(run._config.learning_rate, rel=0.05)
    assert 0.03 < peak / len(rates) < 0.08, "the warm-up is 5 % of the steps, although compiling took 15 % of the time"
    assert rates == [*sorted(rates[:peak]), *sorted(rates[peak:], reverse=True)], "up, then down"
    assert rates[-1] < 1.05 * run._config.final_rate * run._config.learning_rate
    evaluations = [point for point in run.history.points if point.valid_loss is not None]
    assert 9 <= len(evaluations) <= 12
    assert (reports[-1].total, reports[-1].unit) == (200, "")
    assert [report.done for report in reports] == sorted(report.done for report in reports)


def test_at_least_half_of_the_time_is_for_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million tokens to evaluate at 40 tokens per second would take much longer than the time that there is."""
    machine = Machine(monkeypatch, evaluation_seconds=90.0)
    run = training(
        TrainConfig(tokens=None, batch_size=2, chunk_size=10, seconds=200),
        objective=machine.objective, evaluate=machine.evaluate, evaluation_tokens=10**6,
    )[0]  # fmt: skip
    run.run()
    assert run.history.points[-1].seconds == pytest.approx(100, abs=1)
    assert machine.now == pytest.approx(190, abs=1)


def test_tokens_end_the_run_if_they_are_read_before_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    run = machine.training(tokens=2_000)
    run.run()
    assert run._counters.tokens == pytest.approx(2_000, abs=20)
    assert machine.now < 110
    last = [point for point in run.history.points if point.learning_rate][-1].learning_rate
    assert last == pytest.approx(run._config.final_rate * run._config.learning_rate, rel=0.05)


def test_a_run_with_a_time_limit_resumes_with_the_time_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)

    def interrupt(progress: Progress) -> None:
        if machine.now > 100:
            raise KeyboardInterrupt

    run = machine.training()
    with pytest.raises(KeyboardInterrupt):
        run.run(checkpoint=Checkpoint(tmp_path / "checkpoint"), on_progress=interrupt)
    machine.now, machine.is_compiled = 10_000.0, False  # later, in another process
    resumed = machine.training()
    resumed.run(checkpoint=Checkpoint(tmp_path / "checkpoint"))
    assert machine.now == pytest.approx(10_100, abs=1.1)
    rates = [point.learning_rate for point in resumed.history.points if point.learning_rate]
    peak = rates.index(max(rates))
    assert rates[peak:] == sorted(rates[peak:], reverse=True), "the schedule goes on"
    assert rates[-1] < 1.05 * run._config.final_rate * run._config.learning_rate
    assert all(point.seconds < 200 for point in resumed.history.points)


def test_training_without_any_end_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="training needs an end: set tokens, or seconds, to a number"):
        TrainConfig(tokens=None)


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


@cache
def uninterrupted() -> dict[str, Any]:
    return fitted(None)


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], name)


@pytest.mark.parametrize(("where", "call"), [("next_token", 7), ("observed_log_probs", 3)])
def test_ctrl_c_at_any_moment_saves_what_is_done(
    where: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the middle of a step, and in the middle of an evaluation."""
    checkpoint, calls, original = Checkpoint(tmp_path / "checkpoint"), 0, getattr(neural_lm, where)

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:  # four calls measure the memory
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(neural_lm, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted(checkpoint)
    assert checkpoint.path.exists()
    assert_same(fitted(Checkpoint(checkpoint.path)), uninterrupted())


def test_an_interruption_inside_an_update_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, calls, original = Checkpoint(tmp_path / "checkpoint"), 0, AdamW.step

    def half_a_step(optimizer: AdamW, learning_rate: float) -> None:
        nonlocal calls
        calls += 1
        original(optimizer, learning_rate)
        if calls == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(AdamW, "step", half_a_step)
        with pytest.raises(KeyboardInterrupt):
            fitted(checkpoint)
    assert load_arrays(checkpoint.path)[1]["n_steps"] == 4
    assert_same(fitted(Checkpoint(checkpoint.path)), uninterrupted())


def test_a_signal_inside_an_update_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, calls, original = Checkpoint(tmp_path / "checkpoint"), 0, AdamW.step
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def half_a_step(optimizer: AdamW, learning_rate: float) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            signal.raise_signal(signal.SIGINT)
        original(optimizer, learning_rate)

    try:
        with monkeypatch.context() as patched:
            patched.setattr(AdamW, "step", half_a_step)
            with pytest.raises(KeyboardInterrupt):
                fitted(checkpoint)
    finally:
        signal.signal(signal.SIGINT, before)
    assert load_arrays(checkpoint.path)[1]["n_steps"] == 5
    assert_same(fitted(Checkpoint(checkpoint.path)), uninterrupted())


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_loop
from lmzoo.checkpoint import Checkpoint
from lmzoo.neural.training import loop
from lmzoo.neural.training.adamw import AdamW

class Deadly(Checkpoint):
    def save(self, arrays, facts):
        super().save(arrays, facts)
        if facts["n_steps"] >= 40:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

loop._SECONDS_BETWEEN_SAVES = 0.0
test_loop.fitted(Deadly(Path(sys.argv[2])))
"""


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(path)]
    killed = subprocess.run(command, check=False, capture_output=True, text=True)
    assert killed.returncode != 0
    assert "Error" not in killed.stderr, killed.stderr
    assert load_arrays(path)[1]["n_steps"] == 40
    assert_same(fitted(Checkpoint(path)), uninterrupted())


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_SAVES", 0.0)
    fitted(Checkpoint(tmp_path / "checkpoint"), seed=3)
    with pytest.raises(TrainingError, match="other data or settings"):
        fitted(Checkpoint(tmp_path / "checkpoint"), seed=4)
