"""Conversion of GPT-2 from and to folders of Hugging Face."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from huggingface_folders import (
    SIZES,
    TEXT,
    C,
    byte_pairs,
    changed,
    gpt2_config,
    pickled,
    rewritten,
    saved_model,
    swapped,
    theirs,
)
from safetensors.torch import load_file, save_file

from lmzoo import EOT, Predictor
from lmzoo.cli import run
from lmzoo.errors import ConfigurationError, LmzooError, SavedModelError, TokenizerError, UsageError
from lmzoo.interchange.huggingface import predictor_from_huggingface, predictor_to_huggingface
from lmzoo.tokenizers.tokenizer import EOT_TEXT


def test_transformers_predicts_what_our_gpt2_does(ours: Predictor, tmp_path: Path) -> None:
    folder = predictor_to_huggingface(ours, tmp_path / "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = "The cat that I"
    ids = tokenizer(text).input_ids[:C]
    assert ids == [EOT, *ours.tokenizer.encode(text).tolist()][:C], "a text starts where documents do"
    assert tokenizer.decode(ids, skip_special_tokens=True) == ours.tokenizer.decode(ids)
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.eos_token) == (EOT, EOT, EOT_TEXT)
    expected = [ours.predict_distribution(ids[1 : n + 1]).log_probs for n in range(len(ids))]
    np.testing.assert_allclose(theirs(folder, ids), expected, rtol=0, atol=1e-5)

    network, info = transformers.GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), "every weight has its place"
    assert network.config.n_positions == C
    greedy = network.generate(torch.tensor([ids[:4]]), do_sample=False, max_new_tokens=C - 4)[0].tolist()
    context = ids[1:4]
    while context[-1] != EOT and len(context) < C - 1:
        context.append(ours.predict_distribution(context).top(1)[0][0])
    assert greedy[1:] == context


def test_there_and_back_is_the_same(ours: Predictor, tmp_path: Path) -> None:
    back = predictor_from_huggingface(predictor_to_huggingface(ours, tmp_path / "hf"))
    assert back.tokenizer.to_json() == ours.tokenizer.to_json()
    assert back.settings == SIZES
    for name, array in ours.model.arrays().items():
        np.testing.assert_array_equal(back.model.arrays()[name], array)
    loaded = Predictor.load(back.save(tmp_path / "back"))
    assert loaded.tokenizer.fingerprint == ours.tokenizer.fingerprint
    assert len(loaded.provenance.source_fingerprint or "") == 64


def test_only_gpt2_is_written(markov_predictor: Predictor, ours: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="only 'gpt2' can be written for Hugging Face; got 'markov'"):
        predictor_to_huggingface(markov_predictor, tmp_path / "hf")
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="exists already and is not overwritten"):
        predictor_to_huggingface(ours, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("variant", ["", "bfloat16", "as published", "sharded", "padded"])
def test_our_gpt2_predicts_what_transformers_does(variant: str, tmp_path: Path) -> None:
    folder, weights = tmp_path / "hf", tmp_path / "hf" / "model.safetensors"
    n_ids = 304 if variant == "padded" else 300
    saved_model(folder, gpt2_config(n_ids, tie_word_embeddings=True), byte_pairs(300))
    if variant == "bfloat16":
        save_file({name: part.bfloat16() for name, part in load_file(weights).items()}, weights, {"format": "pt"})
    if variant == "as published":  # without the prefix, with masks, and the tied output once more
        parts = {name.removeprefix("transformer."): part for name, part in load_file(weights).items()}
        mask = torch.ones(1, 1, C, C).tril()
        save_file({**parts, "h.0.attn.bias": mask, "lm_head.weight": parts["wte.weight"].clone()}, weights)
    back = {"bfloat16": torch.bfloat16}.get(variant)
    network = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    if variant == "sharded":
        weights.unlink()
        network.save_pretrained(folder, max_shard_size="20KB")
        assert len(list(folder.glob("*.safetensors"))) > 1
    assert back is None or next(iter(load_file(weights).values())).dtype == back

    predictor = predictor_from_huggingface(folder)
    assert predictor.model.vocab_size == predictor.tokenizer.vocab_size == n_ids
    assert predictor.settings == {"d_model": 16, "n_layers": 2, "n_heads": 2, "window": C, "dropout": 0.1}
    plain = byte_pairs(300)
    ids = plain.encode("The cats that I saw", add_special_tokens=False).ids[: C - 1]
    own = predictor.tokenizer.encode("The cats that I saw")[: C - 1]
    assert [299 if token_id == EOT else token_id for token_id in own.tolist()] == ids
    with torch.inference_mode():
        expected = network(torch.tensor([[299, *ids]])).logits[0].double().log_softmax(-1).numpy()
    found = np.array([predictor.predict_distribution(own[:n]).log_probs for n in range(len(own) + 1)])
    np.testing.assert_allclose(swapped(found, 299), expected, rtol=0, atol=1e-5)
    assert predictor.tokenizer.decode(predictor.tokenizer.encode(TEXT)) == TEXT
    assert predictor.tokenizer.lossless


REFUSED: dict[str, tuple[Callable[[Path], Any], type[LmzooError], str]] = {
    "another model": (lambda home: changed(home, model_type="llama"), ConfigurationError, "'llama', and only 'gpt2'"),
    "another gelu": (lambda home: changed(home, activation_function="gelu"), ConfigurationError, "'gelu', but gpt2"),
    "scaled by layer": (
        lambda home: changed(home, scale_attn_by_inverse_layer_idx=True),
        ConfigurationError,
        "scale_attn_by_inverse_layer_idx True",
    ),
    "untied": (lambda home: changed(home, tie_word_embeddings=False), ConfigurationError, "tie_word_embeddings False"),
    "untied weights": (
        lambda home: rewritten(home, lambda weights: weights.update({"lm_head.weight": torch.ones(300, 16)})),
        ConfigurationError,
        "lm_head.weight differs from wte.weight",
    ),
    "another width": (lambda home: changed(home, n_inner=40), ConfigurationError, "n_inner 40, but gpt2 needs 4 x"),
    "two marks": (lambda home: changed(home, bos_token_id=5), ConfigurationError, "gpt2 needs the same id for both"),
    "sizes that are none": (lambda home: changed(home, n_layer="2"), ConfigurationError, "n_layers must be a whole"),
    "end outside": (lambda home: changed(home, eos_token_id=300), SavedModelError, "eos_token_id 300, but .* 0 to 299"),
    "more layers than weights": (
        lambda home: changed(home, n_layer=10**12),
        SavedModelError,
        r"lack the tensor 'h.2.ln_1.weight'",
    ),
    "more positions than weights": (
        lambda home: changed(home, n_positions=10**12),
        SavedModelError,
        r"'wpe.weight' in .* has shape \(16, 16\) and type F32; config.json needs shape \(1000000000000, 16\)",
    ),
    "whole numbers for weights": (
        lambda home: rewritten(
            home, lambda weights: weights.update({"transformer.ln_f.bias": torch.ones(16, dtype=torch.int32)})
        ),
        SavedModelError,
        "'ln_f.bias' in .* has shape .16,. and type I32",
    ),
    "a pickle": (pickled, SavedModelError, "pytorch_model.bin is a pickle.* convert the weights to safetensors"),
    "no weights": (lambda home: (home / "model.safetensors").unlink(), SavedModelError, "there are no weights"),
    "half of the weights": (
        lambda home: (home / "model.safetensors").write_bytes((home / "model.safetensors").read_bytes()[:-9]),
        SavedModelError,
        "damaged or not a safetensors file",
    ),
    "no tokenizer": (lambda home: (home / "tokenizer.json").unlink(), SavedModelError, "tokenizer.json is missing"),
    "a damaged tokenizer": (
        lambda home: (home / "tokenizer.json").write_text("{", encoding="utf-8"),
        TokenizerError,
        r"hf.tokenizer\.json: this tokenizer\.json is damaged",
    ),
    "a damaged configuration": (
        lambda home: (home / "config.json").write_text("[1]", encoding="utf-8"),
        SavedModelError,
        "does not hold a JSON object",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_our_gpt2_cannot_be_is_refused(case: str, others: dict[str, Path], tmp_path: Path) -> None:
    damage, kind, message = REFUSED[case]
    home = tmp_path / "hf"
    shutil.copytree(others["gpt2"], home)
    damage(home)
    with pytest.raises(kind, match=message) as caught:
        predictor_from_huggingface(home)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"eos_token_id": [299]}, ""),
        ({"eos_token_id": [299, 5]}, ""),
        ({"bos_token_id": None}, ""),
        (
            {"eos_token_id": []},
            "has eos_token_id None, but the id that ends texts must be a whole number from 0 to 299",
        ),
        ({"eos_token_id": None, "bos_token_id": None}, "has eos_token_id None"),
        ({"eos_token_id": -1, "bos_token_id": None}, "has eos_token_id -1"),
        ({"eos_token_id": 300, "bos_token_id": None}, "has eos_token_id 300"),
        ({"bos_token_id": 300}, "has bos_token_id 300, but the id that starts documents"),
    ],
)
def test_both_readers_decide_special_ids_alike(
    ids: dict[str, Any], message: str, others: dict[str, Path], tmp_path: Path
) -> None:
    home = tmp_path / "hf"
    shutil.copytree(others["gpt2"], home)
    changed(home, **ids)
    for read in (predictor_from_huggingface, Predictor.load):
        if message:
            with pytest.raises(SavedModelError, match=message):
                read(home)
        else:
            predictor = read(home)
            assert predictor.settings["window"] == C
            distribution = predictor.predict_distribution("The")
            expected = predictor_from_huggingface(others["gpt2"]).predict_distribution("The")
            np.testing.assert_allclose(distribution.log_probs, expected.log_probs, atol=1e-5)


def test_an_index_cannot_point_out_of_its_folder(others: dict[str, Path], tmp_path: Path) -> None:
    home = tmp_path / "hf"
    shutil.copytree(others["gpt2"], home)
    (home / "model.safetensors").rename(home / "model-1.safetensors")
    index = {"weight_map": {"transformer.wte.weight": "../secret.safetensors"}}
    (home / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(SavedModelError, match="must name files of the same folder"):
        predictor_from_huggingface(home)


def test_convert(ours: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, there, back = (str(tmp_path / name) for name in ("home", "hf", "back"))
    ours.save(home)
    assert run(["convert", home, there, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n_parameters"] == ours.model.n_parameters
    assert run(["convert", there, back]) == 0
    assert f"parameters, written to {back}" in capsys.readouterr().err
    assert run(["convert", there, back]) == 0, "an older predictor is replaced"
    assert "read from: hf" in (tmp_path / "back" / "README.md").read_text(encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run(["convert", home, str(tmp_path / "gpt2.arpa.gz")]) == 2
    assert "only n-gram models can be written as ARPA files, but this is a 'gpt2' model" in capsys.readouterr().err
    assert run(["convert", home, there]) == 2
    assert run(["convert", there, back, "--tokenizer", home]) == 2
    (Path(there) / "config.json").rename(Path(there) / "config")
    assert run(["convert", there, back]) == 1
    (Path(there) / "config").rename(Path(there) / "config.json")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


def test_nothing_of_it_is_imported_before_it_is_needed(saved: Path) -> None:
    code = (
        "import sys; from lmzoo import Predictor; Predictor.load(sys.argv[1]).top_tokens('a');"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"
