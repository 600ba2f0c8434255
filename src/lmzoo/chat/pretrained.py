"""Conversations with a pretrained chat model, which has a template of its own (see `lmzoo.models.pretrained_chat`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from lmzoo.chat.conversation import Conversation, as_json
from lmzoo.generation import Decoding
from lmzoo.models.pretrained import PretrainedLM, PretrainedState
from lmzoo.models.pretrained_chat import ChatFormat, read_chat_format
from lmzoo.predictor import Predictor
from lmzoo.streaming import PieceDecoder
from lmzoo.tokenizers import Tokenizer


class PretrainedChat:
    """A pretrained chat model with its chat format and its tokenizer, as `lmzoo.chat.session.ChatSession` needs it."""

    def __init__(self, model: PretrainedLM, tokenizer: Tokenizer, chat_format: ChatFormat) -> None:
        self._model, self._tokenizer, self._format = model, tokenizer, chat_format

    @property
    def context_size(self) -> int | None:
        """Largest number of tokens of conversation and reply together that the model reads."""
        return self._format.context_length

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids of the tokens that end a reply."""
        return self._format.end_ids

    def prompt_ids(self, conversation: Conversation) -> NDArray[np.int32]:
        """Returns the token ids (T,) of a conversation, up to the start of the reply that the model is to write.

        Raises UsageError for a conversation that the template of the model refuses.
        """
        return self._format.encode(as_json(conversation))

    def state_after(self, prompt_ids: NDArray[np.int32]) -> PretrainedState:
        """Returns the state of the language model after it has read the token ids (T,) of a conversation."""
        return self._model.state_after_conversation(prompt_ids)

    def shortened(self, conversation: Conversation, n_tokens: int) -> tuple[Conversation, int]:
        """Leaves out the earliest turns of a conversation with more than `n_tokens` `prompt_ids`.

        The system message and the last message are never left out. Returns the shortened conversation and the number of
        messages that were left out.
        """
        first = 1 if conversation[0].role == "system" else 0
        system, rest = conversation[:first], conversation[first:]
        starts = [index for index, message in enumerate(rest) if message.role == "user"] or [0]
        for start in starts:
            if len(self.prompt_ids(system + rest[start:])) <= n_tokens:
                return system + rest[start:], start
        return system + rest[starts[-1] :], starts[-1]

    def sample(
        self, prompt_ids: NDArray[np.int32], *, rng: np.random.Generator, decoding: Decoding, max_tokens: int
    ) -> Iterator[int]:
        """Samples a reply, and yields its token ids, without the id that ends it.

        Raises UsageError if the prompt leaves no room for a reply in the context.
        """
        return self._format.sample(self._model, prompt_ids, rng=rng, decoding=decoding, max_tokens=max_tokens)

    def decode(self, token_ids: Iterable[int]) -> Iterator[str]:
        """Yields the text of a reply in pieces of whole characters, while its token ids arrive."""
        return self.decoder().pieces(token_ids)

    def decoder(self) -> PieceDecoder:
        """Returns a decoder for the token ids of one reply."""
        return PieceDecoder(self._tokenizer)


def read_chat(predictor: Predictor) -> PretrainedChat:
    """Returns the chat model of a predictor that was read from a pretrained model, with the template of this model.

    Raises ConfigurationError if the pretrained model has no chat template.
    """
    assert isinstance(predictor.model, PretrainedLM)
    return PretrainedChat(predictor.model, predictor.tokenizer, read_chat_format(predictor.settings["path"]))
