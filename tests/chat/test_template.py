"""Conversations as token ids and weights, compared token by token with what is written here by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lmzoo.chat.conversation import Conversation, Message, assistant, user
from lmzoo.chat.template import (
    CHAT_TOKENS,
    decode_message,
    encode_message,
    render,
    render_prompt,
    shortened,
    with_chat_tokens,
)
from lmzoo.errors import ConfigurationError
from lmzoo.stream import EOT
from lmzoo.tokenizers import train_tokenizer

BYTES = with_chat_tokens(train_tokenizer("byte", ["any text"]))
SYSTEM, USER, ASSISTANT, END = (257 + index for index in range(4))  # after EOT and the 256 bytes


def _bytes(text: str) -> list[int]:
    return [value + 1 for value in text.encode()]  # byte b has the id b + 1


CONVERSATIONS: dict[str, tuple[Conversation, list[int], list[int]]] = {
    "a reply of one token": (
        (user("hi"), assistant("")),
        [USER, *_bytes(" hi"), END, ASSISTANT, END],
        [0, 0, 0, 0, 0, 0, 1],
    ),
    "a system message and a reply": (
        (Message("system", "be kind"), user("hi"), assistant("hi")),
        [SYSTEM, *_bytes(" be kind"), END, USER, *_bytes(" hi"), END, ASSISTANT, *_bytes(" hi"), END],
        [0] * 10 + [0] * 5 + [0, 1, 1, 1, 1],
    ),
    "an empty message of the user": (
        (user(""), assistant("yes")),
        [USER, END, ASSISTANT, *_bytes(" yes"), END],
        [0, 0, 0, 1, 1, 1, 1, 1],
    ),
    "a message that spells special tokens": (
        (user("<|end|><|assistant|>"), assistant("no")),
        [USER, *_bytes(" <|end|><|assistant|>"), END, ASSISTANT, *_bytes(" no"), END],
        [0] * 23 + [0, 1, 1, 1, 1],
    ),
    "two turns": (
        (user("a"), assistant("b"), user("c"), assistant("d")),
        [USER, 33, 98, END, ASSISTANT, 33, 99, END, USER, 33, 100, END, ASSISTANT, 33, 101, END],  # " a" is 33, 98
        [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1],
    ),
    "longer than any window here": (
        (user("x" * 300), assistant("é")),
        [USER, *_bytes(" " + "x" * 300), END, ASSISTANT, *_bytes(" é"), END],
        [0] * 303 + [0, 1, 1, 1, 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_ids_and_weights_are_those_written_by_hand(name: str) -> None:
    conversation, ids, weights = CONVERSATIONS[name]
    rendered = render(conversation, BYTES)
    assert rendered.ids.tolist() == ids
    assert rendered.weights.tolist() == weights


def test_a_prompt_ends_where_the_assistant_begins() -> None:
    assert render_prompt((user("a"),), BYTES).tolist() == [USER, *_bytes(" a"), END, ASSISTANT]


@pytest.mark.parametrize("spec", ["byte", "char", "bpe:300"])
def test_chat_tokens_come_after_all_others_and_no_text_gives_them(spec: str) -> None:
    tokenizer = train_tokenizer(spec, ["the light upon the waters, and the light"])
    chat = with_chat_tokens(tokenizer)
    assert [chat.special_tokens[name] for name in CHAT_TOKENS] == list(
        range(tokenizer.vocab_size, tokenizer.vocab_size + 4)
    )
    text = "the light <|end|><|user|> upon <|end of text|>"
    assert chat.encode(text).tolist() == tokenizer.encode(text).tolist()
    assert with_chat_tokens(chat) is chat


@pytest.mark.parametrize("text", ["", "light", " light", "  two spaces", "a\nb", "<|end|>", "é\u0301"])
def test_a_message_comes_back_from_its_ids(text: str) -> None:
    ids = encode_message(text, BYTES)
    assert decode_message([*ids, END, 5], BYTES) == text
    assert decode_message([*ids, EOT, 5], BYTES) == text
    assert decode_message(ids, BYTES) == text


def test_a_tokenizer_without_chat_tokens_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="lmzoo align"):
        render((user("a"),), train_tokenizer("byte", ["a"]))


def test_a_long_conversation_loses_whole_turns_and_keeps_the_system_message() -> None:
    conversation = (
        Message("system", "s"), user("a"), assistant("b"), user("c"), assistant("d"), user("e")
    )  # fmt: skip
    size = len(render(conversation, BYTES).ids)
    assert size == 6 * 4  # role, space, letter, end
    assert shortened(conversation, BYTES, size) == (conversation, 0)
    assert shortened(conversation, BYTES, size - 1) == ((conversation[0], *conversation[3:]), 2)
    assert shortened(conversation, BYTES, 8) == ((conversation[0], conversation[5]), 4)
    assert shortened(conversation, BYTES, 1) == ((conversation[0], conversation[5]), 4)  # the last message stays


def test_weights_mark_exactly_what_the_assistant_writes() -> None:
    conversation = (user("ask"), assistant("one two"), user("more"), assistant("three"))
    ids, weights = render(conversation, BYTES)
    learned = [BYTES.token_text(int(token_id)) for token_id in ids[weights > 0]]
    assert "".join(learned) == " one two<|end|> three<|end|>"
    assert weights.dtype == np.float32
