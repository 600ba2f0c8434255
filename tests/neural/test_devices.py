"""Devices, and the memory that training needs.

The tests need no graphics card. Instead of moving the network, they change torch's default device to "meta", whose
tensors have no data: a tensor created without an explicit device then fails in its first operation with a CPU tensor.
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
from lmzoo.neural.devices import CPU, autocast, find_device, has_bfloat16
from lmzoo.neural.neural_lm import NeuralLM
from lmzoo.neural.objectives.next_token import next_token
from lmzoo.neural.objectives.sampled import SampledSoftmax
from lmzoo.neural.training.footprint import allocated_bytes, chunk_bytes
from lmzoo.stream import EOT
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
    with pytest.raises(ConfigurationError, match="no device 'cuda': choose auto, cpu"):
        find_device("cuda")
    for species, settings in {"mixture": {"members": ["unigram", "lstm"]}, "cache": {"static": "lstm"}}.items():
        with pytest.raises(ConfigurationError, match="no device 'mps'"):
            zoo.create(species, V, device="mps", **settings)
    with pytest.raises(UnknownNameError, match="did you mean 'cuda'"):
        zoo.create("unigram", V, device="cudo")  # pyright: ignore[reportArgumentType]
    assert "device" not in zoo.defaults("lstm")
    assert zoo.create("lstm", V).device_name == "cpu"
    assert zoo.create("unigram", V, device="auto").device_name is None

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
    with pytest.raises(ConfigurationError, match="no device 'mps' for 6 processes: choose auto, cuda or cpu"):
        find_device("mps")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigurationError, match="3 processes on this machine need one cuda device each, but it has 2"):
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
        ({"d_hidden": 10**9}, "d_embed or d_hidden or batch_size"),  # arrays of more than 2^63 bytes
        ({"d_hidden": 2**62}, "d_embed or d_hidden or batch_size"),  # arrays with sides that are not int64
        ({"training": {**SHORT, "batch_size": 10_000_000}}, "batch_size or chunk_size"),
        ({"training": {**SHORT, "chunk_size": 100_000_000}}, "batch_size or chunk_size"),
    ],
)
def test_what_memory_cannot_hold_is_refused_at_once(settings: dict[str, Any], lower: str) -> None:
    before = psutil.Process().memory_info().rss
    with pytest.raises(TrainingError, match=rf"needs about [\d,.]+ GB .* [\d,.]+ GB are free: .*{lower}"):
        zoo.create("lstm", V, **settings).fit(toy_data(V))
    assert psutil.Process().memory_info().rss - before < 200e6


@pytest.mark.parametrize("name", SPECIES)
def test_small_chunks_tell_what_a_large_one_takes(name: str) -> None:
    """The extrapolated memory of a chunk agrees with the memory measured at twice the batch size and chunk size."""
    model = zoo.create(name, V, **SPECIES[name])
    assert isinstance(model, NeuralLM)
    network = model.fresh_network(0)
    most = max(allocated_bytes(network, next_token, model.training, 16, 64))
    gradients = sum(parameter.numel() * 4 for parameter in network.parameters())
    found = chunk_bytes(network, next_token, model.training, 16, 64)
    assert 0.6 * (most - gradients) < found < 2 * most


def test_the_memory_is_that_of_the_objective_in_use() -> None:
    """A full softmax over many tokens holds more than one over a few samples."""
    vocab_size = 20_000
    model = zoo.create("lstm", vocab_size, d_embed=8, d_hidden=8)
    assert isinstance(model, NeuralLM)
    network = model.fresh_network(0)
    sampled = SampledSoftmax(torch.full((vocab_size,), 1 / vocab_size), 50)
    after_forward = [allocated_bytes(network, one, model.training, 2, 8)[0] for one in (next_token, sampled)]
    assert after_forward[1] < 0.5 * after_forward[0]


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


@pytest.mark.slow
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


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False)])
def test_the_environment_overrides_the_processor(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    by_processor = has_bfloat16(CPU)
    monkeypatch.setenv("LMZOO_BFLOAT16", value)
    assert has_bfloat16(CPU) is expected
    with autocast(None):
        assert torch.is_autocast_enabled("cpu") is expected
    monkeypatch.setenv("LMZOO_BFLOAT16", "")
    assert has_bfloat16(CPU) is by_processor
