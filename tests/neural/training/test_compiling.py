"""Compiled training: the same model, and a word of advice where it cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from lmzoo import zoo
from lmzoo.checkpoint import Checkpoint
from lmzoo.errors import ConfigurationError, TrainingError
from lmzoo.language_model import LanguageModel
from lmzoo.neural.training import loop
from lmzoo.neural.training.compiling import compiled_blocks
from lmzoo.stream import TokenStream, TrainingData

V = 7
SIZES: dict[str, Any] = {"d_model": 8, "n_layers": 2, "n_heads": 2, "window": 4}

# While it compiles, torch warns of what torch does.
pytestmark = pytest.mark.filterwarnings("default")
needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here")


def fitted(
    checkpoint: Checkpoint | None = None,
    *,
    species: str = "transformer",
    sizes: Mapping[str, Any] = SIZES,
    chunk_size: int = 10,
    compiled: bool = True,
) -> LanguageModel[Any]:
    """Returns a model that has read four sequences of 100 ids each, once, in chunks of about `chunk_size` ids.

    A document ends in each chunk, and all chunks have the same size if `chunk_size` divides 100.
    """
    rng = np.random.default_rng(0)
    stream = TokenStream.from_documents(rng.integers(1, V, 4) for _ in range(80))
    training = {"tokens": 400, "batch_size": 4, "chunk_size": chunk_size, "bf16": False, "compiled": compiled}
    return zoo.create(species, V, **sizes, training=training).fit(TrainingData(stream, stream), checkpoint=checkpoint)


def weights(model: LanguageModel[Any]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in model.arrays().values()])


@pytest.mark.parametrize(
    ("species", "sizes"),
    [
        ("transformer", SIZES),
        ("transformer", SIZES | {"convolution": 3, "ngrams": 2}),
        ("transformer-2017", SIZES | {"window": 12}),
        ("gpt2", SIZES | {"window": 12}),
        ("linear-recurrence", {"d_model": 8, "n_layers": 2, "n_heads": 2}),
        ("gated-conv", {"d_model": 8, "n_layers": 2, "width": 3}),
    ],
)
def test_blocks_are_compiled_once_for_each_size_of_chunk(
    species: str, sizes: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, original = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda part, **options: original(part, backend=counter, **options))
    torch.compiler.reset()
    fitted(species=species, sizes=sizes, chunk_size=8)
    assert counter.frame_count == 2, "one for chunks of 8 ids and one for chunks of 9"


@pytest.mark.slow
@needs_compiler
def test_a_compiled_run_learns_the_same_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_kernels: Any = {"species": "gated-conv", "sizes": {"d_model": 8, "n_layers": 2, "width": 3}}
    # Code without vector instructions is compiled in half of the time.
    monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", False)
    compiled_parts, original = [], torch.compile

    def compile_and_count(part: Any, **options: Any) -> Any:
        compiled_parts.append(part)
        return original(part, **options)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "compile", compile_and_count)
        model: Any = fitted(**few_kernels)
    assert len(compiled_parts) == few_kernels["sizes"]["n_layers"]
    assert not any("forward" in vars(block) for block in model.network.blocks)
    np.testing.assert_allclose(weights(model), weights(fitted(compiled=False, **few_kernels)), atol=1e-3)

    save = Checkpoint.save

    def save_and_stop(self: Checkpoint, arrays: Any, facts: Any) -> None:
        save(self, arrays, facts)
        if facts["n_steps"] == 5:
            raise SystemExit

    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", save_and_stop)
        with pytest.raises(SystemExit):
            fitted(Checkpoint(tmp_path / "checkpoint"), **few_kernels)
    torch.compiler.reset()
    np.testing.assert_array_equal(weights(fitted(Checkpoint(tmp_path / "checkpoint"), **few_kernels)), weights(model))


def test_what_has_no_blocks_is_refused() -> None:
    stream = TokenStream.from_documents([[1, 2, 3]])
    model = zoo.create("lstm", V, d_embed=4, d_hidden=4, training={"tokens": 10, "compiled": True})
    with pytest.raises(ConfigurationError, match="network made of blocks"):
        model.fit(TrainingData(stream, stream))


def test_without_triton_it_says_so() -> None:
    """On a graphics card torch compiles with Triton, which some platforms lack."""
    from torch._inductor.exc import TritonMissing

    model: Any = zoo.create("transformer", V, **SIZES)
    network = model.fresh_network(0)
    with pytest.raises(TrainingError, match="needs triton for this graphics card"), compiled_blocks(network):
        raise TritonMissing(None)
    assert not any("forward" in vars(block) for block in network.blocks)


@pytest.mark.slow
def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("there-is-no-such-compiler",))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    with pytest.raises(TrainingError, match=r"g\+\+"):
        fitted()
    torch.compiler.reset()
