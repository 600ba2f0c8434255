"""Several processes: the same training as in one, and one predictor of it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lmzoo import Predictor, zoo
from lmzoo.arrays import Arrays, load_arrays, save_arrays
from lmzoo.checkpoint import Checkpoint
from lmzoo.cli import run
from lmzoo.errors import ConfigurationError, UsageError
from lmzoo.experiments.compare import compare
from lmzoo.language_model import LanguageModel
from lmzoo.models.nplm import NPLM
from lmzoo.neural.network import Network, State
from lmzoo.neural.objectives.next_token import Chunk, next_token, read_chunk
from lmzoo.neural.objectives.objective import Objective, Step
from lmzoo.neural.training import loop
from lmzoo.neural.training.batches import StreamBatches
from lmzoo.neural.training.loop import Training
from lmzoo.neural.training.parallel import ProcessGroup, join_processes
from lmzoo.neural.training.settings import TrainConfig
from lmzoo.stream import TokenStream, TrainingData
from lmzoo.system import jobs

pytestmark = pytest.mark.slow

V = 12
SHORT = {"tokens": 2_000, "batch_size": 4, "chunk_size": 8, "learning_rate": 2e-3, "ema_fraction": 0.2, "bf16": False}
# A faster one would let differences of rounding grow a thousandfold.
SPECIES: dict[str, dict[str, Any]] = {
    "lstm": {"d_embed": 8, "d_hidden": 12},
    "transformer": {"d_model": 16, "n_layers": 2, "n_heads": 2, "window": 8},
    "low-rank-hmm": {"n_states": 8, "rank": 4, "d_embed": 8, "state_dropout": 0.0},
}


def data() -> TrainingData:
    rng = np.random.default_rng(0)
    walks = [(rng.integers(1, V) + np.arange(50) * rng.integers(1, 4)) % (V - 1) + 1 for _ in range(20)]
    return TrainingData(TokenStream.from_documents(walks), TokenStream.from_documents(walks[:3]))


def fitted(name: str, checkpoint: Checkpoint | None = None, **settings: Any) -> LanguageModel[Any]:
    training = {**SHORT, **settings.pop("training", {})}
    model = zoo.create(name, V, **SPECIES[name], **settings, training=training)
    return model.fit(data(), seed=3, checkpoint=checkpoint)


def masked(network: Network, chunk: Chunk, state: State) -> Step:
    """Learns from targets below 4 only, so that the sum of weights differs between processes."""
    hidden, state = read_chunk(network, chunk, state)
    weights = (chunk.targets < 4).float()
    return Step(network.cross_entropy(hidden, chunk.targets.flatten(), weights.flatten()), weights.sum(), state)


def fitted_with_mask(objective: Objective = masked, weights: NDArray[np.float64] | None = None) -> Arrays:
    """The weights of a network after 30 steps with an objective, in as many processes as there are."""
    group = join_processes(torch.device("cpu"))
    config = TrainConfig(tokens=30 * 32, batch_size=4, chunk_size=8, learning_rate=2e-3, bf16=False)
    torch.manual_seed(0)
    network = NPLM(V, order=3, d_embed=4, d_hidden=6, direct=False, dropout=0.0)
    batches = StreamBatches(data().train, config, seed=0, rows=group.rows_of(config.batch_size), weights=weights)
    Training(
        network, batches, config, objective=objective, evaluate=itertools.count(9, -1).__next__, evaluation_tokens=1,
        seed=0, group=group,
    ).run()  # fmt: skip
    return {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}


def fitted_with_rare_weights() -> Arrays:
    """The weights of a network after 30 steps in which a process, or all of them, often has no target of weight 1."""
    weights = np.zeros(len(data().train))
    weights[::60] = 1
    return fitted_with_mask(next_token, weights)


def run_two(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python program in two processes that find each other on a free port; none outlives the time limit."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends its processes, at the latest after half a minute
            try:
                process.wait(timeout=45)
            finally:
                process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "script.py"
    head = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_parallel\n"
    path.write_text(head + text, encoding="utf-8")
    return str(path)


EVERYTHING = """
import atexit, weakref
from pathlib import Path
import numpy as np
from torch import distributed as dist
from lmzoo.arrays import save_arrays
from lmzoo.neural import neural_lm
from lmzoo.system.placement import this_process

rank, folder = this_process().rank, Path(sys.argv[1])
atexit.register(lambda: sys.stdout.write("held\\n" if group() else "gone\\n"))  # after what lmzoo registers
arrays = {name: test_parallel.fitted(name).arrays() for name in test_parallel.SPECIES}
arrays["dropout"] = test_parallel.fitted("lstm", dropout=0.3).arrays()
arrays["seconds"] = test_parallel.fitted("lstm", training={"tokens": 10**9, "seconds": 0.3}).arrays()

arrays["masked"] = test_parallel.fitted_with_mask()
arrays["rare"] = test_parallel.fitted_with_rare_weights()

n_calls, real = 0, neural_lm.next_token
def diverging(*arguments):
    global n_calls
    n_calls += 1
    step = real(*arguments)
    return step._replace(total=step.total * np.nan) if rank == 1 and n_calls == 14 else step  # 4 calls measure memory
