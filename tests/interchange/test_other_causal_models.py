"""Causal models of Hugging Face that are read without conversion."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from huggingface_folders import (
    OTHERS,
    TEXT,
    TEXTS,
    C,
    byte_pairs,
    changed,
    gpt2_config,
    pickled,
    rewritten,
    saved_model,
    stirred,
    swapped,
    theirs,
)
from tokenizers import models, normalizers

from lmzoo import EOT, Predictor, evaluate
from lmzoo.cli import run
from lmzoo.errors import ConfigurationError, MissingExtraError, SavedModelError, TokenizerError, UsageError
from lmzoo.interchange.huggingface import predictor_from_huggingface
from lmzoo.models.pretrained import PretrainedLM, read_pretrained
from lmzoo.stream import TokenStream
from lmzoo.testing import (
    Law,
    Specimen,
    boundaries,
    generates_what_it_predicts,
    normalised,
    one_truth,
    states_are_not_modified,
    survives_saving,
    window,
)
from lmzoo.tokenizers import adopt_tokenizer
from lmzoo.tokenizers.byte_alphabet import BYTE_CHARACTERS


@pytest.mark.parametrize("name", OTHERS)
def test_a_tokenizer_of_others_keeps_its_tokens(name: str) -> None:
    config, make, start_id, eot_id = OTHERS[name]
    plain, vocab_size = make(), config().vocab_size
    plain.encode_special_tokens = True
    tokenizer = adopt_tokenizer(plain.to_str(), eot_id=eot_id, vocab_size=vocab_size)
    assert (tokenizer.vocab_size, tokenizer.kind) == (vocab_size, "bpe")
    assert tokenizer.lossless is (name != "llama"), "which changes ▁ and a space at the start"
    texts = [*TEXTS, TEXT, "a   b", " x"]
    assert tokenizer.alteration(texts, tokenizer.encode_batch(texts)) == ""
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
    [(None, True), (normalizers.NFC(), False), (normalizers.Lowercase(), False), (normalizers.NFKC(), False)],
)
def test_a_tokenizer_that_changes_texts_is_not_lossless(normalizer: Any, lossless: bool) -> None:
    plain = byte_pairs(300)
    if normalizer is not None:
        plain.normalizer = normalizer
    assert adopt_tokenizer(plain.to_str(), eot_id=299, vocab_size=300).lossless is lossless


def without_bytes(missing: bytes) -> tokenizers.Tokenizer:
    """Returns a tokenizer like that of SmolLM2, which lacks some bytes and has special tokens."""
    description = json.loads(byte_pairs(300).to_str())
    for byte in missing:
        del description["model"]["vocab"][BYTE_CHARACTERS[byte]]
    used = {*description["model"]["vocab"].values(), 299}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    spare = [token_id for token_id in range(300) if token_id not in used]
    description["model"]["vocab"] |= {f"<|{i}|>": i for i in spare}
    description["added_tokens"] += [{"id": i, "content": f"<|{i}|>", **plain} for i in spare]
    return tokenizers.Tokenizer.from_str(json.dumps(description))


def test_bytes_that_a_tokenizer_lacks_are_not_left_out() -> None:
    never = bytes([0xC0, 0xC1, *range(0xF5, 0x100)])
    plain = without_bytes(b"\x04\x06\x13\x14\x16\x1d\xf1\xf2" + never)
    text = "a\x04b\x1d \U00040000\U000bffff\U00012345 é"
    assert plain.decode(plain.encode(text).ids) != text, "else this test shows nothing"
    tokenizer = adopt_tokenizer(plain.to_str(), eot_id=299, vocab_size=300)
    assert tokenizer.lossless
    for one in (text, "\x04", *(chr(plane << 16) for plane in range(17))):
        assert tokenizer.decode(tokenizer.encode(one)) == one
    for text in TEXTS:
        assert [299 if i == EOT else i for i in tokenizer.encode(text).tolist()] == plain.encode(text).ids


def test_without_spare_ids_the_measured_text_decides(tmp_path: Path, corpus_folder: Path) -> None:
    description = json.loads(without_bytes(b"\x04").to_str())
    spare = [token for token in description["added_tokens"] if token["content"] != "<|endoftext|>"]
    for token in spare:
        del description["model"]["vocab"][token["content"]]
        description["added_tokens"].remove(token)
    description["model"]["vocab"]["zz"] = next(
        i for i in range(300) if i not in {*description["model"]["vocab"].values(), 299}
    )
    home = saved_model(tmp_path / "home", gpt2_config(), tokenizers.Tokenizer.from_str(json.dumps(description)))
    predictor = Predictor.load(home)
    assert not predictor.tokenizer.lossless
    (tmp_path / "plain.jsonl").write_text(json.dumps({"text": TEXTS[0]}) + "\n", encoding="utf-8")
    record = evaluate(predictor, tmp_path / "plain.jsonl")
    assert record.lossless
    assert record.bits_per_byte
    (tmp_path / "odd.jsonl").write_text(json.dumps({"text": "a\x04b"}) + "\n", encoding="utf-8")
    record = evaluate(predictor, tmp_path / "odd.jsonl")
    assert record.bits_per_byte is None
    assert record.why_no_bits_per_byte == (
        "document 1 differs after encoding and decoding, from character 1 ('\\x04') on"
    )


def test_transformers_does_not_warn_of_a_padding_token_in_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(transformers.modeling_utils.logger, "warning_once", lambda text, *_: warnings.append(text))
    home = saved_model(tmp_path / "home", gpt2_config(pad_token_id=299), byte_pairs(300))
    Predictor.load(home).predict_distribution("The cat")
    assert [text for text in warnings if "attention_mask" in text] == []


def test_tokenizers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TokenizerError, match="has no token with id 300"):
        adopt_tokenizer(byte_pairs(300).to_str(), eot_id=300, vocab_size=310)
    with pytest.raises(TokenizerError, match="has a token with id 280, but its model has only 280 ids"):
        adopt_tokenizer(byte_pairs(300).to_str(), eot_id=0, vocab_size=280)
    unigram = tokenizers.Tokenizer(models.Unigram([("<s>", 0.0), ("a", -1.0)], unk_id=0))
    with pytest.raises(TokenizerError, match="of type Unigram; lmzoo can read BPE"):
        adopt_tokenizer(unigram.to_str(), eot_id=0, vocab_size=2)


def toy(name: str) -> PretrainedLM:
    """Returns a model with 12 token ids and 7 positions, and with the start and end tokens of its architecture."""
    config, _, start_id, eot_id = OTHERS[name]
    start_id, eot_id = min(start_id, 5), min(eot_id, 5)
    positions = {"gpt2": "n_positions"}.get(name, "max_position_embeddings")
    torch.manual_seed(0)
    made = config(vocab_size=12, bos_token_id=start_id, eos_token_id=eot_id, **{positions: 7})
    network = transformers.AutoModelForCausalLM.from_config(made)
    return PretrainedLM(stirred(network), start_id=start_id, eot_id=eot_id, window=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "law",
    [boundaries, one_truth, window, normalised, states_are_not_modified, survives_saving, generates_what_it_predicts],
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
        "h.1.ln_2.weight is missing or has a wrong shape",
    ),
    "a weight is not a number": (
        lambda home: rewritten(home, lambda weights: weights["transformer.h.1.ln_2.weight"][3].fill_(math.nan)),
        r"the weight 'transformer\.h\.1\.ln_2\.weight' in .* holds NaN or infinity: it is damaged",
    ),
    "a weight is infinite": (
        lambda home: rewritten(home, lambda weights: weights["transformer.wte.weight"][3].fill_(-math.inf)),
        r"the weight 'transformer\.wte\.weight' in .* holds NaN or infinity",
    ),
    "other sizes": (
        lambda home: changed(home, n_embd=32),
        "do not fit its config.json: .* is missing or has a wrong shape",
    ),
    "a pointer to weights": (
        lambda home: (home / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        r"model\.safetensors is a pointer of Git LFS, not the file itself: download it with `git lfs pull`",
    ),
    "no end of text": (
        lambda home: changed(home, eos_token_id=None),
        "has eos_token_id None, but the id that ends texts must be",
    ),
    "a start outside": (
        lambda home: changed(home, bos_token_id=1000),
        "has bos_token_id 1000, but the id that starts documents must be a whole number from 0 to 299",
    ),
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
    with pytest.raises(UsageError, match="'huggingface' is not a registered species"):
        predictor.save(tmp_path / "copy")
    with pytest.raises(UsageError, match="already trained"):
        predictor.model.fit(None)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_commands_take_the_folder(
    others: dict[str, Path], corpus_folder: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(others["llama"])
    assert run(["evaluate", home, str(saved), "--corpus", str(corpus_folder), "--json"]) == 0
    captured = capsys.readouterr()
    assert "attention_mask" not in captured.err
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
