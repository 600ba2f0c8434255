"""The chat template: conversations as token ids, with weights that say which tokens a model has to learn.

A message is written as the token of its role, its text, and the token for its end:

    <|user|> last word of: light upon waters <|end|> <|assistant|> waters <|end|>

The tokens in angle brackets are special: no text is encoded as one of them, so nothing that a user types can be taken
for a message of somebody else. The text of a message is encoded with a space before it, so that its first word gets the
same token as within a sentence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lmzoo.chat.conversation import ROLES, Conversation
from lmzoo.errors import ConfigurationError
from lmzoo.stream import EOT
from lmzoo.tokenizers import Tokenizer

END = "<|end|>"
"""Name of the special token that ends a message."""
CHAT_TOKENS = (*(f"<|{role}|>" for role in ROLES), END)
"""Names of the special tokens of the chat template, in the order of their ids."""


class Rendered(NamedTuple):
    """A conversation as T token ids."""

    ids: NDArray[np.int32]
    """The token ids (T,)."""
    weights: NDArray[np.float32]
    """(T,): 1 for the tokens that the assistant has to produce, which are the text and the end of its messages; 0 for
    all others."""


def with_chat_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """Returns a tokenizer to which the special tokens of the chat template are added; earlier ids stay as they are."""
    missing = [name for name in CHAT_TOKENS if name not in tokenizer.special_tokens]
    return tokenizer.with_special_tokens(missing) if missing else tokenizer


def has_chat_tokens(tokenizer: Tokenizer) -> bool:
    """Returns True if a tokenizer has the special tokens of the chat template."""
    return all(name in tokenizer.special_tokens for name in CHAT_TOKENS)


def end_id(tokenizer: Tokenizer) -> int:
    """Returns the id of the token that ends a message.

    Raises ConfigurationError if the tokenizer has no chat tokens: its model was not trained on conversations.
    """
    if not has_chat_tokens(tokenizer):
        raise ConfigurationError(
            "this model cannot chat, because it was not trained on conversations: train a chat model with lmzoo align"
        )
    return tokenizer.special_tokens[END]


def render(conversation: Conversation, tokenizer: Tokenizer) -> Rendered:
    """Returns a conversation as token ids and weights; the tokenizer must have the chat tokens."""
    end = end_id(tokenizer)
    parts: list[NDArray[np.int32]] = []
    weights: list[NDArray[np.float32]] = []
    for message in conversation:
        text = encode_message(message.content, tokenizer)
        parts.append(np.array([tokenizer.special_tokens[f"<|{message.role}|>"], *text, end], np.int32))
        is_learned = np.full(len(text) + 2, message.role == "assistant", np.float32)
        is_learned[0] = 0.0  # the role is given, not produced
        weights.append(is_learned)
    return Rendered(np.concatenate(parts), np.concatenate(weights))


def render_prompt(conversation: Conversation, tokenizer: Tokenizer) -> NDArray[np.int32]:
    """Returns the token ids of a conversation to which the assistant is to reply; they end with `<|assistant|>`."""
    return np.append(render(conversation, tokenizer).ids, np.int32(tokenizer.special_tokens["<|assistant|>"]))


class RenderedReply(NamedTuple):
    """A prompt followed by a reply, as T token ids."""

    ids: NDArray[np.int32]
    """The token ids (T,)."""
    start: int
    """Position of the first token of the reply."""

    @property
    def reply(self) -> NDArray[np.int32]:
        """The token ids of the reply, including the token for its end."""
        return self.ids[self.start :]

    @property
    def weights(self) -> NDArray[np.float32]:
        """(T,): 1 for the tokens of the reply, 0 for the tokens of the prompt."""
        return (np.arange(len(self.ids)) >= self.start).astype(np.float32)


def render_reply(prompt: Conversation, reply: str, tokenizer: Tokenizer) -> RenderedReply:
    """Returns a prompt followed by a complete reply of the assistant, as token ids."""
    before = render_prompt(prompt, tokenizer)
    ids = np.append(encode_message(reply, tokenizer), np.int32(end_id(tokenizer)))
    return RenderedReply(np.concatenate([before, ids]), len(before))


def encode_message(text: str, tokenizer: Tokenizer) -> NDArray[np.int32]:
    """Returns the token ids of the text of a message, without the tokens for its role and its end."""
    return tokenizer.encode(f" {text}" if text else "")


def decode_message(ids: ArrayLike, tokenizer: Tokenizer) -> str:
    """Returns the text of a message from its token ids, up to the first token that ends a message or a document."""
    ids = np.asarray(ids)
    ends = np.flatnonzero(np.isin(ids, [EOT, end_id(tokenizer)]))
    return tokenizer.decode(ids[: ends[0]] if ends.size else ids).removeprefix(" ")


def shortened(conversation: Conversation, tokenizer: Tokenizer, n_tokens: int) -> tuple[Conversation, int]:
    """Shortens a conversation to at most `n_tokens` tokens by leaving out its earliest turns.

    A turn is a message of the user together with the reply to it. The system message and the last message are never
    left out, even if these two alone have more than `n_tokens` tokens. Returns the shortened conversation and the
    number of messages that were left out.
    """
    first = 1 if conversation[0].role == "system" else 0
    system, rest = conversation[:first], conversation[first:]
    sizes = [len(encode_message(message.content, tokenizer)) + 2 for message in conversation]
    turns = [index for index, message in enumerate(rest) if message.role == "user" or index == len(rest) - 1] or [0]
    room = n_tokens - sum(sizes[:first])
    start = next((start for start in turns if sum(sizes[first + start :]) <= room), turns[-1])
    return system + rest[start:], start
