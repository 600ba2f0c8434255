"""Chat templates of pretrained models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from gguf_files import CHAT_TEMPLATE
from huggingface_folders import byte_pairs, llama_config, saved_model

from lmzoo import EOT, Predictor
from lmzoo.errors import ConfigurationError, SavedModelError, UsageError
from lmzoo.generation import Decoding
from lmzoo.models.pretrained import PretrainedLM
from lmzoo.models.pretrained_chat import ChatFormat, read_chat_format

START, END = 300, 301
"""Ids of <|im_start|> and <|im_end|>, as the pretrained model numbers them."""
QUESTION = [{"role": "user", "content": "The cat?"}]


def chat_tokenizer() -> tokenizers.Tokenizer:
    backend = byte_pairs(300)
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return backend


def chat_folder(folder: Path, template: str | None, **changes: Any) -> Path:
    ends = {"bos_token_id": START, "eos_token_id": END, "max_position_embeddings": 128}
    saved_model(folder, llama_config(vocab_size=302, **ends, **changes), chat_tokenizer())
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_folder(tmp_path_factory.mktemp("chat") / "small", CHAT_TEMPLATE)


def theirs(ids: np.ndarray) -> list[int]:
    """Converts ids of lmzoo to ids of the pretrained model."""
    swap = {EOT: END, END: EOT}
    return [swap.get(token_id, token_id) for token_id in ids.tolist()]


def test_a_conversation_is_written_with_the_template(home: Path) -> None:
    chat = read_chat_format(home)
    ids = chat.encode(QUESTION)
    text = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nThe cat?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert ids.dtype == np.int32
    assert theirs(ids) == chat_tokenizer().encode(text, add_special_tokens=False).ids
    assert theirs(ids).count(START) == 3
    assert np.count_nonzero(ids == EOT) == 2, "the end of a message is the end-of-text token of this model"
    ended = chat.encode([*QUESTION, {"role": "assistant", "content": "Sat."}], with_reply=False)
    assert theirs(ended)[: len(ids)] == theirs(ids)
    assert theirs(ended)[-2:] == [END, chat_tokenizer().encode("\n").ids[0]]
    assert chat.end_ids == {EOT}
    assert chat.context_length == 128


def test_the_end_of_a_reply_may_differ_from_the_end_of_text(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "other", CHAT_TEMPLATE)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"eos_token_id": [299, START]}
    path.write_text(json.dumps(config), encoding="utf-8")
    assert read_chat_format(folder).end_ids == {EOT, START, END}


def test_messages_cannot_write_control_tokens(home: Path) -> None:
    chat = read_chat_format(home)
    for message in ({"role": "user", "content": "a<|im_end|>"}, {"role": "<|endoftext|>", "content": "a"}):
        with pytest.raises(UsageError, match=r"which is a control token of the model: remove it$"):
            chat.encode([message])
    for message in ({"role": "user"}, {"role": "user", "content": 3}):
        with pytest.raises(UsageError, match="a message must have a text for 'role' and for 'content'"):
            chat.encode([message])  # type: ignore[list-item]


REFUSED = {
    "its own reason": ("{{ raise_exception('roles must alternate\nalways') }}", "roles must alternate$"),
    "Python": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "is unsafe"),
    "a change": ("{{ messages.append(1) }}", "is (not safely callable|unsafe)"),
    "damaged": ("{% for message in messages %}", "endfor"),
    "very long": ("{{ range(10**12) | list }}", "[Rr]ange too big"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_templates_that_fail(case: str, tmp_path: Path) -> None:
    template, reason = REFUSED[case]
    chat = read_chat_format(chat_folder(tmp_path / "home", template))
    with pytest.raises(UsageError, match=f"the chat template of the model refuses these messages: .*{reason}"):
        chat.encode(QUESTION)
    assert chat.end_ids == {EOT}


def test_models_without_a_usable_template(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no chat template, so it cannot hold a conversation"):
        read_chat_format(chat_folder(tmp_path / "plain", None))
    with pytest.raises(SavedModelError, match="has 262,145 characters, but at most 262,144 are allowed"):
        read_chat_format(chat_folder(tmp_path / "long", "a" * ((1 << 18) + 1)))


@torch.inference_mode()
def greedy(network: Any, ids: list[int], n_tokens: int) -> list[int]:
    """Returns the ids that transformers adds to a text if it always takes the most likely one."""
    for _ in range(n_tokens):
        ids = [*ids, int(network(torch.tensor([ids])).logits[0, -1].argmax())]
    return ids[-n_tokens:]


def test_a_reply_continues_the_whole_conversation(home: Path) -> None:
    predictor, chat = Predictor.load(home), read_chat_format(home)
    network = transformers.AutoModelForCausalLM.from_pretrained(home)
    messages = [*QUESTION, {"role": "assistant", "content": "Sat."}, {"role": "user", "content": "Where?"}]
    ids = chat.encode(messages)
    expected = greedy(network, theirs(ids), 5)
    assert END not in expected, "else this test shows less"
    decoding = Decoding(temperature=0.0)
    reply = [*chat.reply(model(predictor), messages, max_tokens=5, decoding=decoding)]
    assert theirs(np.array(reply)) == expected
    shorter = ChatFormat(frozenset({reply[3]}), chat.context_length, chat._tokenizer, chat._eot_id)
    until = reply.index(reply[3])
    assert [*shorter.reply(model(predictor), messages, max_tokens=5, decoding=decoding)] == reply[:until]
    sampled = [[*chat.reply(model(predictor), QUESTION, max_tokens=6, rng=seed)] for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


def model(predictor: Predictor) -> PretrainedLM:
    assert isinstance(predictor.model, PretrainedLM)
    return predictor.model


def test_conversation_and_reply_fit_in_the_context(home: Path) -> None:
    predictor, chat = Predictor.load(home), read_chat_format(home)
    endless = ChatFormat(frozenset(), chat.context_length, chat._tokenizer, chat._eot_id)
    n_ids = len(chat.encode(QUESTION))
    assert len([*endless.reply(model(predictor), QUESTION, rng=0)]) <= 128 - n_ids
    long = [{"role": "user", "content": "The cat sat. " * 30}]
    with pytest.raises(
        UsageError, match=r"tokens, but the model reads at most 128, and the reply needs some of them: leave out"
    ):
        chat.reply(model(predictor), long)


def test_the_sandbox_of_transformers_is_the_one_of_jinja() -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from transformers.utils import chat_template_utils

    assert chat_template_utils.ImmutableSandboxedEnvironment is ImmutableSandboxedEnvironment
