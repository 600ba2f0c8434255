"""Replies of a chat model to prompts, sampled in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmzoo.chat.conversation import Conversation
from lmzoo.chat.template import decode_message, end_id, render_prompt
from lmzoo.generation import Decoding, generate_batch
from lmzoo.language_model import LanguageModel
from lmzoo.stream import EOT
from lmzoo.tokenizers import Tokenizer

GREEDY = Decoding(temperature=0)
"""Always takes the most likely token."""
_AT_A_TIME = 256
"""Number of replies that are sampled together."""


class Reply(NamedTuple):
    """A sampled reply of the assistant."""

    ids: NDArray[np.int32]
    """Token ids of the reply, including the token that ends it if the model ended it."""
    text: str
    """Text of the reply."""
    ended: bool
    """True if the model ended the reply itself; False if it was cut off at the largest number of tokens."""
    log_prob: float
    """Log-probability of the whole reply under the model, in nats."""


def sample_replies(
    model: LanguageModel[Any],
    tokenizer: Tokenizer,
    prompts: Sequence[Conversation],
    *,
    rng: np.random.Generator,
    decoding: Decoding | None = None,
    max_tokens: int,
) -> list[Reply]:
    """Returns one sampled reply to each prompt, of at most `max_tokens` tokens.

    `tokenizer` is the one with which the model was trained, including the tokens of the chat template. `decoding` says
    how the next token is chosen; None means that it is sampled from the unchanged distribution. Raises
    ConfigurationError if `tokenizer` has no chat tokens.
    """
    end = end_id(tokenizer)
    replies: list[Reply] = []
    for start in range(0, len(prompts), _AT_A_TIME):
        ids = [render_prompt(prompt, tokenizer) for prompt in prompts[start : start + _AT_A_TIME]]
        for tokens in generate_batch(model, ids, rng=rng, decoding=decoding, max_tokens=max_tokens, end_ids=(EOT, end)):
            sampled = np.array([token.token_id for token in tokens], np.int32)
            ended = bool(len(sampled)) and int(sampled[-1]) in (EOT, end)
            text = decode_message(sampled, tokenizer)
            replies.append(Reply(sampled, text, ended, sum(token.log_prob for token in tokens)))
    return replies