neural_lm.next_token = diverging
arrays["diverging"] = test_parallel.fitted("lstm").arrays()
save_arrays(folder / str(rank), {f"{run}/{name}": a for run, own in arrays.items() for name, a in own.items()})
group = weakref.ref(dist.group.WORLD)
"""


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> list[Arrays]:
    """What each of two processes learned in several runs."""
    folder = tmp_path_factory.mktemp("learned")
    done = run_two(script(folder, EVERYTHING), str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["gone", "gone"], "a group whose threads outlive Python's end may abort there"
    return [load_arrays(folder / str(rank))[0] for rank in (0, 1)]


def test_all_processes_come_to_the_same_model(learned: list[Arrays]) -> None:
    """Also when a clock ends the run, and when the loss of one of them is no number."""
    first, second = learned
    for name, array in first.items():
        assert np.isfinite(array).all(), name
        np.testing.assert_array_equal(array, second[name], name)
    assert any(
        not np.array_equal(first[f"lstm/{name}"], first[f"diverging/{name}"]) for name in fitted("lstm").arrays()
    )


@pytest.mark.parametrize("weights", ["masked", "rare"])
def test_two_processes_of_unequal_weights_learn_what_one_does(weights: str, learned: list[Arrays]) -> None:
    alone = fitted_with_mask() if weights == "masked" else fitted_with_rare_weights()
    torch.manual_seed(0)
    untrained = NPLM(V, order=3, d_embed=4, d_hidden=6, direct=False, dropout=0.0).C.weight.detach().numpy()
    assert np.abs(alone["C.weight"] - untrained).max() > 1e-3
    for name, array in alone.items():
        np.testing.assert_allclose(learned[0][f"{weights}/{name}"], array, rtol=0, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(learned[1][f"{weights}/{name}"], learned[0][f"{weights}/{name}"])


def test_two_processes_learn_what_one_does(learned: list[Arrays]) -> None:
    first = learned[0]
    for name in SPECIES:
        alone = fitted(name)
        for array_name, array in alone.arrays().items():
            np.testing.assert_allclose(first[f"{name}/{array_name}"], array, rtol=0, atol=1e-5, err_msg=array_name)
        own = {array_name: first[f"{name}/{array_name}"] for array_name in alone.arrays()}
        together = zoo.create(name, V, **SPECIES[name]).load_arrays(own)
        losses = [-model.log_probs(data().valid).mean() for model in (alone, together)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
        assert losses[0] < np.log(V) - 0.01, "it learned something"


class Deadly(Checkpoint):
    """A checkpoint whose process is killed after step 40."""

    def save(self, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        super().save(arrays, facts)
        if facts["n_steps"] == 40:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def fit_as(rank: int, port: int, checkpoint: Path, out: Path) -> None:
    """Fits a network as one of two processes; the first of them saves checkpoints and the weights."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    loop._SECONDS_BETWEEN_SAVES = 0.0
    model = fitted("lstm", None if rank else Deadly(checkpoint), dropout=0.3)
    if rank == 0:
        save_arrays(out, model.arrays())


def fit_with_two(checkpoint: Path, out: Path) -> list[int | None]:
    """Fits a network with two processes, which need not import torch on Linux, and returns their exit codes."""
    context = jobs._context(is_network=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = [context.Process(target=fit_as, args=(rank, port, checkpoint, out)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()  # if it has not ended
        process.join()
    return [process.exitcode for process in processes]


def test_killed_processes_resume_to_the_same_model(learned: list[Arrays], tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "out"
    assert 0 not in fit_with_two(checkpoint, out)
    arrays, facts = load_arrays(checkpoint)
    assert facts["n_steps"] == 40
    assert arrays["state.0"].shape == (4, 12), "rows of all processes"
    assert not out.exists()
    assert fit_with_two(checkpoint, out) == [0, 0]
    for name, array in load_arrays(out)[0].items():
        np.testing.assert_array_equal(array, learned[0][f"dropout/{name}"], name)


def test_fit_under_torchrun_writes_one_predictor(corpus_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    settings = "training.tokens=500", "training.batch_size=4", "d_embed=8", "d_hidden=8"
    done = run_two(
        "-m", "lmzoo", "fit", "lstm", "--corpus", str(corpus_folder), "--out", str(out), "--tokenizer=char", "--json",
        *(part for setting in settings for part in ("--set", setting)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["machine"]["n_processes"] == 2
    assert Predictor.load(out).predict_distribution("The ").probs.sum() == pytest.approx(1)


# ---- In one process --------------------------------------------------------------------------------


def test_rows_are_shared_out() -> None:
    config, stream = TrainConfig(batch_size=6, chunk_size=5), data().train
    network = NPLM(V, order=3, d_embed=4, d_hidden=6, direct=False, dropout=0.0)
    whole = StreamBatches(stream, config, seed=1).batch(3, network)
    for part in (0, 1):
        rows = [ProcessGroup(rank, 3).rows_of(6) for rank in range(3)]
        parts = [StreamBatches(stream, config, 1, own).batch(3, network)[part] for own in rows]
        assert [len(rows) for rows in parts] == [2, 2, 2]
        assert torch.equal(torch.cat(parts), whole[part])


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"batch_size must be a multiple of .* 3, .* got 32"):
        ProcessGroup(0, 3).rows_of(32)


def test_what_cannot_run_in_several_processes_says_so(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without torchrun"):
        compare(tmp_path / "run", corpus=corpus_folder)
    assert run(["fit", "unigram", "--corpus=-", "--out", str(tmp_path / "made")]) == 2
    assert "cannot read the same standard input" in capsys.readouterr().err
