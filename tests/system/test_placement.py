"""Devices, and the memory that training takes.

There may be no graphics card here. Instead of the network, the default device is moved: under it, whatever is made
without saying where has no data, and the first sum with something on the processor fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from lmzoo import zoo
from lmzoo.errors import ConfigurationError, TrainingError, UnknownNameError
from lmzoo.neural import footprint
from lmzoo.neural.devices import autocast, find_device
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.stream import EOT
from lmzoo.system.placement import chosen_device, on_device
from lmzoo.testing import toy_data

V = 12
DECODER = {"d_model": 8, "n_layers": 2, "n_heads": 2, "window": 8, "dropout": 0.1}
SPECIES: dict[str, dict[str, Any]] = {
    "nplm": {"direct": True, "dropout": 0.1},
    "rnn": {"dropout": 0.1},
    "lstm": {"n_layers": 2, "dropout": 0.1},
    "gru": {},
    "low-rank-hmm": {"n_states": 8, "rank": 4},
    "transformer": {**DECODER, "ngrams": 3},
    "transformer-2017": DECODER,
    "gpt2": DECODER,
}
SHORT = {"tokens": 500, "batch_size": 4, "chunk_size": 8}


@pytest.mark.parametrize("name", SPECIES)
def test_everything_is_made_where_the_weights_are(name: str) -> None:
    data, model = toy_data(V), zoo.create(name, V, **SPECIES[name], training=SHORT)
    context = [1, 2, EOT, *range(1, V)]

    def everything() -> list[Any]:
        model.fit(data, seed=1)
        state = model.state_after(np.array(context, np.int32))
        return [
            model.arrays()["head.weight" if "head.weight" in model.arrays() else next(iter(model.arrays()))],
            model.log_probs(data.valid),
            model.token_stats(data.valid).entropies,
            model.next_log_probs_after([[], context, [3]]),
            model.next_log_probs(model.advance(state, 3)),
        ]

    expected = everything()
    with torch.device("meta"):
        found = everything()
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_device_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigurationError, match="there is no device cuda here: choose auto, cpu"):
        find_device("cuda")
    with on_device("mps"), pytest.raises(ConfigurationError, match="there is no device mps here"):
        zoo.create("mixture", V, members=["unigram", "lstm"])
    with pytest.raises(UnknownNameError, match="did you mean 'cuda'"), on_device("cudo"):  # pyright: ignore[reportArgumentType]
        pass
    assert chosen_device() == "cpu"

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("auto") == torch.device("cuda", 0)


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for name, value in {"RANK": 5, "WORLD_SIZE": 6, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 3}.items():
        monkeypatch.setenv(name, str(value))
    assert find_device("auto") == torch.device("cuda", 1)
    with pytest.raises(ConfigurationError, match="no device mps here for 6 processes: choose auto, cuda or cpu"):
        find_device("mps")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(
        ConfigurationError, match="3 processes on this machine need a cuda device each, and there are 2"
    ):
        find_device("cuda")


def test_autocast_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with autocast(None, torch.device("cuda")):  # it could only emulate bfloat16
        assert not torch.is_autocast_enabled("cuda")
    with autocast(True):
        assert torch.is_autocast_enabled("cpu")


# ---- Memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "lower"),
    [
        ({"d_hidden": 10_000_000}, "d_embed or d_hidden or batch_size"),
        ({"training": {**SHORT, "batch_size": 10_000_000}}, "batch_size or chunk_size"),
        ({"training": {**SHORT, "chunk_size": 100_000_000}}, "batch_size or chunk_size"),
    ],
)
def test_what_memory_cannot_hold_is_refused_at_once(settings: dict[str, Any], lower: str) -> None:
    before = psutil.Process().memory_info().rss
    with pytest.raises(TrainingError, match=rf"would take about [\d,.]+ GB .* [\d,.]+ GB are free: .*{lower}"):
        zoo.create("lstm", V, **settings).fit(toy_data(V))
    assert psutil.Process().memory_info().rss - before < 200e6


@pytest.mark.parametrize("name", SPECIES)
def test_small_chunks_tell_what_a_large_one_takes(name: str) -> None:
    """The same network, measured at twice the rows and columns of what it is extrapolated from."""
    model = zoo.create(name, V, **SPECIES[name])
    assert isinstance(model, NeuralLM)
    network = model.fresh_network(0)
    most = max(footprint._held(network, model.training, 16, 64))
    gradients = sum(parameter.numel() * 4 for parameter in network.parameters())
    found = footprint.chunk_bytes(network, model.training, 16, 64)
    assert 0.6 * (most - gradients) < found < 2 * most


PEAK = """
import json, sys
import numpy as np
from lmzoo import zoo
from lmzoo.neural import neural_lm
from lmzoo.system.provenance import peak_memory_bytes
from lmzoo.stream import TokenStream, TrainingData

name, settings = sys.argv[1], json.loads(sys.argv[2])
ids = np.random.default_rng(0).integers(0, 2000, 40_000)
data = TrainingData(TokenStream(ids), TokenStream(ids[:500]))
zoo.create(name, 2000, training={"tokens": 300}).fit(data)  # what torch needs once

needed, check = [], neural_lm.check_memory
def noted(footprint, *rest):
    needed.append(sum(footprint))
    check(footprint, *rest)

neural_lm.check_memory = noted
before = peak_memory_bytes()
zoo.create(name, 2000, **settings).fit(data)
print(json.dumps([needed[-1], peak_memory_bytes() - before]))
"""


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lstm", {"training": {"tokens": 30_000, "batch_size": 256}}),
        ("transformer", {"training": {"tokens": 15_000, "batch_size": 128}}),
    ],
)
def test_the_estimate_is_near_the_measured_peak(name: str, settings: dict[str, Any]) -> None:
    command = [sys.executable, "-c", PEAK, name, json.dumps(settings)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    needed, measured = json.loads(done.stdout)
    assert 0.5 < needed / measured < 2
