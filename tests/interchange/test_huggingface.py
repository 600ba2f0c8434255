"""Hugging Face: gpt2 there and back, and causal models of others, next to transformers itself."""

from __future__ import annotations

import json
import math
import re
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
from safetensors.torch import load_file, save_file

import tokenizers
from conftest import small_texts
from lmzoo import EOT, Predictor, train_tokenizer, zoo
from lmzoo.cli import run
from lmzoo.errors import ConfigurationError, LmzooError, MissingExtraError, SavedModelError, TokenizerError, UsageError
from lmzoo.interchange.huggingface import predictor_from_huggingface, predictor_to_huggingface
from lmzoo.models.pretrained import PretrainedLM, read_pretrained
from lmzoo.stream import TokenStream
from lmzoo.testing import (
    Law,
    Specimen,
    boundaries,
    generates_what_it_predicts,
    normalised,
    one_truth,
    states_are_values,
    survives_saving,
    window,
)
from lmzoo.tokenizers import adopt_tokenizer
from lmzoo.tokenizers.tokenizer import EOT_TEXT
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = small_texts(10)
TEXT = "The cats that I saw were néar 川<|endoftext|>  ."
C = 16
SIZES: dict[str, Any] = {"d_model": 16, "n_layers": 2, "n_heads": 2, "window": C, "dropout": 0.2}


def stirred(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights, biases among them, large enough that every input and its place matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def byte_pairs(vocab_size: int, ending: str = "<|endoftext|>") -> tokenizers.Tokenizer:
    """As GPT-2's: its end of text is the last id."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    backend.add_special_tokens([ending])
    return backend


def byte_fallback() -> tokenizers.Tokenizer:
    """As Llama's: <unk> 0, <s> 1, </s> 2, bytes for what is no character of the texts, ▁ for spaces."""
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    marks = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=360, special_tokens=marks, show_progress=False))
    description = json.loads(backend.to_str())
    description["added_tokens"] = description["added_tokens"][:3]
    backend = tokenizers.Tokenizer.from_str(json.dumps(description))
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return backend


def saved_model(folder: Path, config: Any, backend: tokenizers.Tokenizer) -> Path:
    torch.manual_seed(0)
    stirred(transformers.AutoModelForCausalLM.from_config(config)).save_pretrained(folder)
    backend.save(str(folder / "tokenizer.json"))
    return folder


