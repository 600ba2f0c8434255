"""Models and tokenizers in folders of Hugging Face, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from sample_texts import small_texts
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from lmzoo import EOT

TEXTS = small_texts(10)


TEXT = "The cats that I saw were néar 川<|endoftext|>  ."


C = 16


SIZES: dict[str, Any] = {"d_model": 16, "n_layers": 2, "n_heads": 2, "window": C, "dropout": 0.2}


def stirred(network: torch.nn.Module) -> torch.nn.Module:
    """Adds noise to all weights and biases, so that every input and its position affects the logits."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def byte_pairs(vocab_size: int, ending: str = "<|endoftext|>") -> tokenizers.Tokenizer:
    """Returns a tokenizer like that of GPT-2, whose end-of-text token has the last id."""
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
    """Returns a tokenizer like that of Llama: <unk> 0, <s> 1, </s> 2, bytes for unknown characters, ▁ for spaces."""
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
    """Returns a tokenizer like that of GPT-NeoX: end of text has id 0, and runs of spaces are added tokens."""
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


@torch.inference_mode()
def theirs(folder: Path, ids: list[int]) -> np.ndarray:
    """Returns the log-probabilities (T, V) that transformers predicts after each of T ids, for V token ids."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return network(torch.tensor([ids])).logits[0].double().log_softmax(-1).numpy()


def swapped(log_probs: np.ndarray, eot_id: int) -> np.ndarray:
    """Exchanges the columns of EOT and `eot_id`: converts from ids of transformers to ids of lmzoo, or back."""
    order = np.arange(log_probs.shape[-1])
    order[[EOT, eot_id]] = order[[eot_id, EOT]]
    return log_probs[..., order]


def changed(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
