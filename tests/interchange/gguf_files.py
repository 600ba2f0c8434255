"""Small GGUF files with random weights, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_folders import C, byte_pairs, stirred

N_IDS, WIDTH, N_HEADS, N_KEY_HEADS = 300, 32, 2, 1
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The chat template of SmolLM2-Instruct."""


def small_llama() -> transformers.LlamaForCausalLM:
    """Returns a Llama network with random weights and 300 ids, of which the last one starts and ends texts."""
    config = transformers.LlamaConfig(
        vocab_size=N_IDS, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=N_HEADS,
        num_key_value_heads=N_KEY_HEADS, bos_token_id=N_IDS - 1, eos_token_id=N_IDS - 1, max_position_embeddings=C,
        initializer_range=0.3, rms_norm_eps=1e-5,
    )  # fmt: skip
    torch.manual_seed(0)
    network = stirred(transformers.LlamaForCausalLM(config))
    assert isinstance(network, transformers.LlamaForCausalLM)
    return network


def write_gguf(
    path: Path,
    network: transformers.LlamaForCausalLM,
    *,
    quantized: bool = False,
    change: Callable[[dict[str, np.ndarray]], Any] = lambda tensors: None,
    **entries: int,
) -> Path:
    """Writes a Llama network and a byte-pair tokenizer to a GGUF file, as the converter of llama.cpp does.

    With `quantized`, matrices have 8 bits per weight. `change` may change the tensors, and `entries` are metadata of
    the architecture that replace those of the network.
    """
    import gguf

    config, tokenizer = network.config, json.loads(byte_pairs(N_IDS).to_str())
    vocab = {**tokenizer["model"]["vocab"], tokenizer["added_tokens"][0]["content"]: N_IDS - 1}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("a small model")
    numbers = {
        "context_length": C, "embedding_length": WIDTH, "block_count": 2, "feed_forward_length": 64,
        "attention.head_count": N_HEADS, "attention.head_count_kv": N_KEY_HEADS,
        "rope.dimension_count": WIDTH // N_HEADS, "vocab_size": N_IDS,
    }  # fmt: skip
    for name, number in (numbers | entries).items():
        writer.add_uint32(f"llama.{name}", number)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32("llama.rope.freq_base", config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocab, key=vocab.__getitem__))
    writer.add_token_types([gguf.TokenType.NORMAL] * (N_IDS - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(N_IDS - 1)
    writer.add_eos_token_id(N_IDS - 1)
    writer.add_chat_template(CHAT_TEMPLATE)
    tensors = _tensors(network)
    change(tensors)
    for name, tensor in tensors.items():
        if quantized and tensor.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(network: transformers.LlamaForCausalLM) -> dict[str, np.ndarray]:
    """Returns the weights of a Llama network by their names in GGUF files."""
    weights = {name: tensor.detach().numpy() for name, tensor in network.named_parameters()}
    tensors = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output_norm.weight": weights["model.norm.weight"],
        "output.weight": weights["lm_head.weight"],
    }
    parts = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    for layer in range(2):
        theirs, ours = f"model.layers.{layer}", f"blk.{layer}"
        tensors |= {f"{ours}.{new}.weight": weights[f"{theirs}.{old}.weight"] for new, old in parts.items()}
        for name, n_heads in (("q", N_HEADS), ("k", N_KEY_HEADS)):
            tensors[f"{ours}.attn_{name}.weight"] = _interleaved(
                weights[f"{theirs}.self_attn.{name}_proj.weight"], n_heads
            )
    return tensors


def _interleaved(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Orders the rows of a query or key matrix as GGUF files do: the two parts of each rotated pair are adjacent."""
    halves = weight.reshape(n_heads, 2, weight.shape[0] // n_heads // 2, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