def gpt2_config(vocab_size: int = 300, **changes: Any) -> transformers.GPT2Config:
    ends = {"bos_token_id": 299, "eos_token_id": 299}
    sizes = {"n_positions": C, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
    return transformers.GPT2Config(vocab_size=vocab_size, **{**sizes, **ends, **changes})


def llama_config(**changes: Any) -> transformers.LlamaConfig:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": C, "initializer_range": 0.3}
    return transformers.LlamaConfig(**{"vocab_size": 360, "num_key_value_heads": 1, **sizes, **ends, **changes})


def neox_config(**changes: Any) -> transformers.GPTNeoXConfig:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": C, "initializer_range": 0.3}
    return transformers.GPTNeoXConfig(**{"vocab_size": 310, **sizes, **ends, **changes})


def whitespace_pairs() -> tokenizers.Tokenizer:
    """As GPT-NeoX's: its end of text is id 0, and runs of spaces are added tokens that texts give."""
    backend = byte_pairs(300)
    description = json.loads(backend.to_str())
    vocab = {"<|endoftext|>": 0} | {entry: number + 1 for entry, number in description["model"]["vocab"].items()}
    description["model"]["vocab"] = vocab
    description["added_tokens"][0]["id"] = 0
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    description["added_tokens"].append({"id": 300, "content": "   ", **plain})
    return tokenizers.Tokenizer.from_str(json.dumps(description))


OTHERS: dict[str, tuple[Callable[..., Any], Callable[[], tokenizers.Tokenizer], int, int]] = {
    # configuration, tokenizer, start and end of text
    "gpt2": (gpt2_config, lambda: byte_pairs(300), 299, 299),
    "llama": (llama_config, byte_fallback, 1, 2),
    "gpt-neox": (neox_config, whitespace_pairs, 0, 0),
}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("others")
    return {name: saved_model(home / name, config(), make()) for name, (config, make, *_) in OTHERS.items()}


@torch.inference_mode()
def theirs(folder: Path, ids: list[int]) -> np.ndarray:
    """(T, V) what transformers predicts after each of the ids, in its own."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return network(torch.tensor([ids])).logits[0].double().log_softmax(-1).numpy()


def swapped(log_probs: np.ndarray, eot_id: int) -> np.ndarray:
    """Theirs in our ids, or ours in theirs."""
    order = np.arange(log_probs.shape[-1])
    order[[EOT, eot_id]] = order[[eot_id, EOT]]
    return log_probs[..., order]


# ---- gpt2 there ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["bpe:300", "char", "word:1"])
def ours(request: pytest.FixtureRequest) -> Predictor:
    tokenizer = train_tokenizer(request.param, TEXTS)
    model = zoo.create("gpt2", tokenizer.vocab_size, **SIZES)
    network = stirred(model.fresh_network(1))
    model.load_arrays({name: part.detach().numpy() for name, part in network.named_parameters()})
    return Predictor(tokenizer, model, "gpt2", SIZES)


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
        context.append(ours.predict_distribution(context).argmax())
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
    with pytest.raises(ConfigurationError, match="only gpt2 can be written for Hugging Face, and this is a 'markov'"):
        predictor_to_huggingface(markov_predictor, tmp_path / "hf")
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="left as it is"):
        predictor_to_huggingface(ours, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# ---- gpt2 here -----------------------------------------------------------------------------------


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


def changed(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


REFUSED: dict[str, tuple[Callable[[Path], Any], type[LmzooError], str]] = {
    "another model": (lambda home: changed(home, model_type="llama"), ConfigurationError, "'llama', and only 'gpt2'"),
    "another gelu": (lambda home: changed(home, activation_function="gelu"), ConfigurationError, "'gelu', and gpt2"),
    "scaled by layer": (
        lambda home: changed(home, scale_attn_by_inverse_layer_idx=True),
        ConfigurationError,
        "scale_attn_by_inverse_layer_idx True",
    ),
    "untied": (lambda home: changed(home, tie_word_embeddings=False), ConfigurationError, "tie_word_embeddings False"),
    "untied weights": (
        lambda home: rewritten(home, lambda weights: weights.update({"lm_head.weight": torch.ones(300, 16)})),
        ConfigurationError,
        "the output lm_head.weight is not the input",
    ),
    "another width": (lambda home: changed(home, n_inner=40), ConfigurationError, "n_inner 40, and gpt2 is 4 x"),
    "two marks": (lambda home: changed(home, bos_token_id=5), ConfigurationError, "one id starts and ends texts"),
    "sizes that are none": (lambda home: changed(home, n_layer="2"), ConfigurationError, "n_layers must be a whole"),
    "end outside": (lambda home: changed(home, eos_token_id=300), ConfigurationError, "from 0 to 299, got 300"),
    "more layers than weights": (
        lambda home: changed(home, n_layer=10**12),
        SavedModelError,
        r"lack 'h.2.ln_1.weight'",
    ),
    "more positions than weights": (
        lambda home: changed(home, n_positions=10**12),
        SavedModelError,
        r"'wpe.weight' in .* is \(16, 16\) F32, and config.json needs \(1000000000000, 16\)",
    ),
    "whole numbers for weights": (
        lambda home: rewritten(
            home, lambda weights: weights.update({"transformer.ln_f.bias": torch.ones(16, dtype=torch.int32)})
        ),
        SavedModelError,
        "'ln_f.bias' in .* is .16,. I32",
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
        "is damaged",
    ),
    "a damaged configuration": (
        lambda home: (home / "config.json").write_text("[1]", encoding="utf-8"),
        SavedModelError,
        "holds no JSON object",
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


def test_an_index_cannot_point_out_of_its_folder(others: dict[str, Path], tmp_path: Path) -> None:
    home = tmp_path / "hf"
    shutil.copytree(others["gpt2"], home)
    (home / "model.safetensors").rename(home / "model-1.safetensors")
    index = {"weight_map": {"transformer.wte.weight": "../secret.safetensors"}}
    (home / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(SavedModelError, match="must give names of files in the same folder"):
        predictor_from_huggingface(home)


# ---- Tokenizers of others ------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_a_tokenizer_of_others_keeps_its_tokens(name: str) -> None:
    config, make, start_id, eot_id = OTHERS[name]
    plain, vocab_size = make(), config().vocab_size
    plain.encode_special_tokens = True
    tokenizer = adopt_tokenizer(plain.to_str(), eot_id=eot_id, vocab_size=vocab_size)
    assert (tokenizer.vocab_size, tokenizer.kind, tokenizer.lossless) == (vocab_size, "bpe", True)
    for text in [*TEXTS[:2], TEXT, "a   b", "<s></s><unk>", "", " x"]:
        ids = tokenizer.encode(text)
        swap = {EOT: eot_id, eot_id: EOT}
        assert [swap.get(i, i) for i in ids.tolist()] == plain.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == text
        joined = b"".join(tokenizer.token_bytes(token_id) for token_id in ids.tolist())
        assert joined.removeprefix(b" " if name == "llama" else b"") == text.encode()
        pieces = tokenizer.pieces(text)
        assert [piece.token_id for piece in pieces] == ids.tolist()
        if name != "llama":
            covered = {place for piece in pieces for place in range(piece.start, piece.end)}
            assert covered == set(range(len(text)))
    marks = {EOT, start_id} if start_id != eot_id else {EOT}
    assert all(tokenizer.token_bytes(token_id) == b"" for token_id in marks)
    assert tokenizer.decode([*marks]) == ""
    again = type(tokenizer).from_json(tokenizer.to_json())
    assert again.fingerprint == tokenizer.fingerprint
    assert "<s>" in tokenizer.token_text(1) or name != "llama"


@pytest.mark.parametrize(
    ("normalizer", "lossless"),
    [(None, True), (normalizers.NFC(), True), (normalizers.Lowercase(), False), (normalizers.NFKC(), False)],
)
def test_a_tokenizer_that_changes_texts_is_not_lossless(normalizer: Any, lossless: bool) -> None:
    plain = byte_pairs(300)
    if normalizer is not None:
        plain.normalizer = normalizer
    assert adopt_tokenizer(plain.to_str(), eot_id=299, vocab_size=300).lossless is lossless


def test_tokenizers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TokenizerError, match="has no id 300, which ends texts"):
        adopt_tokenizer(byte_pairs(300).to_str(), eot_id=300, vocab_size=310)
    with pytest.raises(TokenizerError, match="has id 280, and its model knows 280 ids only"):
        adopt_tokenizer(byte_pairs(300).to_str(), eot_id=0, vocab_size=280)
    unigram = tokenizers.Tokenizer(models.Unigram([("<s>", 0.0), ("a", -1.0)], unk_id=0))
    with pytest.raises(TokenizerError, match="of type Unigram; lmzoo reads BPE"):
        adopt_tokenizer(unigram.to_str(), eot_id=0, vocab_size=2)


# ---- Models of others ----------------------------------------------------------------------------


def toy(name: str) -> PretrainedLM:
    """Twelve ids and few positions; the start and the end of a text as in the model."""
    config, _, start_id, eot_id = OTHERS[name]
    start_id, eot_id = min(start_id, 5), min(eot_id, 5)
    positions = {"gpt2": "n_positions"}.get(name, "max_position_embeddings")
    torch.manual_seed(0)
    made = config(vocab_size=12, bos_token_id=start_id, eos_token_id=eot_id, **{positions: 7})
    network = transformers.AutoModelForCausalLM.from_config(made)
    return PretrainedLM(stirred(network), start_id=start_id, eot_id=eot_id, window=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "law",
    [boundaries, one_truth, window, normalised, states_are_values, survives_saving, generates_what_it_predicts],
    ids=lambda law: law.__name__,
)
@pytest.mark.parametrize("name", OTHERS)
def test_models_of_others_keep_the_laws(name: str, law: Law, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmzoo.models.pretrained._BATCH_INPUTS", 20)  # several batches,
    monkeypatch.setattr("lmzoo.models.pretrained._BLOCK_ELEMENTS", 100)  # and several pieces of each
    specimen = Specimen(lambda vocab_size: toy(name), tolerance=1e-4)
    specimen.fitted = toy(name)
    law(specimen)


@pytest.mark.parametrize("name", OTHERS)
def test_surprisals_are_those_of_transformers(name: str, others: dict[str, Path]) -> None:
    _, make, start_id, eot_id = OTHERS[name]
    predictor, plain = Predictor.load(others[name]), make()
    plain.encode_special_tokens = True
    text = "The cats"
    ids = [start_id, *plain.encode(text, add_special_tokens=False).ids, eot_id]
    assert len(ids) <= C
    direct = theirs(others[name], ids)[np.arange(len(ids) - 1), ids[1:]]
    found = [token.surprisal_bits for token in predictor.surprisals(text)]
    np.testing.assert_allclose(found, -direct / math.log(2), rtol=0, atol=1e-4)
    after = predictor.predict_distribution(text).log_probs
    np.testing.assert_allclose(swapped(after, eot_id), theirs(others[name], ids[:-1])[-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("length", [C - 1, C, C + 1, 3 * C])
def test_longer_documents_are_read_in_anchored_windows(name: str, length: int, others: dict[str, Path]) -> None:
    _, _, start_id, eot_id = OTHERS[name]
    _, model = read_pretrained(others[name])
    context = np.random.default_rng(length).integers(3, 290, length)
    inputs = [start_id, *context.tolist()]
    step = C // 2  # the last multiple of it that leaves at least C - S inputs before the last one
    begin = 0 if length < C else max(s for s in range(0, length, step) if length - s >= C - step)
    window_inputs = inputs[begin:]
    if start_id != eot_id:
        window_inputs[0] = start_id
    expected = theirs(others[name], window_inputs)[-1]
    np.testing.assert_allclose(
        swapped(model.predict_distribution(context).log_probs, eot_id), expected, rtol=0, atol=1e-5
    )
    scored = model.log_probs(TokenStream.from_documents([[7, 8], context]))
    assert scored[-1] == pytest.approx(expected[eot_id], abs=1e-5)


def test_positions_of_the_model_are_its_window_and_fewer_may_be_asked_for(others: dict[str, Path]) -> None:
    assert read_pretrained(others["llama"])[1].window == C
    assert read_pretrained(others["llama"], window=5)[1].window == 5
    with pytest.raises(ConfigurationError, match="window must be a whole number of at least 2, got 1"):
        read_pretrained(others["llama"], window=1)


def test_models_that_cannot_be_read_with_are_refused() -> None:
    bert = transformers.BertConfig(
        vocab_size=12, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(ConfigurationError, match="it is not causal"):
        PretrainedLM(transformers.BertLMHeadModel(bert), start_id=0, eot_id=0, window=8)
    first = transformers.OpenAIGPTConfig(vocab_size=12, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    with pytest.raises(ConfigurationError, match="keeps no keys and values"):
        PretrainedLM(transformers.OpenAIGPTLMHeadModel(first), start_id=0, eot_id=0, window=8)


UNREADABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickle": (pickled, "is a pickle"),
    "no weights": (lambda home: (home / "model.safetensors").unlink(), "there are no weights"),
    "no tokenizer": (lambda home: (home / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "an unknown kind": (lambda home: changed(home, model_type="nonsense"), "transformers cannot read"),
    "code of its own": (
        lambda home: changed(
            home, model_type="mine", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
        ),
        "transformers cannot read",
    ),
    "a weight is missing": (
        lambda home: rewritten(home, lambda weights: weights.pop("transformer.h.1.ln_2.weight")),
        "h.1.ln_2.weight is missing or of another shape",
    ),
    "other sizes": (lambda home: changed(home, n_embd=32), "transformers cannot read|missing or of another shape"),
    "no end of text": (lambda home: changed(home, eos_token_id=None), "must name the id that ends texts"),
    "a start outside": (lambda home: changed(home, bos_token_id=1000), "has bos_token_id 1000 and vocab_size 300"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_folders_that_cannot_be_read(case: str, others: dict[str, Path], tmp_path: Path) -> None:
    damage, message = UNREADABLE[case]
    home = tmp_path / "hf"
    shutil.copytree(others["gpt2"], home)
    (home / "evil.py").write_text("raise SystemExit('code of a folder ran')", encoding="utf-8")
    damage(home)
    with pytest.raises(SavedModelError, match=message) as caught:
        Predictor.load(home)
    assert "\n" not in str(caught.value)


def test_without_transformers(others: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lmzoo\[hf\]'"):
        Predictor.load(others["llama"])
    assert predictor_from_huggingface(others["gpt2"]).species == "gpt2", "converting needs none"


def test_what_is_not_of_the_zoo_is_not_saved_or_fitted(others: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(others["llama"])
    with pytest.raises(UsageError, match="'huggingface' is no species of the zoo"):
        predictor.save(tmp_path / "copy")
    with pytest.raises(UsageError, match="fitted elsewhere"):
        predictor.model.fit(None)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


# ---- The command line ----------------------------------------------------------------------------


def test_commands_take_the_folder(
    others: dict[str, Path], corpus_folder: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(others["llama"])
    assert run(["evaluate", home, str(saved), "--corpus", str(corpus_folder), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    record, other = map(json.loads, captured.out.splitlines())
    assert (record["species"], record["label"], record["settings"]) == (
        "huggingface",
        "llama",
        {"path": home, "window": C},
    )
    assert record["bits_per_byte"] > 0
    assert record["n_bytes"] == other["n_bytes"]
    assert record["versions"]["transformers"] == transformers.__version__
    assert run(["evaluate", home]) == 2
    assert "name a text with --corpus" in capsys.readouterr().err
    assert run(["predict", "The cat", "-p", home, "-k", "3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["top"]) == 3
    assert run(["generate", "The cat", "-p", home, "--max-tokens", "30", "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("The cat")


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
    assert run(["convert", home, there]) == 2
    assert run(["convert", there, back, "--tokenizer", home]) == 2
    (Path(there) / "config.json").rename(Path(there) / "config")
    assert run(["convert", there, back]) == 1
    (Path(there) / "config").rename(Path(there) / "config.json")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


# ---- The page ------------------------------------------------------------------------------------


def test_the_page_runs(
    ours: Predictor,
    others: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "huggingface.md").read_text(encoding="utf-8")
    ours.save(tmp_path / "runs" / "mine")
    shutil.copytree(others["llama"], tmp_path / "hf" / "mine-too")
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
        exec(block, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("bits")
    assert len(lines) > 1, "and what was drawn"


def test_nothing_of_it_is_imported_before_it_is_needed(saved: Path) -> None:
    code = (
        "import sys; from lmzoo import Predictor; Predictor.load(sys.argv[1]).top_tokens('a');"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"
