"""Tokens as the pages show them: on one line, with visible white space, and half characters as hexadecimal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from pydantic import BaseModel

from lmzoo.models.hidden_states import HasHiddenStates
from lmzoo.stream import EOT
from lmzoo.streaming import PieceDecoder, drops_first_space
from lmzoo.tokenizers import Tokenizer, visible

_MEMORY = 4
"""Number of tokens before a token that can influence its text, such as the bytes before the end of a character."""

_REMEMBERED = 1 << 14
"""Number of tokens whose texts are kept, as the same ones are asked for again and again while a prompt is typed."""


class ShownToken(BaseModel):
    """One token of a vocabulary, for display."""

    id: int
    text: str
    """Text on one line: white space and control characters are replaced by visible signs."""
    hex: bool = False
    """True if the bytes of the token are no whole characters; `text` then holds these bytes in hexadecimal."""


@lru_cache(_REMEMBERED)
def shown_token(tokenizer: Tokenizer, token_id: int) -> ShownToken:
    """Returns a token of a tokenizer for display."""
    try:
        tokenizer.token_bytes(token_id).decode()
    except UnicodeDecodeError:
        return ShownToken(id=token_id, text=tokenizer.token_bytes(token_id).hex(" "), hex=True)
    return ShownToken(id=token_id, text=visible(tokenizer.token_text(token_id)))


def added_text(tokenizer: Tokenizer, prompt: str, ids: Sequence[int], token_id: int) -> str | None:
    """Returns the text that continues a prompt by one token; None if the token is no text or half a character.

    `ids` are the token ids of the prompt.
    """
    if token_id == EOT:
        return None
    return _added_text(tokenizer, prompt[-1:].isspace(), tuple(ids[-_MEMORY:]), token_id)


@lru_cache(_REMEMBERED)
def _added_text(tokenizer: Tokenizer, after_space: bool, before: tuple[int, ...], token_id: int) -> str | None:
    """Returns the text that a token adds after the ids `before`; models with one tokenizer often ask for the same."""
    drops_space = after_space and drops_first_space(tokenizer, " ", before)
    text = "".join(PieceDecoder(tokenizer, before, drop_first_space=drops_space).pieces([token_id]))
    return None if not text or "\ufffd" in text else text


def typical_texts(tokenizer: Tokenizer, model: HasHiddenStates, hidden_state: int, k: int) -> list[str]:
    """Returns the texts of the `k` tokens that a hidden state emits most often, for display."""
    return [shown_token(tokenizer, token_id).text for token_id, _ in model.typical_tokens(hidden_state, k)]
